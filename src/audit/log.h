// The audit log of one node: records are appended, made durable by a thread of its own - many with one fdatasync - and
// never changed. One folder per log: `log` (the frames, see audit/entry.h), `tree` (hashes, see audit/merkle.h),
// `checkpoint` (a recent one, by itself, so that a log that became shorter is noticed), `key`. docs/audit-format.md.
//
// Nothing is retried: after the first write or fdatasync that fails the log has failed for ever, every append with it.
// Threads: those that say nothing, one thread, the "loop"; what calls back does so there.
#pragma once

#include "audit/entry.h"
#include "audit/io.h"
#include "audit/note.h"
#include <jansson.h>

struct audit;

enum {
    AUDIT_QUEUE = 16384,           // records that wait to be durable
    AUDIT_QUEUE_BYTES = 32 << 20,  // and their bytes; beyond it, ERR_BUSY. A quarter of both is left to what is
                                   // owed: outcomes and reservations of requests that have begun
    AUDIT_BATCH_BYTES = 4 << 20,   // that one fdatasync makes durable, about
    AUDIT_UNANSWERED = 8192,       // intents without an outcome
    AUDIT_PUBLISH_IDLE_MS = 1000,  // after which of rest the file `checkpoint` is written
    AUDIT_PUBLISH_BUSY_MS = 10000, // and how often where there is none
};

struct audit_spec {
    const char *dir;    // exists
    const char *origin; // of the log, and its key's name; copied
    EVP_PKEY *key;      // signs checkpoints; borrowed as long as the log
    struct audit_io io; // audit_files
};

// What opening has found.
struct audit_found {
    uint64_t records;    // that were there
    uint64_t torn_bytes; // that a crash had left behind the last checkpoint, and that were cut off
    uint64_t aborted;    // intents without an outcome, which have got one that says so
};

// Opens a log, or begins one. What a crash has left behind the last checkpoint was never promised to anybody: it is cut
// off, and a `recover` record says so. Any other damage refuses the whole (ERR_INVALID: file and record). Intents
// without an outcome get one, {"finish":"abort","error":{"code":"recover"}}. Blocks, reads all of the log.
struct audit *audit_open(const struct audit_spec *spec, struct audit_found *found, struct err *e) MUST_USE;
// Makes durable what waits, and calls back for it. NULL is fine.
void audit_close(struct audit *a);

// Called once per record that was accepted: it is durable (why = NULL), or never will be known to be.
// `f` is the record as it stands in the log, borrowed.
typedef void audit_done(void *arg, uint64_t seq, const struct entry *f, const struct err *why);

// `body` is an object with at least one member; borrowed. `intent`: the record that this one belongs to, or
// RECORD_ALONE. *seq (may be NULL): its number. ERR_LIMIT: longer than ENTRY_MAX; ERR_BUSY: too many wait; ERR_IO: the
// log has failed, and the message names the file. done may be NULL. Never blocks.
int audit_append(struct audit *a, enum entry_type type, uint64_t intent, const json_t *body, audit_done *done,
                 void *arg, uint64_t *seq, struct err *e) MUST_USE;

int audit_fd(const struct audit *a);               // readable while callbacks are due
void audit_dispatch(struct audit *a);              // makes them
bool audit_failed(struct audit *a, struct err *e); // and why
bool audit_at_rest(struct audit *a);               // nothing is written to its files until the next audit_append
// The latest durable checkpoint: its size, and - where note is not NULL - its text of *n bytes. Any thread.
uint64_t audit_head(struct audit *a, char note[NOTE_BYTES], size_t *n);
const char *audit_dir(const struct audit *a);
const char *audit_origin(const struct audit *a);
// The proof that a durable record is under a durable checkpoint, size, from audit_head.
int audit_prove(struct audit *a, uint64_t index, uint64_t size, struct hash path[MERKLE_LEVELS], int *n,
                struct err *e) MUST_USE;
// The root of the first `size` records, and the proof that those of audit_head begin with them.
int audit_prove_growth(struct audit *a, uint64_t size, uint64_t head, struct hash *root,
                       struct hash path[MERKLE_LEVELS], int *n, struct err *e) MUST_USE;

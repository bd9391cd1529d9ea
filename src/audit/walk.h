// Reads the file of an audit log from its beginning, frame by frame, as a stream. A walk that has a key also checks all
// of it: that records are numbered without a gap, that each checkpoint is signed and has the hash of what stands before
// it. Threads: one at a time.
#pragma once

#include "audit/entry.h"
#include "audit/io.h"
#include "audit/note.h"
#include "base/paths.h"

#define AUDIT_LOG        "log"
#define AUDIT_TREE       "tree"
#define AUDIT_CHECKPOINT "checkpoint"
#define AUDIT_KEY        "key"
#define AUDIT_ROSTER     "roster"
#define AUDIT_WITNESSES  "witnesses"

struct walk {
    const struct audit_io *io;
    char path[PATH_SIZE];
    int file;
    uint64_t size, at; // bytes of the file; where the next frame begins
    uint8_t *room;     // owned
    size_t first, have;
    bool torn;                  // the latest step failed because the file ends within a frame
    struct entry frame;         // the latest; its data is borrowed until the next step
    uint64_t frame_at;          // where it begins
    struct record_begin record; // of it, unless it is a checkpoint
    // what is checked
    const struct note_key *key;      // NULL: only the frames are
    struct merkle tree, signed_tree; // of all records; of those that the latest checkpoint covers (no sha)
    uint64_t signed_at;              // where that checkpoint ends
    struct hash done[MERKLE_LEVELS]; // what the latest record has completed
    int n_done;
    char note[NOTE_BYTES]; // that checkpoint
    size_t note_len;
};

// `dir` is a log's folder. key is borrowed.
int walk_open(struct walk *w, const struct audit_io *io, const char *dir, const struct note_key *key,
              struct err *e) MUST_USE;
void walk_close(struct walk *w); // fine for a zeroed one
// 1: a frame; 0: the end; -1: damage, which *e names with file, record and byte.
int walk_next(struct walk *w, struct err *e) MUST_USE;
bool walk_is_record(const struct walk *w); // the latest frame is no checkpoint

// ---- of a file that grows and is cut while it is walked, as a mirror's (audit/mirror.h) is
struct walk_mark { // a checkpoint's end
    uint64_t at;
    struct merkle tree; // no sha
};
struct walk_mark walk_mark(const struct walk *w); // of the latest checkpoint; of the beginning where there is none
void walk_return(struct walk *w, const struct walk_mark *to); // there, as if the file ended there
// The file has `size` bytes now, and what stands behind w->at may be others than before. Fails when out of memory.
int walk_grown(struct walk *w, uint64_t size, struct err *e) MUST_USE;
void walk_rest(struct walk *w); // gives its memory back until the file has grown

// Whether a log, or a receipt, is what its node has signed: offline, from files alone. docs/audit-format.md says what
// is checked. Threads: any; these calls block.
#pragma once

#include "audit/entry.h"
#include "audit/io.h"
#include "audit/note.h"
#include <jansson.h>

struct verified {
    struct note_key key; // that has signed; its name is the log's origin
    bool vouched;        // by the cluster's root
    uint64_t records, checkpoints;
    // of a log: what witnesses have counter-signed; with a root, those count that its roster knows
    uint64_t witnessed; // records
    size_t witnesses;
    uint64_t held;     // records that the note kept elsewhere is of; 0: none was given
    int64_t tail_wall; // when the first record behind them was written, nanoseconds since 1970; 0: there is none
};

// `held`, which may be NULL: the file of a checkpoint of this log that was kept elsewhere, so that records which were
// cut off its end are missed whatever stands beside it. `root` may be NULL: nobody vouches for the key then. On failure
// *e names file and record.
int verify_log(const struct audit_io *io, const char *dir, const char *held, const uint8_t *root, struct verified *out,
               struct err *e) MUST_USE;
// Whether a log begins with the records of a checkpoint, whose signature is not looked at. *has: as many of them are
// there, also on failure.
int verify_begins(const struct audit_io *io, const char *dir, const struct checkpoint *c, uint64_t *has,
                  struct err *e) MUST_USE;
// For what carries its roster with it: fails where a root is given and the roster does not vouch for out->key.
int verify_vouched(const json_t *roster, const uint8_t *root, struct verified *out, struct err *e) MUST_USE;
int verify_key(const struct audit_io *io, const char *dir, struct note_key *out, struct err *e) MUST_USE; // reads it
json_t *verify_roster(const struct audit_io *io, const char *dir, struct err *e); // reads it; a new reference

// A receipt: what stands at `index` of a log.
struct receipt {
    uint64_t index;
    enum entry_type type;
    const char *text; // the record; borrowed
    size_t n;
    struct hash path[MERKLE_LEVELS];
    int n_path;
    const char *note; // the checkpoint; borrowed
    size_t note_len;
    const struct note_key *key;
    const json_t *roster; // NULL: none; borrowed
};
json_t *receipt_json(const struct receipt *r); // a new reference; NULL when out of memory
// *record (a new reference) is what it says, also where it does not hold.
int receipt_verify(const json_t *receipt, const uint8_t *root, struct verified *out, json_t **record,
                   struct err *e) MUST_USE;

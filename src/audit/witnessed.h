// What witnesses have counter-signed of a log: the file `witnesses` beside it, a checkpoint of the log per witness with
// that witness's cosignature. docs/audit-format.md. Pure. Threads: any.
#pragma once

#include "audit/io.h"
#include "audit/note.h"
#include <jansson.h>

enum { WITNESSES = 64, WITNESSES_FILE = WITNESSES * (NOTE_BYTES + NOTE_VKEY) * 2 };

struct witnessed {
    struct note_key key; // the witness's; its name is CLUSTER/NODE
    struct checkpoint head;
    uint64_t when; // seconds since 1970
    size_t n;
    char note[NOTE_BYTES];
};

// A note that the log and a witness have signed. ERR_INVALID where either has not.
int witnessed_read(const char *note, size_t n, const struct note_key *log, const struct note_key *witness,
                   struct witnessed *out, struct err *e) MUST_USE;
int witnessed_add_json(json_t *list, const struct witnessed *w); // -1: out of memory
// Those of the file in a log's folder: *list of *n (free it), NULL where there is no file. The cosigners' keys are
// those that the file names.
int witnessed_load(const struct audit_io *io, const char *dir, const struct note_key *log, struct witnessed **list,
                   size_t *n, struct err *e) MUST_USE;
// The node in CLUSTER/NODE or CLUSTER/NODE/INCARNATION. false: there is none.
bool witnessed_node(const char *name, char node[33]);

// Proofs as JSON, and what a witness of a log concludes from one. Pure. Threads: any.
#pragma once

#include "audit/note.h"
#include <jansson.h>

// Hashes as a list of base64 strings. A new reference; NULL when out of memory.
json_t *proof_json(const struct hash *path, int n);
int proof_read(const json_t *list, struct hash path[MERKLE_LEVELS], int *n, struct err *e) MUST_USE;

// What a log says of its growth: its first `size` records have this root, and the proof that its head begins with them.
struct growth {
    uint64_t size;
    struct hash root;
    struct hash path[MERKLE_LEVELS];
    int n;
};
json_t *growth_json(const struct growth *g);                                  // {"size","root","proof"}
int growth_read(const json_t *o, struct growth *out, struct err *e) MUST_USE; // any JSON value

// What a witness, who holds `held` (NULL: nothing yet), makes of a head that the log has signed.
enum verdict {
    VERDICT_GROWN,  // it begins with what is held: to be cosigned
    VERDICT_OTHER,  // it is proven from another size than the one that is held: to be asked for again
    VERDICT_SHRUNK, // it is smaller: that log has lost records, or hides them
    VERDICT_FORKED, // it begins with other records, which it has signed as well: that is proven
    VERDICT_FALSE,  // the proof proves nothing
};
enum verdict growth_judge(const struct checkpoint *held, const struct checkpoint *head, const struct growth *g);

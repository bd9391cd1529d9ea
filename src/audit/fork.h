// The proof that a log has forked, to be shown to anybody: two checkpoints that its key has signed, and the proof that
// the larger one begins with other records than those of the smaller one. And the opposite, the proof of growth: the
// larger one begins with just those. docs/audit-format.md. Pure. Threads: any.
#pragma once

#include "audit/proof.h"
#include "audit/verify.h"

struct fork {
    const char *held, *head; // notes; held is not larger. Borrowed
    size_t held_len, head_len;
    const struct growth *growth; // from held's size on
    const struct note_key *key;
    const json_t *roster; // NULL: none; borrowed
};
json_t *fork_json(const struct fork *f);    // a new reference; NULL when out of memory
json_t *growth_proof(const struct fork *f); // the same

// 0: the log out->key.name has forked, and its first *parted records are the last that both histories might share.
// `root`: as in verify_log.
int fork_verify(const json_t *proof, const uint8_t *root, struct verified *out, uint64_t *parted,
                struct err *e) MUST_USE;
// 0: the first *from records of the log out->key.name are the first ones of out->records, too; *from > 0.
int growth_verify(const json_t *proof, const uint8_t *root, struct verified *out, uint64_t *from,
                  struct err *e) MUST_USE;

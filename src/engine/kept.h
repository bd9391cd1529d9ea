// What a worker keeps of sequences that have ended, in a few hashes: enough to know, elsewhere, how much of a prompt
// need not be computed there. A mark says that the rows of some first tokens are kept. Of each sequence there is one at
// its end, which is where the next turn of a conversation goes on, and one every KEPT_BLOCK tokens (twice as many where
// that were more than KEPT_EACH marks, and so on), where another conversation with the same beginning leaves it. Pure.
// Threads: any.
//
// A hash is no secret: whoever sees it can tell whether a text that it guesses as a whole is kept.
#pragma once

#include "base/err.h"
#include <jansson.h>
#include <stdint.h>

enum {
    KEPT_MARKS = 128, // at most; those of the latest sequences
    KEPT_EACH = 16,   // of a sequence
    KEPT_BLOCK = 64,  // tokens
};

struct kept_marks {
    int32_t n;
    struct kept_mark {
        int32_t tokens; // how many, at least 1
        uint64_t hash;  // of all of them
    } list[KEPT_MARKS];
};

// out[i]: the hash of the first i + 1 tokens.
void kept_hashes(const int32_t *tokens, int32_t n, uint64_t *out);

// Adds the marks of a sequence whose first n tokens have these hashes; as many as there is room for, the end's first.
void kept_add(struct kept_marks *m, const uint64_t *hashes, int32_t n);

// How many of the first tokens with these hashes are kept, as far as marks say: 0 or one mark's.
int32_t kept_shared(const struct kept_marks *m, const uint64_t *hashes, int32_t n);

json_t *kept_encode(const struct kept_marks *m); // [[tokens, hash], ...]
// `list` may be NULL: none. ERR_INVALID where it is no such list, or a mark is absurd; what is beyond KEPT_MARKS is
// left out.
int kept_decode(const json_t *list, struct kept_marks *m, struct err *e) MUST_USE;

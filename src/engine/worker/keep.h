// Sequences that have ended and whose rows are still in the KV cache, for the next turn of a conversation: which there
// are, which begins as a new one does, and which goes first. Pure, no llama.h. Changed by the compute thread only.
//
// What is computed from kept rows is what would be computed without them, up to rounding: the tokens that are left
// stand in other batches than a whole prompt's would, and libllama's sums are not the same to the bit in each. A model
// without a clear favourite (random weights) may then choose another token; `keep = 0` is for comparing such. Rows that
// came from another node with a coarser wire type, and those after them, are marked: requests that want exact rows get
// none.
//
// Every step looks at the kept cells, too: a CPU at their masks, a GPU reads them. So only so many are kept that their
// K/V bytes are `keep` percent of the weights' bytes, which each step reads as well: they cost a generated token no
// more than that of its time. The latest one always is.
#pragma once

#include "base/limits.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    KEEP_LEAST = 16, // tokens that a kept sequence must share with a new one; shorter ones are not kept
    KEEP_LOSS = 64,  // more kept tokens than this are not cut off for a new sequence that shares less, if avoidable
};

struct kept {
    int32_t slot;    // libllama's sequence id
    int32_t n;       // rows
    int32_t exact;   // of these, the first ones that no coarser wire type had a part in; n or more: all
    int32_t *tokens; // n of them; owned
};

struct keeper {
    struct kept list[LIMIT_PARALLEL]; // the one used longest ago is first
    int32_t n;
};

void keeper_close(struct keeper *k); // frees the tokens

// How many tokens two begin with in common.
int32_t keep_shared(const int32_t *a, int32_t n_a, const int32_t *b, int32_t n_b);

// The kept one that shares most with these tokens, the latest of such; -1 where none shares KEEP_LEAST. exact: only
// rows count that are.
int32_t keeper_best(const struct keeper *k, const int32_t *tokens, int32_t n, bool exact, int32_t *shared);

// Takes tokens (malloc'd) over. Ones that hold nothing more than another one, nor more exactly, are not kept twice:
// returns the slot that is free now, which may be the given one, or -1.
int32_t keeper_add(struct keeper *k, int32_t slot, int32_t *tokens, int32_t n, int32_t exact);

// How many cells may be kept beside the latest sequence's.
int64_t keep_most(int64_t percent, int64_t model_bytes, int64_t kv_bytes_per_token);

int32_t keeper_take(struct keeper *k, int32_t i); // forgets it and returns its slot
void keeper_touch(struct keeper *k, int32_t i);   // it was used just now
int64_t keeper_cells(const struct keeper *k);

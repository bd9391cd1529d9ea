#include "engine/worker/keep.h"

#include <stdlib.h>
#include <string.h>

void keeper_close(struct keeper *k) {
    while (k->n) keeper_take(k, k->n - 1);
}

int32_t keep_shared(const int32_t *a, int32_t n_a, const int32_t *b, int32_t n_b) {
    int32_t i = 0;
    while (i < n_a && i < n_b && a[i] == b[i]) i++;
    return i;
}

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

int32_t keeper_best(const struct keeper *k, const int32_t *tokens, int32_t n, bool exact, int32_t *shared) {
    int32_t best = -1;
    *shared = KEEP_LEAST;
    for (int32_t i = 0; i < k->n; i++) {
        const struct kept *one = &k->list[i];
        int32_t same = keep_shared(one->tokens, exact ? least(one->n, one->exact) : one->n, tokens, n);
        if (same < *shared) continue;
        *shared = same;
        best = i;
    }
    if (best < 0) *shared = 0;
    return best;
}

int32_t keeper_take(struct keeper *k, int32_t i) {
    int32_t slot = k->list[i].slot;
    free(k->list[i].tokens);
    k->n--;
    memmove(&k->list[i], &k->list[i + 1], (size_t)(k->n - i) * sizeof *k->list);
    return slot;
}

void keeper_touch(struct keeper *k, int32_t i) {
    struct kept one = k->list[i];
    memmove(&k->list[i], &k->list[i + 1], (size_t)(k->n - 1 - i) * sizeof *k->list);
    k->list[k->n - 1] = one;
}

int32_t keeper_add(struct keeper *k, int32_t slot, int32_t *tokens, int32_t n, int32_t exact) {
    int32_t idle = -1;
    for (int32_t i = 0; i < k->n; i++) {
        const struct kept *one = &k->list[i];
        int32_t same = keep_shared(one->tokens, one->n, tokens, n);
        int32_t theirs = least(one->exact, same), ours = least(exact, same);
        if (same == n && theirs >= ours) { // the other one holds all of it
            keeper_touch(k, i);
            free(tokens);
            return slot;
        }
        if (same < one->n || theirs > ours) continue;
        idle = keeper_take(k, i);
        break;
    }
    k->list[k->n++] = (struct kept){.slot = slot, .n = n, .exact = exact, .tokens = tokens};
    return idle;
}

int64_t keep_most(int64_t percent, int64_t model_bytes, int64_t kv_bytes_per_token) {
    return kv_bytes_per_token > 0 ? model_bytes / 100 * percent / kv_bytes_per_token : 0;
}

int64_t keeper_cells(const struct keeper *k) {
    int64_t cells = 0;
    for (int32_t i = 0; i < k->n; i++) cells += k->list[i].n;
    return cells;
}

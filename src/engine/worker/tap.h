// Looks on while libllama computes: the K and V rows that a layer has just written to the KV cache, as soon as it has.
// Threads: the one that computes.
#pragma once

#include "engine/kv.h"
#include "engine/worker/activity.h"
#include <ggml.h>
#include <stdbool.h>

struct tap_rows {
    int32_t layer; // libllama's number
    enum kv_kind kind;
    enum ggml_type type;
    int32_t width; // elements of a row
    int32_t n;     // rows written, in the order of the batch's tokens
    // for tap_copy
    const struct ggml_tensor *cache;
    const int64_t *cells;
};

struct tap {
    bool on;     // rows are wanted; otherwise looking on costs next to nothing
    bool paired; // K's rows are shown with V's of the same layer, which libllama writes next: half as many stops
    void (*rows)(void *arg, const struct tap_rows *r, int32_t n); // n <= KV_KINDS, of one layer
    void *arg;
    void (*written)(void *arg, int32_t layer); // before each call of rows; may wait; NULL = nobody
    void *written_arg;
    const struct ggml_tensor *waiting; // K's rows, until V's are written; of this pass, or NULL
    int64_t *cells;                    // owned; room for `most` of each kind
    int32_t most;
    struct activity *activity; // is told that there was something to look at; NULL = nobody
};

int tap_init(struct tap *t, int32_t most, struct err *e) MUST_USE; // most: tokens of a batch
void tap_close(struct tap *t);

// libllama's cb_eval, whose argument is a struct tap.
bool tap_see(struct ggml_tensor *t, bool ask, void *tap);

// Copies rows [first, first + count) of the batch out of the cache, wherever that is.
void tap_copy(const struct tap_rows *r, int32_t first, int32_t count, void *out);

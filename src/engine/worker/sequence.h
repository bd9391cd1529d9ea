// One request on its way through the worker: made by the control thread, then owned by the queue and the compute
// thread.
#pragma once

#include "engine/request.h"
#include "engine/worker/batch.h"
#include "engine/worker/detok.h"
#include "engine/worker/export.h"
#include "engine/worker/sample.h"
#include <stdatomic.h>

enum stage {
    STAGE_RUN,    // it is computed
    STAGE_HELD,   // not before "go": submitted so, or paused
    STAGE_AWAIT,  // "go" was said, but rows before `awaited` are not in the cache yet
    STAGE_PAUSING // "pause" was said; rows have yet to leave
};

struct sequence {
    uint64_t id;
    enum stage stage; // lane.parked says the same: parked unless it runs
    int32_t awaited;
    json_t *begin;  // to be told when it has its place, or NULL; owned
    int32_t cached; // rows that were there when it got its place
    int32_t exact;  // its rows before this one owe nothing to a coarser wire type; INT32_MAX: all
    bool strict;    // it takes no others than such
    bool bare;      // it is neither kept nor counted
    bool show;      // the ids of its tokens are wanted
    struct export leaving;
    int32_t own;          // while rows leave: those from here on came from elsewhere meanwhile, and do not leave again
    struct order *orders; // given by the control thread, under the queue's lock
    int32_t n_orders, orders_room;
    bool orders_lost; // there were too many
    struct lane lane;
    int32_t slot;         // libllama's sequence id while it runs
    llama_token *tokens;  // owned; lane.len of them: the prompt and what was generated
    int32_t prompt, most; // tokens of the prompt; of prompt and answer together
    int32_t drawn;        // tokens generated, with the one that ended it
    bool ignore_eos;
    size_t n_stop;
    char *stop[LIMIT_STOP_STRINGS];
    struct sampler *sampler;
    struct detok detok;
    uint64_t arrived, started, first; // clock_mono_ns; 0 = not yet
    atomic_bool cancelled;            // set by the control thread, under the queue's lock
    struct sequence *next;            // in the queue
};

// Takes the prompt (malloc'd, n >= 1 tokens) and the sampler, freed even on failure, and r's stop strings. most >= n.
struct sequence *sequence_new(uint64_t id, struct gen_request *r, llama_token *prompt, int32_t n, int32_t most,
                              struct sampler *sampler, struct err *e) MUST_USE;
void sequence_free(struct sequence *s); // and its sampler; NULL is fine
void sequence_enter(struct sequence *s, enum stage stage);

// What to report when it ends now. The stop string is borrowed from s.
void sequence_result(const struct sequence *s, enum finish how, int stop, struct gen_result *out);

#include "engine/worker/sequence.h"
#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

struct sequence *sequence_new(uint64_t id, struct gen_request *r, llama_token *prompt, int32_t n, int32_t most,
                              struct sampler *sampler, struct err *e) {
    struct sequence *s = calloc(1, sizeof *s);
    llama_token *tokens = s ? realloc(prompt, (size_t)most * sizeof *tokens) : NULL;
    if (!tokens) {
        free(prompt);
        free(s);
        sampler_free(sampler);
        err_set(e, ERR_INTERNAL, "out of memory for a sequence of %d tokens", most);
        return NULL;
    }
    s->id = id;
    s->slot = -1;
    s->tokens = tokens;
    s->lane.len = s->prompt = n;
    s->most = most;
    s->ignore_eos = r->ignore_eos;
    s->bare = r->bare;
    s->exact = INT32_MAX;
    s->strict = r->exact;
    s->show = r->show_tokens;
    sequence_enter(s, r->hold ? STAGE_HELD : STAGE_RUN);
    s->n_stop = r->n_stop;
    memcpy(s->stop, r->stop, sizeof s->stop);
    r->n_stop = 0;
    s->sampler = sampler;
    detok_init(&s->detok, s->stop, s->n_stop);
    s->arrived = clock_mono_ns();
    return s;
}

void sequence_free(struct sequence *s) {
    if (!s) return;
    json_decref(s->begin);
    sampler_free(s->sampler);
    detok_close(&s->detok);
    export_stop(&s->leaving);
    for (int32_t i = 0; i < s->n_orders; i++) order_free(&s->orders[i]);
    free(s->orders);
    for (size_t i = 0; i < s->n_stop; i++) free(s->stop[i]);
    free(s->tokens);
    free(s);
}

void sequence_result(const struct sequence *s, enum finish how, int stop, struct gen_result *out) {
    uint64_t now = clock_mono_ns(), started = s->started ? s->started : now, first = s->first ? s->first : now;
    *out = (struct gen_result){
        .finish = how,
        .stop_string = stop < 0 ? NULL : s->stop[stop],
        .prompt_tokens = s->prompt,
        .cached_tokens = s->cached,
        .completion_tokens = s->drawn,
        .queue_ns = started - s->arrived,
        .prefill_ns = first > started ? first - started : 0,
        .decode_ns = now - first,
    };
}

void sequence_enter(struct sequence *s, enum stage stage) {
    s->stage = stage;
    s->lane.parked = stage != STAGE_RUN;
}

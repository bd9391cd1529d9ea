// serve/api: request bodies. What is accepted must reach a worker unchanged; what is refused must say why in one line.
#include "engine/protocol.h"
#include "serve/api.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_accepted(const struct api_request *r) {
    const struct sampling *s = &r->gen.sampling;
    struct gen_request got;
    uint64_t id = 0;
    struct err e;
    if (!r->gen.prompt || r->gen.n_stop > LIMIT_STOP_STRINGS || s->n_bias > LIMIT_LOGIT_BIAS) abort();
    if (!(s->temperature >= 0) || !(s->top_p >= 0 && s->top_p <= 1) || !(s->min_p >= 0 && s->min_p <= 1)) abort();
    json_t *msg = gen_encode(5, &r->gen);
    if (!msg || gen_decode(msg, &id, &got, &e) || id != 5) abort();
    if (got.kind != r->gen.kind || !json_equal(got.prompt, r->gen.prompt) || got.n_stop != r->gen.n_stop) abort();
    if (got.sampling.seed != s->seed || got.max_tokens != r->gen.max_tokens) abort();
    gen_request_free(&got);
    json_decref(msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (int kind = API_CHAT; kind <= API_COMPLETION; kind++) {
        struct api_request r;
        struct err e = {.code = ERR_NONE};
        if (!api_parse((enum api_kind)kind, (const char *)data, size, &r, &e))
            check_accepted(&r);
        else if (e.code == ERR_NONE || !e.msg[0] || strchr(e.msg, '\n'))
            abort();
        api_request_free(&r);
    }
    return 0;
}

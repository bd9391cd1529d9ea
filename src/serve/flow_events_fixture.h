// For tests of the flow: what happens to it, and the places of which they tell.
#pragma once

#include "serve/flow_fixture.h"

enum { A, B, C, D, PROMPT = 5 };

static inline void opened(struct flow *f, int place, int32_t cached) {
    static const int32_t prompt[PROMPT] = {11, 12, 13, 14, 15};
    struct gen_begin b = {.prompt_tokens = PROMPT, .cached_tokens = cached, .tokens = prompt};
    flow_opened(f, place, &b);
}

// Tokens first..last, as token ids 100 + number and texts "a", "b"...
static inline void told(struct flow *f, int place, int32_t first, int32_t last) {
    for (int32_t i = first; i <= last; i++) {
        char text = (char)('a' + i - 1);
        flow_text(f, place, &text, 1, i, 100 + i);
    }
}

static inline void ended(struct flow *f, int place, int32_t completion) {
    struct gen_result r = {.finish = FINISH_STOP, .prompt_tokens = 77, .completion_tokens = completion};
    flow_ended(f, place, &r);
}

static inline void failed(struct flow *f, int place, enum err_code code) {
    struct err why;
    err_set(&why, code, "failed");
    flow_failed(f, place, &why);
}

static inline void cut(struct flow *f, int to) {
    struct err why;
    err_set(&why, ERR_UNREACHABLE, "cut");
    flow_cut(f, to, &why);
}

static inline struct flow *new_flow(int prefill, int decode, bool zero_stall) {
    struct err e;
    struct flow *f = try_new(prefill, decode, zero_stall, &e);
    assert_non_null(f);
    return f;
}

static inline void finish(struct flow *f, const char *last_orders) {
    flow_free(f);
    expect(last_orders);
}

// For tests of the flow: a caller whose orders are kept as text.
#pragma once

#include "base/buf.h"
#include "serve/flow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct buf orders;   // what was ordered since the last expect(), "; " after each
static const char *refused; // the order that fails at once
static enum err_code refusal;
static const char *spare; // the other places there are

static void note_tokens(const int32_t *tokens, int32_t n) {
    assert_true(!n == !tokens);
    for (int32_t i = 0; i < n; i++) buf_printf(&orders, "%s%d", i ? "," : " ", (int)tokens[i]);
}

static int answer(const char *order, struct err *e) {
    buf_puts(&orders, "; ");
    return refused && !strcmp(refused, order) ? err_set(e, refusal, "refused %s", order) : 0;
}

static int on_open(void *io, int place, const int32_t *prompt, int32_t n, int source, struct err *e) {
    (void)io;
    buf_printf(&orders, "open %c", 'A' + place);
    note_tokens(prompt, n);
    if (source >= 0) buf_printf(&orders, " rows of %c", 'A' + source);
    return answer("open", e);
}

static int on_stream(void *io, int from, int to, int32_t first, struct err *e) {
    (void)io;
    buf_printf(&orders, "stream %c%c %d", 'A' + from, 'A' + to, (int)first);
    return answer("stream", e);
}

static void on_cut(void *io, int from) {
    (void)io;
    buf_printf(&orders, "cut %c; ", 'A' + from);
}

static int on_start(void *io, int place, const int32_t *generated, int32_t n, int32_t from, struct err *e) {
    (void)io;
    buf_printf(&orders, "start %c", 'A' + place);
    note_tokens(generated, n);
    if (from >= 0) buf_printf(&orders, " from %d", (int)from);
    return answer("start", e);
}

static int on_pause(void *io, int place, struct err *e) {
    (void)io;
    buf_printf(&orders, "pause %c", 'A' + place);
    return answer("pause", e);
}

static int on_another(void *io, int place) {
    (void)io;
    if (!*spare) return -1;
    int next = *spare++ - 'A';
    buf_printf(&orders, "%c for %c; ", 'A' + next, 'A' + place);
    return next;
}

static void on_drop(void *io, int place) {
    (void)io;
    buf_printf(&orders, "drop %c; ", 'A' + place);
}

static void on_timer(void *io, long ms) {
    (void)io;
    buf_printf(&orders, "timer %ld; ", ms);
}

static void on_begin(void *io, const struct gen_begin *b) {
    (void)io;
    buf_printf(&orders, "begin %d; ", (int)b->prompt_tokens);
}

static void on_text(void *io, const char *text, size_t len, int32_t tokens) {
    (void)io;
    buf_printf(&orders, "text %.*s %d; ", (int)len, text, (int)tokens);
}

static void on_end(void *io, const struct gen_result *r) {
    (void)io;
    buf_printf(&orders, "end %s %d/%d/%d; ", finish_name(r->finish), (int)r->prompt_tokens, (int)r->cached_tokens,
               (int)r->completion_tokens);
}

static void on_fail(void *io, const struct err *why) {
    (void)io;
    buf_printf(&orders, "fail %s; ", err_name(why->code));
}

static long head_ms; // of the next plan
static bool reads_only, decode_first;

static struct flow *try_new(int prefill, int decode, bool zero_stall, struct err *e) {
    static const struct flow_io io = {on_open, on_stream, on_cut,   on_start, on_pause, on_another,
                                      on_drop, on_timer,  on_begin, on_text,  on_end,   on_fail};
    struct flow_plan p = {.prefill = prefill,
                          .decode = decode,
                          .zero_stall = zero_stall,
                          .reads_only = reads_only,
                          .decode_first = decode_first,
                          .head_ms = head_ms};
    return flow_new(&p, &io, NULL, e);
}

static int setup(void **state) {
    (void)state;
    buf_init(&orders, 1 << 16);
    refused = NULL;
    reads_only = decode_first = false;
    spare = "";
    head_ms = 0;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    buf_free(&orders);
    return 0;
}

static void expect(const char *wanted) {
    assert_string_equal(buf_str(&orders), wanted);
    buf_clear(&orders);
}

static void forget(void) { buf_clear(&orders); }

#include "pair.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

struct engine_options pair_options(const char *model, const char *kv_type) {
    struct engine_options o = {.ctx = CTX,
                               .kv_cells = 2 * CTX,
                               .parallel = 4,
                               .queue = 8,
                               .threads = 1,
                               .chunk = CHUNK,
                               .step_ms = 1000,
                               .kv_buffer = 64};
    snprintf(o.model_name, sizeof o.model_name, "%s", model);
    snprintf(o.model_path, sizeof o.model_path, MODELS "/%s.gguf", model);
    snprintf(o.kv_type, sizeof o.kv_type, "%s", kv_type);
    return o;
}

void pair_start(struct pair *p, const char *model, const char *kv_type) {
    struct engine_options o = pair_options(model, kv_type);
    p->model = model;
    p->tie = 0.01f;
    p->base = event_base_new();
    assert_non_null(p->base);
    p->a = mover_engine(p->base, &o);
    p->b = mover_engine(p->base, &o);
    assert_non_null(engine_arena(p->a));
    assert_non_null(engine_arena(p->b));
}

void pair_stop(struct pair *p) {
    engine_stop(p->a);
    engine_stop(p->b);
    event_base_dispatch(p->base);
    event_base_free(p->base);
}

static bool is_clean(struct pair *p) {
    struct engine_status a, b;
    int32_t all[LIMIT_KV_SLOTS], n = arena_slots(engine_arena(p->b));
    struct err e;
    engine_get_status(p->a, &a);
    engine_get_status(p->b, &b);
    assert_int_equal(a.state, ENGINE_READY);
    assert_int_equal(a.restarts + b.restarts, 0);
    if (a.stats.running || b.stats.running || a.stats.cells_used || b.stats.cells_used || a.requests || b.requests)
        return false;
    if (arena_take(engine_arena(p->b), n, all, &e)) return false; // its worker may still read what was cancelled
    for (int32_t i = 0; i < n; i++) arena_give(engine_arena(p->b), all[i]);
    return true;
}

static void never(int signal) {
    static const char why[] = "move_test: what is waited for never comes\n";
    (void)signal;
    if (write(STDERR_FILENO, why, sizeof why - 1) > 0) abort();
}

void pair_be_patient(void) {
    enum { PATIENCE = 300 }; // seconds
    signal(SIGALRM, never);
    alarm(PATIENCE);
}

void pair_check_clean(struct pair *p) {
    pair_be_patient();
    while (!is_clean(p)) event_base_loop(p->base, EVLOOP_ONCE);
    for (int32_t i = 0; i < arena_blocks(engine_arena(p->a)); i++)
        assert_int_equal(arena_block_out(engine_arena(p->a), i), -1);
}

// ---------------------------------------------------------------- requests
static json_t *random_prompt(int n) {
    json_t *list = json_array();
    uint32_t x = (uint32_t)n * 2654435761u + 1;
    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        json_array_append_new(list, json_integer(3 + (x >> 8) % 250));
    }
    return list;
}

// A text of n bytes whose end has stood in it before: the recall model goes on as it did there.
static json_t *recall_prompt(int n) {
    enum { CUE = 70 };
    char *s = malloc((size_t)n + 1);
    uint32_t x = 77;
    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        s[i] = (x >> 16) % 6 ? (char)('a' + (x >> 20) % 26) : ' ';
    }
    if (n > 4 * CUE) memcpy(s + n - CUE, s + n / 3, CUE);
    s[n] = 0;
    json_t *v = json_string(s);
    free(s);
    return v;
}

void pair_request(struct gen_request *r, const struct pair *p, int n, int which, int64_t max_tokens) {
    gen_request_init(r);
    bool recall = !strcmp(p->model, "recall");
    r->kind = recall ? PROMPT_TEXT : PROMPT_TOKENS;
    r->prompt = recall ? recall_prompt(n) : random_prompt(n);
    r->max_tokens = max_tokens;
    r->ignore_eos = true;
    r->sampling.temperature = which == 0 ? 0 : 0.9f;
    r->sampling.seed = (uint64_t)which;
    if (which == 2) {
        r->sampling.repeat_penalty = 1.3f;
        r->sampling.presence_penalty = 0.5f;
        r->sampling.frequency_penalty = 0.2f;
        r->sampling.penalty_last_n = 40;
    }
}

// Whether the model writes `token` after n tokens of a prompt and i of the answer, where it likes that a little more.
static bool would_write(struct pair *p, int n, int which, const struct mover *m, int32_t i, int32_t token) {
    static struct mover next;
    struct gen_request r;
    pair_request(&r, p, n, which, 1);
    for (int32_t k = 0; k < i; k++) json_array_append_new(r.prompt, json_integer(m->tokens[k]));
    r.sampling.bias[r.sampling.n_bias++] = (struct logit_bias){token, p->tie};
    assert_int_equal(mover_run(&next, p->base, p->a, NULL, &r, NULL), 0);
    gen_request_free(&r);
    return next.n_tokens == 1 && next.tokens[0] == token;
}

// Rows that are computed anew, many at a time, are rounded otherwise in their last bit: where two tokens are all but
// equally good, the other one may win. From there on the answers are two different ones.
static bool is_tie(struct pair *p, int n, int which, const struct mover *a, const struct mover *b, int32_t i) {
    if (!strcmp(p->model, "recall") || a->tokens[i] == b->tokens[i]) return false;
    return would_write(p, n, which, a, i, a->tokens[i]) && would_write(p, n, which, a, i, b->tokens[i]);
}

void pair_check_same(struct pair *p, const struct mover *a, const struct mover *b, int n, int which) {
    assert_true(a->n_tokens > 0);
    for (int32_t i = 0; i < a->n_tokens && i < b->n_tokens; i++) {
        if (a->tokens[i] == b->tokens[i]) continue;
        if (is_tie(p, n, which, a, b, i)) return;
        fail_msg("prompt of %d, sampling %d: token %d of %d differs (moved after %d)", n, which, i, a->n_tokens,
                 b->past + 1 - b->n_prompt);
    }
    assert_int_equal(b->n_tokens, a->n_tokens);
    assert_int_equal(b->len, a->len);
    assert_memory_equal(b->text, a->text, a->len);
    assert_int_equal(b->result.finish, a->result.finish);
    assert_int_equal(b->result.completion_tokens, a->result.completion_tokens);
    assert_int_equal(b->result.prompt_tokens, a->result.prompt_tokens);
    assert_string_equal(b->stop, a->stop);
}

void pair_compare(struct pair *p, int n, int which, int64_t max_tokens, const struct plan *plan, const char *stop) {
    enum { TRIES = 20 };
    static struct mover alone, moved;
    struct gen_request r;
    pair_be_patient();
    pair_request(&r, p, n, which, max_tokens);
    if (stop) r.stop[r.n_stop++] = strdup(stop);
    assert_int_equal(mover_run(&alone, p->base, p->a, NULL, &r, NULL), 0);
    bool can_move = max_tokens > 4 * plan->pause_after, done = false;
    for (int i = 0; i < TRIES && !done; i++) {
        if (mover_run(&moved, p->base, p->a, p->b, &r, plan)) fail_msg("prompt of %d: %s", n, moved.why.msg);
        pair_check_same(p, &alone, &moved, n, which);
        mover_close(&moved);
        done = moved.paused || !can_move || stop;
    }
    if (!done) fail_msg("prompt of %d: %d times it was not moved", n, TRIES);
    gen_request_free(&r);
}

// Models whose memory is not rows: a sequence's state is taken out of one worker and put into another; what a wrong
// state does; and what they do on one worker alone. That clients see the same text is test/move/move_test.c's.
#include "base/log.h"
#include "engine/worker/worker.h"
#include "mover.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { CTX = 512, ANSWER = 64, STATE_MOST = 4 << 20 };

struct talk {
    struct engine *w;
    uint64_t id;
    bool begun, paused, ended, failed;
    int32_t tokens[ANSWER + 1], n, upto;
    enum finish finish;
    struct err why;
    unsigned char *state; // where it is wanted: of STATE_MOST bytes
    int32_t size, arrived;
};

static struct event_base *base;
static struct engine *running; // of a test that failed
static const char *const models[] = {"recurrent", "windows"};

#define UNTIL(condition)                                                                                               \
    while (!(condition)) event_base_loop(base, EVLOOP_ONCE)

static struct engine *worker(const char *model, int32_t cells, long kv_buffer) {
    struct engine_options o = {.ctx = cells < CTX ? cells : CTX,
                               .kv_cells = cells,
                               .parallel = 4,
                               .queue = 8,
                               .threads = 1,
                               .chunk = 32,
                               .step_ms = 1000,
                               .kv_buffer = kv_buffer};
    snprintf(o.model_name, sizeof o.model_name, "%s", model);
    snprintf(o.model_path, sizeof o.model_path, MODELS "/%s.gguf", model);
    snprintf(o.kv_type, sizeof o.kv_type, "f16");
    return running = mover_engine(base, &o);
}

static void stop_worker(struct engine *w) {
    struct engine_status s;
    UNTIL((engine_get_status(w, &s), !s.requests && !s.stats.running && !s.stats.cells_used));
    assert_int_equal(s.restarts, 0);
    engine_stop(w);
    running = NULL;
}

// ---------------------------------------------------------------- requests
static void on_begin(void *arg, const struct gen_begin *b) {
    (void)b;
    ((struct talk *)arg)->begun = true;
}
static void on_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t token) {
    struct talk *t = arg;
    (void)text, (void)len;
    assert_true(tokens <= ANSWER && tokens == t->n + 1);
    t->tokens[t->n++] = token;
}
static void on_end(void *arg, const struct gen_result *r) {
    ((struct talk *)arg)->ended = true;
    ((struct talk *)arg)->finish = r->finish;
}
static void on_fail(void *arg, const struct err *why) {
    ((struct talk *)arg)->failed = true;
    ((struct talk *)arg)->why = *why;
}
static void on_installed(void *arg, int32_t upto, int32_t slot) {
    (void)slot;
    ((struct talk *)arg)->upto = upto;
}
static void on_paused(void *arg, int32_t tokens, int32_t past) {
    struct talk *t = arg;
    assert_int_equal(tokens, t->n);
    assert_true(past > 0);
    assert_int_equal(t->arrived, t->size); // all of it has left before
    t->paused = true;
}
static void on_rows(void *arg, const struct kv_rows *r) {
    struct talk *t = arg;
    struct arena *a = engine_arena(t->w);
    size_t left = (size_t)(r->count - r->first), bytes = left < arena_block_bytes(a) ? left : arena_block_bytes(a);
    assert_non_null(t->state);
    assert_true(r->count <= STATE_MOST && (!t->size || r->count == t->size));
    assert_int_equal(r->first, t->arrived);
    memcpy(t->state + r->first, arena_block(a, r->block), bytes);
    t->size = r->count;
    t->arrived += (int32_t)bytes;
    assert_int_equal(engine_give_blocks(t->w, a, &r->block, 1), 0);
}

static void ask(struct talk *t, struct engine *w, int n, int seed, bool hold, int64_t most) {
    static const struct gen_events events = {on_begin, on_text, on_end, on_fail, on_rows, on_installed, on_paused};
    unsigned char *state = t->state;
    struct gen_request r;
    struct err e;
    *t = (struct talk){.w = w, .state = state};
    gen_request_init(&r);
    r.kind = PROMPT_TOKENS;
    r.prompt = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(r.prompt, json_integer(300 + (i * 37 + seed * 11) % 200));
    r.max_tokens = most;
    r.ignore_eos = r.show_tokens = true;
    r.hold = hold;
    r.sampling.temperature = 0;
    assert_int_equal(engine_submit(w, &r, &events, t, &t->id, &e), 0);
    gen_request_free(&r);
}

static void ask_alone(struct talk *t, struct engine *w, int n, int seed, int64_t most) {
    ask(t, w, n, seed, false, most);
    UNTIL(t->ended || t->failed);
    assert_true(t->ended);
    assert_int_equal(t->n, most);
}

static void check_same(const struct talk *a, const struct talk *b) {
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->tokens, b->tokens, (size_t)a->n * sizeof *a->tokens);
}

// The state after a prompt and a few tokens; the sequence stays paused. A quick model may have written its answer
// before the order to pause reaches it; then it is asked again.
static void take_state(struct talk *t, struct engine *w, int n, int seed) {
    enum { TRIES = 50 };
    struct err e;
    t->paused = false;
    for (int i = 0; i < TRIES && !t->paused; i++) {
        ask(t, w, n, seed, true, ANSWER);
        assert_int_equal(engine_export(w, t->id, 0, 1, &e), 0);
        assert_int_equal(engine_go(w, t->id, NULL, 0, -1, &e), 0);
        UNTIL(t->n || t->failed);
        assert_int_equal(engine_pause(w, t->id, &e), 0);
        UNTIL(t->paused || t->ended || t->failed);
    }
    assert_true(t->paused && t->size > 0);
}

// Installs `size` bytes in a held sequence of a prompt, which it waits for.
static void put_state(struct talk *t, struct engine *w, const unsigned char *state, int32_t size) {
    struct arena *a = engine_arena(w);
    int32_t slot;
    struct err e;
    UNTIL(!arena_take(a, 1, &slot, &e)); // as soon as the worker has read the one before
    memcpy(arena_slot(a, slot), state, (size_t)size);
    assert_int_equal(engine_install(w, t->id, &(struct engine_unit){slot, 0, size, false}, &e), 0);
    UNTIL(t->upto || t->failed);
    arena_give(a, slot);
}

// ---------------------------------------------------------------- tests
static void test_what_is_told(void **state) {
    (void)state;
    static const char *const why[] = {"recurrent", "window"};
    for (int i = 0; i < 2; i++) {
        struct engine *w = worker(models[i], CTX, 16);
        struct engine_status s;
        engine_get_status(w, &s);
        assert_int_equal(s.info.kv.form, KV_OPAQUE);
        assert_true(s.info.kv.state > 0);
        assert_non_null(strstr(s.info.kv_why, why[i]));
        assert_non_null(engine_arena(w));
        stop_worker(w);
    }
}

// A state that is larger than the memory for it: sequences stay where they are, and the reason is told.
static void test_no_memory_for_it(void **state) {
    (void)state;
    struct engine_options o = {.ctx = 4096, .kv_cells = 16384, .parallel = 4, .queue = 4, .threads = 1, .kv_buffer = 1};
    snprintf(o.model_name, sizeof o.model_name, "windows");
    snprintf(o.model_path, sizeof o.model_path, MODELS "/windows.gguf");
    snprintf(o.kv_type, sizeof o.kv_type, "f16");
    struct engine *w = running = mover_engine(base, &o);
    struct engine_status s;
    struct talk t = {.state = NULL};
    struct err e;
    engine_get_status(w, &s);
    assert_true(s.info.kv.state > 1 << 20);
    assert_null(engine_arena(w));
    assert_non_null(strstr(s.info.kv_why, "kv_buffer"));
    ask(&t, w, 20, 1, true, 10);
    assert_int_equal(engine_export(w, t.id, 0, 1, &e), -1);
    assert_non_null(strstr(e.msg, "kv_buffer"));
    assert_int_equal(engine_go(w, t.id, NULL, 0, -1, &e), 0);
    UNTIL(t.ended || t.failed);
    assert_int_equal(t.n, 10);
    stop_worker(w);
}

// No state is larger than what was measured, however long the sequence is.
static void test_largest(void **state) {
    (void)state;
    static unsigned char bytes[STATE_MOST];
    for (int i = 0; i < 2; i++) {
        struct engine *w = worker(models[i], 2 * CTX, 16);
        struct engine_status s;
        struct talk t = {.state = bytes};
        engine_get_status(w, &s);
        for (int n = 1; n < CTX - ANSWER; n = n * 3 + 5) {
            take_state(&t, w, n, 1);
            assert_true(t.size <= s.info.kv.state);
            engine_cancel(w, t.id);
        }
        stop_worker(w);
    }
}

static void test_wrong_states(void **state) {
    (void)state;
    static unsigned char good[STATE_MOST], bad[STATE_MOST];
    for (int i = 0; i < 2; i++) {
        struct engine *w = worker(models[i], 2 * CTX, 16);
        struct engine_status s;
        struct talk from = {.state = good}, t = {.state = NULL}, alone = {.state = NULL};
        struct err e;
        int32_t slot;
        engine_get_status(w, &s);
        take_state(&from, w, 50, 1);
        ask_alone(&alone, w, 50, 1, ANSWER);
        for (int kind = 0; kind < 5; kind++) {
            int32_t size = kind == 2 ? from.size / 2 : kind == 3 ? from.size - 1 : kind == 4 ? 1 : from.size;
            memcpy(bad, good, (size_t)from.size);
            if (kind < 2) memset(bad, kind ? 0xff : 0, (size_t)from.size);
            ask(&t, w, 50, 1, true, ANSWER);
            put_state(&t, w, bad, size);
            assert_true(t.failed);
            assert_int_equal(t.why.code, ERR_BUSY);
        }
        // those that the handle refuses
        ask(&t, w, 50, 1, true, ANSWER);
        assert_int_equal(arena_take(engine_arena(w), 1, &slot, &e), 0);
        assert_int_equal(engine_install(w, t.id, &(struct engine_unit){slot, 64, 64, false}, &e), -1);
        assert_int_equal(engine_install(w, t.id, &(struct engine_unit){slot, 0, s.info.kv.state + 1, false}, &e), -1);
        assert_int_equal(engine_install(w, t.id, &(struct engine_unit){slot, 0, 0, false}, &e), -1);
        arena_give(engine_arena(w), slot);
        // and the good one
        put_state(&t, w, good, from.size);
        assert_false(t.failed);
        assert_int_equal(t.upto, 50 + from.n - 1);
        assert_int_equal(engine_go(w, t.id, from.tokens, from.n, t.upto, &e), 0);
        memcpy(t.tokens, from.tokens, sizeof t.tokens);
        t.n = from.n;
        UNTIL(t.ended || t.failed);
        check_same(&t, &alone);
        engine_cancel(w, from.id);
        stop_worker(w);
    }
}

// A state of more tokens than the sequence has cannot be cut off: all is computed anew.
static void test_state_of_too_much(void **state) {
    (void)state;
    static unsigned char good[STATE_MOST];
    for (int i = 0; i < 2; i++) {
        struct engine *w = worker(models[i], 2 * CTX, 16);
        struct talk from = {.state = good}, t = {.state = NULL}, alone = {.state = NULL};
        struct err e;
        take_state(&from, w, 60, 1);
        ask_alone(&alone, w, 55, 2, ANSWER);
        ask(&t, w, 55, 2, true, ANSWER); // its end lies beyond the state's, unless the pause came with the last tokens
        put_state(&t, w, good, from.size);
        assert_true(t.upto >= 60);
        assert_int_equal(engine_go(w, t.id, NULL, 0, -1, &e), 0);
        UNTIL(t.ended || t.failed);
        check_same(&t, &alone);
        ask(&t, w, 5, 2, true, 10); // and of more than it may ever have
        put_state(&t, w, good, from.size);
        assert_true(t.failed);
        engine_cancel(w, from.id);
        stop_worker(w);
    }
}

// What has travelled once is not sent again, and a sequence that goes on at home is none the worse.
static void test_goes_on_at_home(void **state) {
    (void)state;
    static unsigned char good[STATE_MOST], again[STATE_MOST];
    for (int i = 0; i < 2; i++) {
        struct engine *w = worker(models[i], 2 * CTX, 16);
        struct talk t = {.state = good}, alone = {.state = NULL};
        struct err e;
        ask_alone(&alone, w, 40, 3, ANSWER);
        take_state(&t, w, 40, 3);
        int32_t size = t.size, n = t.n;
        assert_int_equal(engine_go(w, t.id, NULL, 0, -1, &e), 0);
        UNTIL(t.ended || t.failed || t.n > n + 3);
        t.paused = false;
        assert_int_equal(engine_pause(w, t.id, &e), 0);
        UNTIL(t.paused || t.ended);
        assert_int_equal(t.arrived, size);
        if (t.paused) { // a new export, of what it is now
            t.state = again;
            t.size = t.arrived = 0;
            assert_int_equal(engine_export(w, t.id, 0, 1, &e), 0);
            UNTIL(t.size && t.arrived == t.size);
            assert_true(t.size != size || memcmp(good, again, (size_t)size) != 0);
            assert_int_equal(engine_go(w, t.id, NULL, 0, -1, &e), 0);
        }
        UNTIL(t.ended || t.failed);
        check_same(&t, &alone);
        stop_worker(w);
    }
}

// ---------------------------------------------------------------- on one worker
// Several at the same time, some of them cancelled: afterwards the memory of none is left in the places of others.
static void test_crowd(void **state) {
    (void)state;
    enum { MANY = 8 };
    for (int i = 0; i < 2; i++) {
        struct engine *w = worker(models[i], 2 * CTX, 16);
        struct talk t[MANY] = {{.state = NULL}}, before = {.state = NULL}, after = {.state = NULL};
        ask_alone(&before, w, 77, 5, ANSWER);
        for (int k = 0; k < MANY; k++) ask(&t[k], w, 10 + 17 * k, k, false, ANSWER);
        UNTIL(t[0].n > 3);
        for (int k = 1; k < MANY; k += 3) engine_cancel(w, t[k].id);
        for (int k = 0; k < MANY; k++) {
            if (k % 3 == 1) continue;
            UNTIL(t[k].ended || t[k].failed);
            assert_true(t[k].ended);
            assert_int_equal(t[k].n, ANSWER);
            assert_int_equal(t[k].finish, FINISH_LENGTH);
        }
        ask_alone(&after, w, 77, 5, ANSWER);
        check_same(&after, &before);
        stop_worker(w);
    }
}

// More than fits: some are preempted, and read again from the beginning.
static void test_preemption(void **state) {
    (void)state;
    enum { MANY = 4 };
    for (int i = 0; i < 2; i++) {
        struct engine *w = worker(models[i], 256, 16);
        struct engine_status s;
        struct talk t[MANY] = {{.state = NULL}};
        for (int k = 0; k < MANY; k++) ask(&t[k], w, 40, k, false, ANSWER);
        for (int k = 0; k < MANY; k++) {
            UNTIL(t[k].ended || t[k].failed);
            assert_true(t[k].ended);
            assert_int_equal(t[k].n, ANSWER);
        }
        UNTIL((engine_get_status(w, &s), !s.stats.running));
        assert_true(s.stats.preemptions > 0);
        stop_worker(w);
    }
}

static int start_base(void **state) {
    (void)state;
    alarm(300); // what is waited for may never come
    base = event_base_new();
    return base ? 0 : -1;
}

static int stop_base(void **state) {
    (void)state;
    engine_stop(running);
    event_base_dispatch(base);
    event_base_free(base);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "worker")) {
        log_set_level(LOG_ERROR);
        return worker_main(1, argv + 1);
    }
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_told),
        cmocka_unit_test(test_no_memory_for_it),
        cmocka_unit_test(test_largest),
        cmocka_unit_test(test_wrong_states),
        cmocka_unit_test(test_state_of_too_much),
        cmocka_unit_test(test_goes_on_at_home),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_preemption),
    };
    return cmocka_run_group_tests(tests, start_base, stop_base);
}

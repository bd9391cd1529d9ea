// Two workers, one request: what a client sees must not show that it was moved. This program is its own worker:
// engine_start runs it with the argument "worker".
#include "base/log.h"
#include "engine/worker/worker.h"
#include "pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

// ---------------------------------------------------------------- tests
static const struct plan plain = {.rows = ROWS_ALL, .pause_after = 5, .slots = 4};

static void test_every_length(void **state) {
    static const int lengths[] = {1, 2, 15, 17, CHUNK - 1, CHUNK, CHUNK + 1, 1000};
    struct pair *p = *state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (int which = 0; which < 3; which++) pair_compare(p, lengths[i], which, 200, &plain, NULL);
    pair_check_clean(p);
}

static void test_long(void **state) {
    struct pair *p = *state;
    pair_compare(p, 3700, 0, 200, &plain, NULL);
    pair_compare(p, 3700, 2, 200, &(struct plan){.rows = ROWS_ALL, .pause_after = 1, .slots = 2, .hoard = 20}, NULL);
    pair_check_clean(p);
}

static void test_back_pressure(void **state) {
    struct pair *p = *state;
    int32_t blocks = arena_blocks(engine_arena(p->a));
    for (int32_t left = 1; left <= 3; left++) {
        struct plan few = {.rows = ROWS_ALL, .pause_after = 20, .slots = left, .hoard = blocks - left};
        pair_compare(p, 700, left % 3, 300, &few, NULL);
    }
    pair_check_clean(p);
}

static void test_rows_of_the_past(void **state) {
    struct pair *p = *state;
    struct plan late = {.rows = ROWS_ALL, .pause_after = 6, .slots = 3, .late_export = true};
    pair_compare(p, 500, 1, 300, &late, NULL);
    pair_compare(p, 1, 0, 300, &late, NULL);
    pair_check_clean(p);
}

static void test_without_rows(void **state) {
    struct pair *p = *state;
    pair_compare(p, 300, 0, 200, &(struct plan){.rows = ROWS_NONE, .pause_after = 7}, NULL);
    pair_compare(p, 300, 2, 200, &(struct plan){.rows = ROWS_NONE, .pause_after = 1}, NULL);
    pair_compare(p, 900, 0, 200, &(struct plan){.rows = ROWS_HALF, .pause_after = 7, .slots = 2}, NULL);
    pair_check_clean(p);
}

static void test_there_and_back(void **state) {
    struct pair *p = *state;
    struct plan back = {.rows = ROWS_ALL, .pause_after = 5, .slots = 4, .back = true};
    pair_compare(p, 200, 0, 400, &back, NULL);
    pair_compare(p, 200, 2, 400, &back, NULL);
    pair_check_clean(p);
}

// Held-back text and stop strings across the move; the length and an end before the pause.
static void test_ends(void **state) {
    static struct mover alone;
    struct pair *p = *state;
    struct gen_request r;
    pair_request(&r, p, 100, 0, 24);
    assert_int_equal(mover_run(&alone, p->base, p->a, NULL, &r, NULL), 0);
    gen_request_free(&r);
    assert_true(alone.len > 14);
    for (size_t at = 2; at < 12; at += 3) {
        char stop[6];
        snprintf(stop, sizeof stop, "%.5s", alone.text + at);
        for (int32_t k = 1; k < 16; k += 2)
            pair_compare(p, 100, 0, 24, &(struct plan){.rows = ROWS_ALL, .pause_after = k, .slots = 4}, stop);
    }
    pair_compare(p, 100, 0, 5, &plain, NULL);
    pair_compare(p, 100, 0, 6, &plain, NULL);
    pair_compare(p, 100, 0, 3, &plain, NULL);
    pair_check_clean(p);
}

// ---------------------------------------------------------------- orders that make no sense
struct lone {
    int begins, fails, ends, texts, pauses, installed;
    struct err why;
    int finish;
};
static void lone_begin(void *arg, const struct gen_begin *b) {
    (void)b;
    ((struct lone *)arg)->begins++;
}
static void lone_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t token) {
    (void)text, (void)len, (void)tokens, (void)token;
    ((struct lone *)arg)->texts++;
}
static void lone_end(void *arg, const struct gen_result *r) {
    ((struct lone *)arg)->ends++;
    ((struct lone *)arg)->finish = (int)r->finish;
}
static void lone_fail(void *arg, const struct err *why) {
    ((struct lone *)arg)->fails++;
    ((struct lone *)arg)->why = *why;
}
static void lone_installed(void *arg, int32_t upto, int32_t slot) {
    (void)upto, (void)slot;
    ((struct lone *)arg)->installed++;
}
static void lone_paused(void *arg, int32_t tokens, int32_t past) {
    (void)tokens, (void)past;
    ((struct lone *)arg)->pauses++;
}
static const struct gen_events lone_events = {.begin = lone_begin,
                                              .text = lone_text,
                                              .end = lone_end,
                                              .fail = lone_fail,
                                              .installed = lone_installed,
                                              .paused = lone_paused};

static uint64_t ask(struct pair *p, struct lone *l, bool hold, int n, int64_t max_tokens) {
    struct gen_request r;
    struct err e;
    uint64_t id = 0;
    pair_be_patient();
    memset(l, 0, sizeof *l);
    pair_request(&r, p, n, 0, max_tokens);
    r.hold = hold;
    assert_int_equal(engine_submit(p->a, &r, &lone_events, l, &id, &e), 0);
    gen_request_free(&r);
    return id;
}

#define UNTIL(p, condition)                                                                                            \
    do {                                                                                                               \
        while (!(condition)) event_base_loop((p)->base, EVLOOP_ONCE);                                                  \
    } while (0)

static void refused(struct pair *p, struct lone *l, enum err_code code) {
    UNTIL(p, l->fails || l->ends);
    assert_int_equal(l->fails, 1);
    assert_int_equal(l->why.code, code);
    assert_int_equal(l->texts, 0);
}

static void test_wrong_orders(void **state) {
    struct pair *p = *state;
    struct lone l;
    struct err e;
    int32_t slot, token = 5, strange = 1 << 30;
    struct engine_status s;
    engine_get_status(p->a, &s);
    assert_int_equal(arena_take(engine_arena(p->a), 1, &slot, &e), 0);
    memset(arena_slot(engine_arena(p->a), slot), 0, kv_slot_bytes(&s.info.kv, s.info.kv.unit));

    uint64_t id = ask(p, &l, true, 50, 10); // out of order
    assert_int_equal(engine_install(p->a, id, &(struct engine_unit){slot, 8, 8, false}, &e), 0);
    refused(p, &l, ERR_INVALID);
    id = ask(p, &l, true, 50, 10); // beyond its end
    for (int32_t at = 0; at < 64; at += 16)
        assert_int_equal(engine_install(p->a, id, &(struct engine_unit){slot, at, 16, false}, &e), 0);
    refused(p, &l, ERR_INVALID);
    assert_int_equal(l.installed, 3);
    id = ask(p, &l, true, 50, 10);
    assert_int_equal(engine_go(p->a, id, &strange, 1, -1, &e), 0);
    refused(p, &l, ERR_INVALID);
    id = ask(p, &l, true, 50, 10);
    assert_int_equal(engine_go(p->a, id, &token, 1, 1000, &e), 0);
    refused(p, &l, ERR_INVALID);

    // those that the handle refuses by itself
    id = ask(p, &l, true, 50, 10);
    assert_int_equal(engine_install(p->a, id, &(struct engine_unit){slot, -1, 1, false}, &e), -1);
    assert_int_equal(engine_install(p->a, id, &(struct engine_unit){slot, 0, s.info.kv.unit + 1, false}, &e), -1);
    assert_int_equal(engine_install(p->a, id, &(struct engine_unit){slot, CTX - 1, 2, false}, &e), -1);
    assert_int_equal(engine_install(p->a, id, &(struct engine_unit){slot + 1, 0, 1, false}, &e), -1); // not taken
    assert_int_equal(engine_install(p->a, id, &(struct engine_unit){10000, 0, 1, false}, &e), -1);
    assert_int_equal(engine_go(p->a, id, NULL, -1, -1, &e), -1);
    assert_int_equal(engine_go(p->a, id, NULL, 0, -1, &e), 0); // none of it has harmed it
    UNTIL(p, l.ends || l.fails);
    assert_int_equal(l.ends, 1);
    assert_int_equal(engine_go(p->a, id, NULL, 0, -1, &e), 0); // gone: fine
    arena_give(engine_arena(p->a), slot);
    pair_check_clean(p);
}

static void test_start_what_runs(void **state) {
    struct pair *p = *state;
    struct lone l;
    struct err e;
    int32_t slot, token = 5;
    uint64_t id = ask(p, &l, true, 50, 200);
    assert_int_equal(engine_go(p->a, id, NULL, 0, 50, &e), 0);
    assert_int_equal(engine_go(p->a, id, NULL, 0, -1, &e), 0); // waits no longer
    assert_int_equal(engine_go(p->a, id, NULL, 0, -1, &e), 0); // nothing
    assert_int_equal(arena_take(engine_arena(p->a), 1, &slot, &e), 0);
    UNTIL(p, l.begins);
    assert_int_equal(engine_install(p->a, id, &(struct engine_unit){slot, 0, 16, false}, &e), 0); // too late
    UNTIL(p, l.ends || l.fails);
    assert_int_equal(l.ends, 1);
    arena_give(engine_arena(p->a), slot);

    id = ask(p, &l, false, 50, 2000);
    UNTIL(p, l.texts);
    assert_int_equal(engine_go(p->a, id, &token, 1, -1, &e), 0);
    UNTIL(p, l.fails || l.ends);
    assert_int_equal(l.fails, 1);
    assert_int_equal(l.why.code, ERR_INVALID);
    pair_check_clean(p);
}

// Cancelled while it is held, awaits rows, is paused, and while its rows leave.
static void test_cancel(void **state) {
    struct pair *p = *state;
    struct lone l;
    struct err e;
    int32_t slot;
    uint64_t id = ask(p, &l, true, 100, 500);
    UNTIL(p, l.begins);
    engine_cancel(p->a, id);
    id = ask(p, &l, true, 100, 500);
    assert_int_equal(arena_take(engine_arena(p->a), 1, &slot, &e), 0);
    assert_int_equal(engine_install(p->a, id, &(struct engine_unit){slot, 0, 10, false}, &e), 0);
    assert_int_equal(engine_go(p->a, id, NULL, 0, 99, &e), 0);
    arena_give(engine_arena(p->a), slot); // while the worker may be reading it
    engine_cancel(p->a, id);
    id = ask(p, &l, false, 100, 500);
    UNTIL(p, l.texts);
    assert_int_equal(engine_pause(p->a, id, &e), 0);
    UNTIL(p, l.pauses);
    int texts = l.texts;
    struct lone other;
    ask(p, &other, false, 20, 30); // time passes; the paused one keeps still
    UNTIL(p, other.ends);
    assert_int_equal(l.texts, texts);
    engine_cancel(p->a, id);
    id = ask(p, &l, true, 2000, 500);
    assert_int_equal(engine_export(p->a, id, 0, 4, &e), 0); // nobody takes the rows: the handle gives them back
    assert_int_equal(engine_go(p->a, id, NULL, 0, -1, &e), 0);
    UNTIL(p, l.texts);
    engine_cancel(p->a, id);
    pair_check_clean(p);
}

// More held sequences than cells: one fails with a clear word, the others live.
static void test_no_room(void **state) {
    struct pair *p = *state;
    struct lone l[4];
    uint64_t id[4];
    struct err e;
    for (int i = 0; i < 3; i++) id[i] = ask(p, &l[i], true, 2500, 100);
    UNTIL(p, l[0].begins && l[1].begins && l[2].begins);
    id[3] = ask(p, &l[3], false, 600, 1500); // 3 * 2500 + 600 cells of 8192 are left to it; it needs 1500 more
    UNTIL(p, l[0].fails || l[1].fails || l[2].fails || l[3].ends || l[3].fails);
    assert_int_equal(l[2].fails, 1); // the youngest
    assert_int_equal(l[2].why.code, ERR_BUSY);
    UNTIL(p, l[3].ends || l[3].fails);
    assert_int_equal(l[3].ends, 1);
    assert_int_equal(l[0].fails + l[1].fails, 0);
    for (int i = 0; i < 2; i++) assert_int_equal(engine_go(p->a, id[i], NULL, 0, -1, &e), 0);
    UNTIL(p, l[0].ends && l[1].ends);
    pair_check_clean(p);
}

// ---------------------------------------------------------------- models
static struct pair shared;

static int start_random(void **state) {
    pair_start(&shared, "random", "f16");
    *state = &shared;
    return 0;
}
static int start_q8(void **state) {
    pair_start(&shared, "random", "q8_0");
    *state = &shared;
    return 0;
}
static int start_recall(void **state) {
    pair_start(&shared, "recall", "f16");
    *state = &shared;
    return 0;
}
static int start_recurrent(void **state) {
    pair_start(&shared, "recurrent", "f16");
    *state = &shared;
    return 0;
}
static int start_windows(void **state) {
    pair_start(&shared, "windows", "f16");
    *state = &shared;
    return 0;
}
static int stop_pair(void **state) {
    pair_stop(*state);
    return 0;
}

static void test_digests_agree(void **state) {
    struct pair *p = *state;
    struct engine_status a, b;
    engine_get_status(p->a, &a);
    engine_get_status(p->b, &b);
    assert_int_equal(strlen(a.info.contract), 64);
    assert_string_equal(a.info.contract, b.info.contract);
    assert_string_equal(a.info.weights, b.info.weights);
    assert_string_not_equal(a.info.weights, a.info.contract);
    assert_memory_equal(&a.info.kv, &b.info.kv, sizeof a.info.kv);
}

static void test_recall(void **state) {
    struct pair *p = *state;
    pair_compare(p, 600, 0, 60, &plain, NULL);
    pair_compare(p, 400, 0, 60, &(struct plan){.rows = ROWS_NONE, .pause_after = 9}, NULL);
    pair_compare(p, 400, 1, 60, &(struct plan){.rows = ROWS_HALF, .pause_after = 9, .slots = 2}, NULL);
    pair_compare(p, 65, 0, 60, &plain, NULL);
    pair_check_clean(p);
}

// Several at the same time, in both directions: their rows stand side by side in batches and caches.
static void test_together(void **state) {
    enum { MANY = 5 };
    static struct mover alone[MANY], moved[MANY];
    struct pair *p = *state;
    struct gen_request r[MANY];
    for (int i = 0; i < MANY; i++) {
        pair_request(&r[i], p, 290 + 40 * i, i % 2, 60);
        assert_int_equal(mover_run(&alone[i], p->base, p->a, NULL, &r[i], NULL), 0);
    }
    for (int i = 0; i < MANY; i++)
        mover_start(&moved[i], p->base, i % 3 ? p->a : p->b, i % 3 ? p->b : p->a, &r[i], &plain);
    for (int i = 0; i < MANY; i++) {
        while (!moved[i].ended && !moved[i].failed) event_base_loop(p->base, EVLOOP_ONCE);
        if (moved[i].failed) fail_msg("%d: %s", i, moved[i].why.msg);
        pair_check_same(p, &alone[i], &moved[i], 290 + 40 * i, i % 2);
        mover_close(&moved[i]);
        gen_request_free(&r[i]);
    }
    pair_check_clean(p);
}

// The free cells of the cache lie scattered between those of another sequence.
static void test_scattered_cells(void **state) {
    struct pair *p = *state;
    struct engine_options o = pair_options(p->model, "f16");
    struct pair small = *p;
    struct lone keep, go;
    struct err e;
    static struct mover alone, moved;
    struct gen_request r;
    pair_request(&r, p, 300, 0, 40);
    assert_int_equal(mover_run(&alone, p->base, p->a, NULL, &r, NULL), 0);
    o.ctx = o.kv_cells = 768;
    small.b = mover_engine(p->base, &o);
    struct pair other = {.base = p->base, .a = small.b, .model = "random"};
    uint64_t kept = ask(&other, &keep, false, 4, 600), gone = ask(&other, &go, false, 4, 600);
    UNTIL(p, keep.texts >= 250 && go.texts >= 250);
    assert_int_equal(engine_pause(small.b, kept, &e), 0);
    UNTIL(p, keep.pauses);
    assert_int_equal(keep.ends + go.ends, 0);
    engine_cancel(small.b, gone);
    if (mover_run(&moved, p->base, p->a, small.b, &r, &plain)) fail_msg("%s", moved.why.msg);
    pair_check_same(p, &alone, &moved, 300, 0);
    mover_close(&moved);
    gen_request_free(&r);
    engine_stop(small.b);
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "worker")) {
        log_set_level(LOG_ERROR);
        return worker_main(1, argv + 1);
    }
    const struct CMUnitTest random[] = {
        cmocka_unit_test(test_digests_agree),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_rows_of_the_past),
        cmocka_unit_test(test_without_rows),
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_wrong_orders),
        cmocka_unit_test(test_start_what_runs),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_no_room),
    };
    const struct CMUnitTest q8[] = {cmocka_unit_test(test_every_length), cmocka_unit_test(test_there_and_back)};
    const struct CMUnitTest recall[] = {cmocka_unit_test(test_recall), cmocka_unit_test(test_together),
                                        cmocka_unit_test(test_scattered_cells)};
    const struct CMUnitTest whole[] = {
        cmocka_unit_test(test_every_length),     cmocka_unit_test(test_long),
        cmocka_unit_test(test_rows_of_the_past), cmocka_unit_test(test_without_rows),
        cmocka_unit_test(test_there_and_back),   cmocka_unit_test(test_ends),
    };
    bool all = argc == 1;
    int failed = 0;
    if (all || !strcmp(argv[1], "whole"))
        failed += cmocka_run_group_tests(whole, start_recurrent, stop_pair) +
                  cmocka_run_group_tests(whole, start_windows, stop_pair);
    if (all || !strcmp(argv[1], "random")) failed += cmocka_run_group_tests(random, start_random, stop_pair);
    if (all || !strcmp(argv[1], "recall"))
        failed +=
            cmocka_run_group_tests(q8, start_q8, stop_pair) + cmocka_run_group_tests(recall, start_recall, stop_pair);
    return failed;
}

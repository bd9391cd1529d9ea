#include "base/clock.h"
#include "base/limits.h"
#include "engine/worker/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MS NS_PER_MS

static int32_t point(const struct lane *lanes, int32_t n, const struct lane **out) {
    for (int32_t i = 0; i < n; i++) out[i] = &lanes[i];
    return n;
}

// ---------------------------------------------------------------- which tokens go into a step
struct plan_case {
    const char *name;
    struct lane lanes[4];
    int32_t n, budget;
    struct share want[4];
    int32_t n_want;
};

static const struct plan_case plan_cases[] = {
    {"nothing runs", {{0}}, 0, 512, {{0}}, 0},
    {"a prompt alone takes what the budget allows", {{.due = 5, .len = 1000}}, 1, 512, {{0, 512}}, 1},
    {"the rest of a prompt, not more", {{.due = 5, .len = 1000, .past = 900}}, 1, 512, {{0, 100}}, 1},
    {"every generating sequence goes, whatever the budget",
     {{.len = 9, .past = 8}, {.len = 7, .past = 6}},
     2,
     0,
     {{0, 1}, {1, 1}},
     2},
    {"generating ones stand before prompts",
     {{.due = 1, .len = 100}, {.due = 9, .len = 40, .past = 39}},
     2,
     32,
     {{1, 1}, {0, 32}},
     2},
    {"two prompts share a step, the first due first",
     {{.due = 8, .len = 100}, {.due = 3, .len = 60}},
     2,
     100,
     {{1, 60}, {0, 40}},
     2},
    {"one that began is not treated otherwise",
     {{.due = 8, .len = 1000, .past = 512}, {.due = 3, .len = 60}},
     2,
     40,
     {{1, 40}},
     1},
    {"a preempted one goes first",
     {{.due = 3, .len = 60, .serial = 1}, {.due = 0, .len = 70, .serial = 9}},
     2,
     100,
     {{1, 70}, {0, 30}},
     2},
    {"arrival settles ties",
     {{.due = 3, .serial = 2, .len = 50}, {.due = 3, .serial = 1, .len = 50}},
     2,
     50,
     {{1, 50}},
     1},
    {"the last token of a prompt is like any generated one", {{.due = 3, .len = 50, .past = 49}}, 1, 0, {{0, 1}}, 1},
    {"no budget, no prompt", {{.due = 3, .len = 50}}, 1, 0, {{0}}, 0},
};

static void test_plan(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof plan_cases / sizeof *plan_cases; i++) {
        const struct plan_case *c = &plan_cases[i];
        const struct lane *lanes[4];
        struct share out[4];
        int32_t n = batch_plan(lanes, point(c->lanes, c->n, lanes), c->budget, out);
        if (n != c->n_want || memcmp(out, c->want, (size_t)n * sizeof *out)) fail_msg("%s", c->name);
    }
}

// ---------------------------------------------------------------- budgets
static void test_budget(void **state) {
    (void)state;
    struct pace unknown = {0, 0}, p = {.prompt_ns = 1 * MS, .decode_ns = 50 * MS};
    assert_int_equal(pace_budget(&p, 0, 250 * MS, 512), 512);        // nobody waits for the step
    assert_int_equal(pace_budget(&p, 2, 250 * MS, 512), 200);        // (250 - 50) / 1
    assert_int_equal(pace_budget(&p, 2, 60 * MS, 512), BATCH_FLOOR); // prompts advance all the same
    assert_int_equal(pace_budget(&p, 2, 10 * MS, 512), BATCH_FLOOR); // even where generating alone takes longer
    assert_int_equal(pace_budget(&p, 2, 5000 * MS, 512), 510);       // the step has no more tokens
    assert_int_equal(pace_budget(&p, 7, 10 * MS, 16), 9);
    assert_int_equal(pace_budget(&p, 16, 10 * MS, 16), 1);
    assert_int_equal(pace_budget(&unknown, 1, 250 * MS, 512), BATCH_FLOOR);
}

static void test_learning(void **state) {
    (void)state;
    struct pace p = {0, 0};
    pace_learn(&p, 0, 500, 1000 * MS);
    assert_true(p.prompt_ns == 2.0 * MS);
    pace_learn(&p, 3, 0, 40 * MS);
    assert_true(p.decode_ns == 40.0 * MS);
    for (int i = 0; i < 200; i++) pace_learn(&p, 3, 100, 140 * MS); // 100 ms of it are the prompt's
    assert_true(p.prompt_ns > 0.99 * MS && p.prompt_ns < 1.01 * MS);
    double before = p.prompt_ns;
    pace_learn(&p, 0, 2, 40 * MS); // two tokens cost a whole reading of the weights: no measure for many
    assert_true(p.prompt_ns < before * 1.5);
    pace_learn(&p, 3, 100, 10 * MS); // quicker than generating alone
    assert_true(p.prompt_ns > 0);
}

// ---------------------------------------------------------------- fairness
// Runs a stream of arrivals through the scheduler: one prompt of `large` tokens at time 0, then one of `small` every
// `gap` ns. Returns how many small ones were read before the large one.
static int32_t overtakers(int32_t large, int32_t small, uint64_t gap) {
    enum { MANY = 1000, LANES = 8 };
    const struct pace p = {.prompt_ns = 1 * MS};
    struct lane all[MANY + 1];
    uint64_t now = 0, arrival[MANY + 1];
    for (uint64_t i = 0; i <= MANY; i++) {
        arrival[i] = i * gap;
        all[i] =
            (struct lane){.due = lane_due(arrival[i], i ? small : large, &p), .serial = i, .len = i ? small : large};
    }
    for (int32_t done = 0; done < MANY;) {
        const struct lane *lanes[LANES];
        struct lane *own[LANES];
        struct share out[LANES];
        int32_t n = 0, seen = 0;
        for (int32_t i = 0; i <= MANY && n < LANES; i++)
            if (arrival[i] <= now && all[i].past < all[i].len && ++seen) lanes[n] = own[n] = &all[i], n++;
        if (!n) {
            now += gap;
            continue;
        }
        int32_t shares = batch_plan(lanes, n, 64, out);
        for (int32_t k = 0; k < shares; k++) {
            struct lane *l = own[out[k].lane];
            l->past += out[k].count;
            now += (uint64_t)out[k].count * MS;
            if (l->past < l->len) continue;
            if (l == &all[0]) return done;
            done++;
        }
    }
    return MANY;
}

static void test_nobody_starves(void **state) {
    (void)state;
    // the small ones ask for all there is (100 tokens every 100 ms), and still the large one is read
    int32_t n = overtakers(2000, 100, 100 * MS);
    assert_in_range(n, 1, 2 * 2000 / 100);
    // one small prompt that comes a little later is read first
    assert_int_equal(overtakers(2000, 100, 1500 * MS), 1);
    // and one that comes too late is not
    assert_int_equal(overtakers(2000, 100, 2500 * MS), 0);
}

static void test_due(void **state) {
    (void)state;
    const struct pace p = {.prompt_ns = 1 * MS};
    struct lane large = {.due = lane_due(0, 4000, &p), .serial = 1},
                small = {.due = lane_due(100 * MS, 50, &p), .serial = 2};
    struct lane late = {.due = lane_due(4000 * MS, 50, &p), .serial = 3};
    assert_true(lane_before(&small, &large));
    assert_true(lane_before(&large, &late));
    assert_false(lane_before(&large, &large));
}

// ---------------------------------------------------------------- cells
static void test_admission(void **state) {
    (void)state;
    assert_true(batch_admits(100, 0, 0, 99));
    assert_true(batch_admits(100, 0, 0, 4000)); // alone, it is never kept waiting for what cannot come
    assert_true(batch_admits(1000, 500, 1, 500 - 1 - BATCH_HEADROOM));
    assert_false(batch_admits(1000, 500, 1, 500 - BATCH_HEADROOM));
    assert_true(batch_admits(1000, 500, 3, 500 - 1 - 3 * BATCH_HEADROOM));
    assert_false(batch_admits(1000, 500, 3, 500 - 3 * BATCH_HEADROOM));
    assert_false(batch_admits(INT32_MAX, INT32_MAX, 2, INT32_MAX));
}

static void test_victim(void **state) {
    (void)state;
    const struct lane *lanes[4];
    struct lane l[] = {{.serial = 4, .len = 40, .past = 39},
                       {.serial = 9, .len = 30, .past = 0},
                       {.serial = 2, .len = 30, .past = 29}};
    assert_int_equal(batch_cells(lanes, point(l, 3, lanes)), 100); // a prompt's cells count before it is read
    assert_int_equal(batch_victim(lanes, 3, 100), -1);
    assert_int_equal(batch_victim(lanes, 3, 99), 1);
    assert_int_equal(batch_victim(lanes, 1, 10), -1); // the only one is never preempted
    assert_int_equal(batch_victim(lanes, 0, 10), -1);
}

static void test_parked(void **state) {
    (void)state;
    const struct lane *lanes[4];
    struct share out[4];
    struct lane l[] = {{.serial = 1, .len = 40, .past = 39},
                       {.serial = 2, .len = 30, .past = 0},
                       {.serial = 3, .len = 30, .past = 29, .parked = true},
                       {.serial = 4, .len = 10, .past = 25, .parked = true}};
    int32_t n = point(l, 4, lanes);
    assert_int_equal(batch_plan(lanes, n, 100, out), 2); // those that wait are not computed
    assert_true(out[0].lane == 0 && out[1].lane == 1);
    assert_int_equal(batch_cells(lanes, n), 40 + 30 + 30 + 25); // but what they hold counts
    assert_int_equal(batch_victim(lanes, n, 124), 1);           // the youngest that can wait elsewhere
    l[1].parked = true;
    assert_int_equal(batch_youngest(lanes, n), 3); // the only one that runs goes on
    assert_int_equal(batch_youngest(lanes, 1), 0);
    assert_false(lane_decodes(&l[2]));
}

// Sequences that start and grow under these rules never need more cells than there are, and all come to their end.
static void test_cells_suffice(void **state) {
    (void)state;
    enum { CELLS = 300, COUNT = 40, SLOTS = 6 };
    struct lane l[COUNT], *running[SLOTS];
    int32_t wants[COUNT], n = 0, waiting = COUNT, finished = 0, preempted = 0;
    uint32_t random = 12345;
    bool here[COUNT] = {false}, done[COUNT] = {false};
    for (int32_t i = 0; i < COUNT; i++) {
        random = random * 1664525u + 1013904223u;
        l[i] = (struct lane){.serial = (uint64_t)i, .due = (uint64_t)i, .len = 1 + (int32_t)(random >> 20) % 150};
        wants[i] = l[i].len + (int32_t)(random >> 10) % 140; // at most 290: one alone always fits
    }
    for (int turn = 0; finished < COUNT; turn++) {
        assert_true(turn < 100000);
        const struct lane *lanes[SLOTS];
        for (int32_t i = 0; i < COUNT && n < SLOTS; i++) {
            for (int32_t k = 0; k < n; k++) lanes[k] = running[k];
            if (here[i] || done[i]) continue;
            if (!batch_admits(CELLS, batch_cells(lanes, n), n, l[i].len)) break;
            running[n++] = &l[i];
            here[i] = true;
            waiting--;
        }
        for (int32_t victim;;) {
            for (int32_t k = 0; k < n; k++) lanes[k] = running[k];
            if ((victim = batch_victim(lanes, n, CELLS)) < 0) break;
            running[victim]->past = 0;
            here[running[victim] - l] = false;
            running[victim] = running[--n];
            waiting++;
            preempted++;
        }
        assert_true(n > 0 && batch_cells(lanes, n) <= CELLS);
        struct share out[SLOTS];
        int32_t shares = batch_plan(lanes, n, 64, out);
        for (int32_t k = 0; k < shares; k++) running[out[k].lane]->past += out[k].count;
        for (int32_t k = n - 1; k >= 0; k--) {
            if (running[k]->past < running[k]->len) continue;
            int32_t i = (int32_t)(running[k] - l);
            if (l[i].len++ < wants[i]) continue;
            done[i] = true;
            here[i] = false;
            finished++;
            running[k] = running[--n];
        }
    }
    assert_int_equal(waiting, 0);
    assert_true(preempted > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),   cmocka_unit_test(test_budget),         cmocka_unit_test(test_learning),
        cmocka_unit_test(test_due),    cmocka_unit_test(test_nobody_starves), cmocka_unit_test(test_admission),
        cmocka_unit_test(test_victim), cmocka_unit_test(test_cells_suffice),  cmocka_unit_test(test_parked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "base/clock.h"
#include "engine/worker/emulate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MS NS_PER_MS

static const struct profile round_figures = {
    .prefill_base = 0.1, .prefill_token = 0.001, .prefill_pair = 1e-6, .decode_base = 0.02, .decode_token = 1e-5};

static struct emulate make(int32_t layers) {
    struct emulate m;
    emulate_init(&m, &round_figures, layers);
    return m;
}

static void close_to(double is, double should) {
    if (!(fabs(is - should) <= 1e-9)) fail_msg("%.9f should be %.9f", is, should);
}

// ---------------------------------------------------------------- what a pass costs
static void chunks_cost_what_the_prompt_does(void **state) {
    (void)state;
    struct emulate m = make(4);
    double sum = 0;
    for (int32_t past = 0; past < 1000; past += 300) {
        struct emulate_work w = {.seconds = 0};
        int32_t count = past + 300 < 1000 ? 300 : 1000 - past;
        emulate_prompt(&m, &w, count, past, past + count == 1000);
        sum += emulate_seconds(&m, &w);
    }
    close_to(sum, prefill_seconds(&round_figures, 1000, 0));
}

static void generating_costs_a_read_of_the_weights_and_every_context(void **state) {
    (void)state;
    struct emulate m = make(4);
    struct emulate_work w = {.seconds = 0};
    emulate_token(&m, &w, 100);
    close_to(emulate_seconds(&m, &w), decode_seconds(&round_figures, 100, 1));
    emulate_token(&m, &w, 500);
    close_to(emulate_seconds(&m, &w), 0.02 + 600 * 1e-5);
}

static void a_mixed_pass_reads_the_weights_once(void **state) {
    (void)state;
    struct emulate m = make(4);
    struct emulate_work w = {.seconds = 0};
    emulate_token(&m, &w, 100);
    emulate_prompt(&m, &w, 10, 0, false);
    close_to(emulate_seconds(&m, &w), 0.02 + 0.001 + 0.01 + 50e-6);
    emulate_prompt(&m, &w, 10, 0, true);
    close_to(emulate_seconds(&m, &w), 0.1 + 0.001 + 2 * (0.01 + 50e-6));
}

// ---------------------------------------------------------------- when
static void oversleeping_does_not_add_up(void **state) {
    (void)state;
    struct emulate m = make(4);
    uint64_t now = 1000 * MS;
    emulate_begin(&m, now, 0.1);
    for (int i = 1; i <= 50; i++) {
        assert_true(m.due == 1000 * MS + (uint64_t)i * 100 * MS);
        now = m.due + 3 * MS; // a sleep that ends late, sampling, sending
        emulate_begin(&m, now, 0.1);
    }
}

static void what_is_too_late_is_not_made_up_for(void **state) {
    (void)state;
    struct emulate m = make(4);
    emulate_begin(&m, 1000 * MS, 0.1);
    emulate_begin(&m, 1100 * MS + EMULATE_LATE_NS + 1, 0.1);
    assert_true(m.begun == 1100 * MS + EMULATE_LATE_NS + 1);
}

static void rest_and_abandoned_passes_end_the_chain(void **state) {
    (void)state;
    struct emulate m = make(4);
    emulate_begin(&m, 1000 * MS, 0.1);
    emulate_rest(&m);
    emulate_begin(&m, 1105 * MS, 0.1);
    assert_true(m.begun == 1105 * MS);
    emulate_begin(&m, 1110 * MS, 0.1); // the other one was due at 1205
    assert_true(m.begun == 1110 * MS);
}

static void a_slow_machine_is_told_by_how_much(void **state) {
    (void)state;
    struct emulate m = make(4);
    emulate_begin(&m, 1000 * MS, 0.1);
    close_to(emulate_end(&m, 1000 * MS, 1050 * MS), 0);
    close_to(emulate_end(&m, 1000 * MS, 1100 * MS + EMULATE_LATE_NS), 0);
    close_to(emulate_end(&m, 1000 * MS, 1300 * MS), 3);
}

// ---------------------------------------------------------------- layers
static void layers_are_spread_over_the_pass(void **state) {
    (void)state;
    struct emulate m = make(4);
    emulate_begin(&m, 0, 0.4);
    assert_true(emulate_layer(&m, 0, 1 * MS) == 100 * MS); // that a layer takes 10 ms is not known yet
    assert_true(emulate_layer(&m, 0, 2 * MS) == 0);        // its values, after its keys
    emulate_resumed(&m, 100 * MS);
    assert_true(emulate_layer(&m, 1, 110 * MS) == 190 * MS);
    emulate_resumed(&m, 190 * MS);
    assert_true(emulate_layer(&m, 2, 200 * MS) == 290 * MS);
    emulate_resumed(&m, 290 * MS);
    assert_true(emulate_layer(&m, 3, 300 * MS) == 390 * MS); // and it ends at 400
    assert_true(emulate_layer(&m, 9, 500 * MS) <= 400 * MS); // never beyond the end
}

static void a_slow_layer_leaves_no_earlier_than_it_would_begin(void **state) {
    (void)state;
    struct emulate m = make(4);
    emulate_begin(&m, 0, 0.4);
    emulate_layer(&m, 0, 0);
    emulate_resumed(&m, 100 * MS);
    assert_true(emulate_layer(&m, 1, 900 * MS) == 100 * MS);
}

// ---------------------------------------------------------------- waiting
static bool never(void *arg) {
    ++*(int *)arg;
    return false;
}

static bool third(void *arg) { return ++*(int *)arg == 3; }

static void waits_until_then_or_until_it_is_told(void **state) {
    (void)state;
    int asked = 0;
    uint64_t due = clock_mono_ns() + 30 * MS;
    emulate_wait(due, never, &asked);
    assert_true(clock_mono_ns() >= due);
    assert_true(asked >= 1);
    asked = 0;
    due = clock_mono_ns() + 3600 * NS_PER_S;
    emulate_wait(due, third, &asked);
    assert_int_equal(asked, 3);
    assert_true(clock_mono_ns() < due);
    emulate_wait(clock_mono_ns() - 1, third, &asked); // past: nobody is asked
    assert_int_equal(asked, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_cost_what_the_prompt_does),
        cmocka_unit_test(generating_costs_a_read_of_the_weights_and_every_context),
        cmocka_unit_test(a_mixed_pass_reads_the_weights_once),
        cmocka_unit_test(oversleeping_does_not_add_up),
        cmocka_unit_test(what_is_too_late_is_not_made_up_for),
        cmocka_unit_test(rest_and_abandoned_passes_end_the_chain),
        cmocka_unit_test(a_slow_machine_is_told_by_how_much),
        cmocka_unit_test(layers_are_spread_over_the_pass),
        cmocka_unit_test(a_slow_layer_leaves_no_earlier_than_it_would_begin),
        cmocka_unit_test(waits_until_then_or_until_it_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// When a worker is given up as silent, with made-up times.
#include "engine/watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { EVERY = 500 };

// Looks in time until the worker is given up; how many that took.
static int looks_until_given_up(struct watch *w, uint64_t *now, bool stopped) {
    for (int n = 1; n <= 1000; n++) {
        *now += EVERY;
        if (watch_look(w, *now, EVERY, stopped)) return n;
    }
    return 0;
}

static void test_silence(void **state) {
    (void)state;
    struct watch w;
    uint64_t now = 77;
    watch_begin(&w, now, EVERY);
    assert_int_equal(looks_until_given_up(&w, &now, false), WATCH_SILENT);
    watch_begin(&w, now, EVERY);
    assert_int_equal(looks_until_given_up(&w, &now, true), WATCH_STOPPED);
}

static void test_one_that_speaks_is_kept(void **state) {
    (void)state;
    struct watch w;
    uint64_t now = 0;
    watch_begin(&w, now, EVERY);
    for (int i = 0; i < 100 * WATCH_SILENT; i++) {
        if (i % (WATCH_STOPPED - 1) == 0) watch_heard(&w);
        assert_false(watch_look(&w, now += EVERY, EVERY, true));
    }
    watch_heard(&w); // anew from here
    assert_int_equal(looks_until_given_up(&w, &now, false), WATCH_SILENT + 1);
}

// Stopped by a signal after a long silence: given up at once.
static void test_a_silent_one_that_is_stopped(void **state) {
    (void)state;
    struct watch w;
    uint64_t now = 0;
    watch_begin(&w, now, EVERY);
    for (int i = 1; i < WATCH_SILENT; i++) assert_false(watch_look(&w, now += EVERY, EVERY, false));
    assert_true(watch_look(&w, now += EVERY, EVERY, true));
}

static void test_a_late_look_is_a_fresh_deadline(void **state) {
    (void)state;
    struct watch w;
    uint64_t now = 0;
    watch_begin(&w, now, EVERY);
    for (int i = 1; i < WATCH_STOPPED; i++) assert_false(watch_look(&w, now += EVERY, EVERY, true));
    assert_false(watch_look(&w, now += 3600 * EVERY, EVERY, true)); // asleep for a while
    assert_int_equal(looks_until_given_up(&w, &now, true), WATCH_STOPPED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_one_that_speaks_is_kept),
        cmocka_unit_test(test_a_silent_one_that_is_stopped),
        cmocka_unit_test(test_a_late_look_is_a_fresh_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

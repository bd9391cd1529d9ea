// Rates of made-up arrivals.
#include "cluster/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct rate r;
static uint64_t bytes, ns;

static void test_nothing(void **state) {
    (void)state;
    rate_begin(&r, 100, 100);
    assert_false(rate_get(&r, &bytes, &ns));
    rate_add(&r, 10, 1000); // one piece says nothing: since when was it under way?
    assert_false(rate_get(&r, &bytes, &ns));
    rate_add(&r, 10, 1000); // nor do two at once
    assert_false(rate_get(&r, &bytes, &ns));
}

static void test_skips_by_bytes(void **state) {
    (void)state;
    rate_begin(&r, 100, UINT64_MAX);
    rate_add(&r, 60, 1000);
    rate_add(&r, 60, 1001); // a buffer took them at once
    assert_true(rate_get(&r, &bytes, &ns));
    assert_int_equal(bytes, 60); // the best there is so far
    assert_int_equal(ns, 1);
    rate_add(&r, 50, 1051);
    rate_add(&r, 50, 1101);
    assert_true(rate_get(&r, &bytes, &ns));
    assert_int_equal(bytes, 100);
    assert_int_equal(ns, 100);
    assert_int_equal(r.bytes, 220);
}

static void test_skips_by_time(void **state) {
    (void)state;
    rate_begin(&r, UINT64_MAX, 100);
    rate_add(&r, 1, 5000);
    rate_add(&r, 1, 5099);
    assert_false(r.warm);
    rate_add(&r, 1, 5100);
    assert_true(r.warm);
    rate_add(&r, 40, 5120);
    assert_true(rate_get(&r, &bytes, &ns));
    assert_int_equal(bytes, 40);
    assert_int_equal(ns, 20);
}

static void test_no_beginning(void **state) {
    (void)state;
    rate_begin(&r, 0, 0);
    rate_add(&r, 7, 1);
    rate_add(&r, 8, 3);
    assert_true(rate_get(&r, &bytes, &ns));
    assert_int_equal(bytes, 8);
    assert_int_equal(ns, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing), cmocka_unit_test(test_skips_by_bytes),
                                       cmocka_unit_test(test_skips_by_time), cmocka_unit_test(test_no_beginning)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

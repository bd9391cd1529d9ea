// Which kept sequence is found, and which goes.
#include "engine/worker/keep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LONG = 100, ALL = INT32_MAX };

// n tokens that differ from those of another kind from `same` on.
static int32_t *tokens(int32_t n, int32_t same, int32_t kind) {
    int32_t *list = malloc((size_t)n * sizeof *list);
    assert_non_null(list);
    for (int32_t i = 0; i < n; i++) list[i] = i < same ? i : i + 1000 * kind;
    return list;
}

static bool strict; // what is asked for

static int32_t best(const struct keeper *k, int32_t n, int32_t same, int32_t kind, int32_t *shared) {
    int32_t *list = tokens(n, same, kind), found = keeper_best(k, list, n, strict, shared);
    free(list);
    return found < 0 ? -1 : k->list[found].slot;
}

static void test_longest_prefix(void **state) {
    (void)state;
    struct keeper k = {.n = 0};
    int32_t shared = 7;
    assert_int_equal(best(&k, LONG, LONG, 0, &shared), -1);
    assert_int_equal(shared, 0);
    assert_int_equal(keeper_add(&k, 3, tokens(LONG, 40, 1), LONG, ALL), -1);
    assert_int_equal(keeper_add(&k, 4, tokens(LONG, 60, 2), LONG, ALL), -1);
    assert_int_equal(keeper_add(&k, 5, tokens(LONG, 20, 3), LONG, ALL), -1);
    assert_int_equal(keeper_cells(&k), 3 * LONG);
    assert_int_equal(best(&k, LONG, 60, 9, &shared), 4);
    assert_int_equal(shared, 60);
    assert_int_equal(best(&k, LONG, 30, 9, &shared), 5 - 1); // 3 and 4 share as much: the latest
    assert_int_equal(shared, 30);
    assert_int_equal(best(&k, 200, 40, 1, &shared), 3);
    assert_int_equal(shared, LONG);
    assert_int_equal(best(&k, LONG, KEEP_LEAST - 1, 9, &shared), -1);
    assert_int_equal(shared, 0);
    assert_int_equal(best(&k, KEEP_LEAST, LONG, 0, &shared), 5);
    keeper_close(&k);
    assert_int_equal(keeper_cells(&k), 0);
}

static void test_order_of_use(void **state) {
    (void)state;
    struct keeper k = {.n = 0};
    for (int32_t i = 0; i < 4; i++) keeper_add(&k, i, tokens(LONG, 20, 1 + i), LONG, ALL);
    keeper_touch(&k, 0);
    keeper_touch(&k, 1); // was the third
    assert_int_equal(keeper_take(&k, 0), 1);
    assert_int_equal(keeper_take(&k, 2), 2);
    assert_int_equal(keeper_take(&k, 0), 3);
    assert_int_equal(keeper_take(&k, 0), 0);
    assert_int_equal(k.n, 0);
}

static void test_nothing_twice(void **state) {
    (void)state;
    struct keeper k = {.n = 0};
    keeper_add(&k, 1, tokens(50, 50, 0), 50, ALL);
    keeper_add(&k, 2, tokens(LONG, 20, 1), LONG, ALL);
    assert_int_equal(keeper_add(&k, 3, tokens(40, 40, 0), 40, ALL), 3); // 1 holds it all, and was used just now
    assert_int_equal(k.n, 2);
    assert_int_equal(k.list[1].slot, 1);
    assert_int_equal(keeper_add(&k, 3, tokens(50, 50, 0), 50, ALL), 3);
    assert_int_equal(keeper_add(&k, 3, tokens(60, 60, 0), 60, ALL), 1); // it holds all of 1
    assert_int_equal(k.n, 2);
    assert_int_equal(keeper_cells(&k), LONG + 60);
    keeper_close(&k);
}

// Rows that travelled more coarsely, and those that follow them, are not for everybody.
static void test_exact_ones(void **state) {
    (void)state;
    struct keeper k = {.n = 0};
    int32_t shared;
    keeper_add(&k, 1, tokens(LONG, LONG, 0), LONG, 30);
    assert_int_equal(best(&k, LONG, LONG, 0, &shared), 1);
    assert_int_equal(shared, LONG);
    strict = true;
    assert_int_equal(best(&k, LONG, LONG, 0, &shared), 1);
    assert_int_equal(shared, 30);
    assert_int_equal(keeper_add(&k, 2, tokens(50, 50, 0), 50, ALL), -1); // it is shorter, but holds more that is exact
    assert_int_equal(best(&k, LONG, LONG, 0, &shared), 2);
    assert_int_equal(shared, 50);
    strict = false;
    assert_int_equal(best(&k, LONG, LONG, 0, &shared), 1);
    assert_int_equal(keeper_add(&k, 3, tokens(60, 60, 0), 60, 40), -1);       // longer than 2, but less exact
    assert_int_equal(keeper_add(&k, 4, tokens(55, 55, 0), 55, 20), 4);        // 1 holds it, and is no worse
    assert_int_equal(keeper_add(&k, 5, tokens(LONG, LONG, 0), LONG, ALL), 2); // as good as any in all of them
    keeper_add(&k, 6, tokens(LONG, 10, 7), LONG, KEEP_LEAST - 1);
    strict = true;
    assert_int_equal(best(&k, LONG, 10, 7, &shared), -1); // too few of it are exact
    strict = false;
    keeper_close(&k);
}

static void test_how_many(void **state) {
    (void)state;
    assert_int_equal(keep_most(12, 5000000000, 128 << 10), 4577); // 5 GB of weights, 128 kB a token
    assert_int_equal(keep_most(12, 1 << 20, 1 << 20), 0);
    assert_int_equal(keep_most(12, 1 << 30, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_ones),     cmocka_unit_test(test_how_many),
        cmocka_unit_test(test_longest_prefix), cmocka_unit_test(test_order_of_use),
        cmocka_unit_test(test_nothing_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

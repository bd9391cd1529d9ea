#include "engine/worker/sizes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define GIB (1ll << 30)

// An 8B model in 4 bits on a machine with 32 GiB.
static const struct facts home = {.cores = 8,
                                  .ctx_train = 131072,
                                  .layers = 32,
                                  .free_bytes = 28 * GIB,
                                  .model_bytes = 4 * GIB,
                                  .kv_bytes = 128 << 10};
static const struct engine_options asked_nothing = {.parallel = 8, .gpu_layers = -1};

static void test_defaults(void **state) {
    (void)state;
    struct sizes s;
    sizes_choose(&asked_nothing, &home, &s);
    assert_int_equal(s.parallel, 8);
    assert_int_equal(s.threads, 8);
    assert_int_equal(s.chunk, 512);
    assert_int_equal(s.kv_cells, SIZES_CELLS_MAX); // 6 GiB would hold 49152
    assert_int_equal(s.ctx, SIZES_CELLS_MAX);
    assert_int_equal(s.gpu_layers, 0);
}

static void test_memory_bounds_the_cache(void **state) {
    (void)state;
    struct facts f = home;
    struct sizes s;
    f.free_bytes = 8 * GIB;
    sizes_choose(&asked_nothing, &f, &s);
    assert_int_equal(s.kv_cells, 8192); // a quarter of 4 GiB
    f.free_bytes = 3 * GIB;             // less than the model: it may still run from the page cache
    sizes_choose(&asked_nothing, &f, &s);
    assert_int_equal(s.kv_cells, SIZES_CELLS_MIN);
    f.free_bytes = 0; // unknown
    sizes_choose(&asked_nothing, &f, &s);
    assert_int_equal(s.kv_cells, SIZES_CELLS_MAX);
}

static void test_small_models(void **state) {
    (void)state;
    struct facts f = home;
    struct sizes s;
    f.ctx_train = 1024;
    sizes_choose(&asked_nothing, &f, &s);
    assert_int_equal(s.ctx, 1024);
    assert_int_equal(s.kv_cells, 8 * 1024); // what eight full sequences need, no more
    f.ctx_train = 0;                        // unknown
    sizes_choose(&asked_nothing, &f, &s);
    assert_true(s.ctx > 0 && s.ctx <= s.kv_cells);
}

static void test_wishes(void **state) {
    (void)state;
    struct sizes s;
    struct engine_options o = {.ctx = 65536, .parallel = 2, .threads = 3, .chunk = 64, .gpu_layers = 5};
    sizes_choose(&o, &home, &s);
    assert_int_equal(s.ctx, 65536);
    assert_int_equal(s.kv_cells, 65536);
    assert_int_equal(s.parallel, 2);
    assert_int_equal(s.threads, 3);
    assert_int_equal(s.chunk, 64);
    assert_int_equal(s.gpu_layers, 5);
    o.kv_cells = 500; // smaller than the context that was asked for
    sizes_choose(&o, &home, &s);
    assert_int_equal(s.kv_cells, 500);
    assert_int_equal(s.ctx, 500);
}

static void test_gpu(void **state) {
    (void)state;
    struct facts f = home;
    struct sizes s;
    f.gpu_bytes = 24 * GIB;
    sizes_choose(&asked_nothing, &f, &s);
    assert_int_equal(s.gpu_layers, 33);
    f.gpu_bytes = 4 * GIB;
    sizes_choose(&asked_nothing, &f, &s);
    assert_in_range(s.gpu_layers, 10, 16); // model and cache are 8 GiB in 33 parts
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_defaults), cmocka_unit_test(test_memory_bounds_the_cache),
                                       cmocka_unit_test(test_small_models), cmocka_unit_test(test_wishes),
                                       cmocka_unit_test(test_gpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

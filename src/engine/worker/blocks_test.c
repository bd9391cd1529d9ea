// The worker's view of shared memory: blocks come and go once, and units lie where they may.
#include "engine/worker/blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static const struct arena_info info = {.bytes = 10000, .blocks = 3, .block_bytes = 1000};

static int file_of(size_t bytes) {
    char path[] = P_tmpdir "/blocks_test.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    return fd;
}

static void come_and_go(void **state) {
    (void)state;
    struct blocks b;
    struct err e;
    int fd = file_of(10000);
    blocks_init(&b);
    assert_int_equal(blocks_take(&b), -1);
    assert_int_equal(blocks_map(&b, fd, &info, &e), 0);
    close(fd);
    int32_t taken[4];
    for (int i = 0; i < 4; i++) taken[i] = blocks_take(&b);
    assert_int_equal(taken[3], -1);
    assert_true(taken[0] != taken[1] && taken[1] != taken[2] && taken[0] != taken[2]);
    for (int i = 0; i < 3; i++) memset(blocks_at(&b, taken[i]), i, 1000);
    assert_int_equal(*(char *)blocks_at(&b, taken[1]), 1);
    assert_int_equal(blocks_give(&b, (int32_t[]){taken[1], taken[1]}, 2), -1); // the second time it was here
    assert_int_equal(blocks_give(&b, (int32_t[]){3, -1}, 2), -1);
    assert_int_equal(blocks_take(&b), taken[1]);
    assert_int_equal(blocks_take(&b), -1);
    blocks_close(&b);
}

static void units(void **state) {
    (void)state;
    struct blocks b;
    struct err e;
    int fd = file_of(10000);
    blocks_init(&b);
    assert_null(blocks_unit(&b, 5000, 1)); // nothing is mapped
    assert_int_equal(blocks_map(&b, fd, &info, &e), 0);
    assert_non_null(blocks_unit(&b, 3000, 7000));
    assert_null(blocks_unit(&b, 3000, 7001));
    assert_null(blocks_unit(&b, 2999, 1)); // among the blocks
    assert_null(blocks_unit(&b, 10001, 0));
    assert_null(blocks_unit(&b, -1, 1));
    assert_null(blocks_unit(&b, INT64_MAX, SIZE_MAX));
    assert_int_equal(blocks_map(&b, fd, &info, &e), -1); // once
    close(fd);
    blocks_close(&b);
}

static void wrong_memory(void **state) {
    (void)state;
    struct blocks b;
    struct err e;
    int fd = file_of(9999);
    blocks_init(&b);
    assert_int_equal(blocks_map(&b, fd, &info, &e), -1);
    assert_int_equal(blocks_map(&b, -1, &info, &e), -1);
    assert_null(b.memory);
    close(fd);
    blocks_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(come_and_go),
        cmocka_unit_test(units),
        cmocka_unit_test(wrong_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

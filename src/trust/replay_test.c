#include "trust/replay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct replay *r;

static int setup(void **state) {
    (void)state;
    return (r = replay_new()) ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    replay_free(r);
    return 0;
}

// Number i; all of them begin in the same slot.
static enum replay_answer use(uint32_t i, int64_t expires, int64_t now) {
    uint8_t digest[DIGEST_BYTES] = {7};
    memcpy(digest + 8, &i, sizeof i);
    return replay_use(r, digest, expires, now);
}

static enum replay_answer use_hashed(uint32_t i, int64_t expires, int64_t now) {
    uint8_t digest[DIGEST_BYTES];
    digest_of(&i, sizeof i, digest);
    return replay_use(r, digest, expires, now);
}

static void test_once(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 500; i++) assert_int_equal(use(i, 1000, 1), REPLAY_FRESH);
    for (uint32_t i = 0; i < 500; i++) assert_int_equal(use(i, 1000, 999), REPLAY_USED);
    assert_int_equal(replay_count(r), 500);
    assert_int_equal(use(500, 0, 1), REPLAY_USED); // no time at all
}

// What was forgotten cannot be used again, whatever the clock says then.
static void test_what_is_forgotten(void **state) {
    (void)state;
    assert_int_equal(use_hashed(0, 100, 1), REPLAY_FRESH);
    for (uint32_t i = 1; i < 200; i++) assert_int_equal(use_hashed(i, 5000, 2000), REPLAY_FRESH); // makes room
    assert_int_equal(replay_count(r), 199);
    assert_int_equal(use_hashed(0, 100, 50), REPLAY_USED);
    assert_int_equal(use_hashed(777, 100, 50), REPLAY_USED); // the price
    assert_int_equal(use_hashed(777, 101, 50), REPLAY_FRESH);
    // a clock that was far in the future for a while
    for (uint32_t i = 1000; i < 1200; i++) assert_int_equal(use_hashed(i, 900000, 800000), REPLAY_FRESH);
    for (uint32_t i = 1; i < 200; i++) assert_int_equal(use_hashed(i, 5000, 2100), REPLAY_USED);
    assert_int_equal(use_hashed(778, 5001, 2100), REPLAY_FRESH);
}

static void test_full(void **state) {
    (void)state;
    for (uint32_t i = 0; i < REPLAY_MOST; i++) assert_int_equal(use_hashed(i, 1000 + i, 1), REPLAY_FRESH);
    assert_int_equal(use_hashed(REPLAY_MOST, 99999999, 1), REPLAY_FULL);
    assert_int_equal(use_hashed(0, 1000, 1), REPLAY_USED); // and nothing was lost for it
    assert_int_equal(use_hashed(REPLAY_MOST - 1, 1000 + REPLAY_MOST - 1, 1), REPLAY_USED);
    assert_int_equal(use_hashed(REPLAY_MOST, 99999999, 1000), REPLAY_FRESH); // the first has expired
    assert_int_equal(replay_count(r), REPLAY_MOST);
    assert_int_equal(use_hashed(0, 1000, 1), REPLAY_USED);
    assert_int_equal(use_hashed(REPLAY_MOST + 1, 99999999, 1000), REPLAY_FULL);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_once), TEST(test_what_is_forgotten), TEST(test_full)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

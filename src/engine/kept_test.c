#include "base/json.h"
#include "engine/kept.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <string.h>

enum { MOST = 5000 };
static int32_t tokens[MOST], other[MOST];
static uint64_t hashes[MOST], others[MOST];
static struct kept_marks marks;

static int setup(void **state) {
    (void)state;
    marks.n = 0;
    for (int32_t i = 0; i < MOST; i++) tokens[i] = other[i] = i * 7 % 1000;
    kept_hashes(tokens, MOST, hashes);
    return 0;
}

// How much of a prompt that leaves the kept one after `same` tokens is known.
static int32_t shared_after(int32_t same, int32_t n) {
    memcpy(other, tokens, sizeof other);
    for (int32_t i = same; i < n; i++) other[i] = 2000 + i;
    kept_hashes(other, n, others);
    return kept_shared(&marks, others, n);
}

static void test_what_is_shared(void **state) {
    (void)state;
    kept_add(&marks, hashes, 1000);
    assert_true(marks.n <= KEPT_EACH);
    assert_int_equal(shared_after(1000, 1500), 1000); // the next turn
    assert_int_equal(shared_after(999, 1500), 960);   // the last mark before
    assert_int_equal(shared_after(500, 600), 448);
    assert_int_equal(shared_after(64, 65), 64);
    assert_int_equal(shared_after(63, 100), 0);
    assert_int_equal(shared_after(1000, 900), 896); // a shorter one
    assert_int_equal(shared_after(0, 1000), 0);
    for (int32_t i = 0; i + 1 < 1000; i++) { // another order is another text
        if (i % 100) continue;
        memcpy(other, tokens, sizeof other);
        other[i] = tokens[i + 1];
        other[i + 1] = tokens[i];
        kept_hashes(other, 1000, others);
        assert_true(kept_shared(&marks, others, 1000) <= i);
    }
}

static void test_bounded(void **state) {
    (void)state;
    kept_add(&marks, hashes, MOST);
    assert_true(marks.n <= KEPT_EACH);
    assert_int_equal(shared_after(4000, MOST), 3584); // blocks of 512
    for (int i = 0; i < 100; i++) kept_add(&marks, hashes, 1 + 40 * i);
    assert_int_equal(marks.n, KEPT_MARKS);
    kept_add(&marks, hashes, 0);
    assert_int_equal(marks.n, KEPT_MARKS);
}

static void test_told(void **state) {
    static const char *const bad[] = {"{}",          "7",         "[1]",       "[[1]]",       "[[0,5]]",
                                      "[[-1,5]]",    "[[1,2,3]]", "[[1.5,2]]", "[[1,\"2\"]]", "[[4294967297,1]]",
                                      "[[1,1],null]"};
    struct kept_marks read;
    struct err e;
    (void)state;
    kept_add(&marks, hashes, 1000);
    json_t *o = kept_encode(&marks);
    assert_int_equal(kept_decode(o, &read, &e), 0);
    assert_int_equal(read.n, marks.n);
    for (int32_t i = 0; i < read.n; i++)
        assert_true(read.list[i].tokens == marks.list[i].tokens && read.list[i].hash == marks.list[i].hash);
    json_decref(o);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        o = json_loads(bad[i], JSON_DECODE_ANY, NULL);
        assert_non_null(o);
        if (!kept_decode(o, &read, &e)) fail_msg("%s was taken", bad[i]);
        assert_int_equal(read.n, 0);
        json_decref(o);
    }
    assert_int_equal(kept_decode(NULL, &read, &e), 0);
    o = json_array();
    for (int i = 0; i < 2 * KEPT_MARKS; i++) json_array_append_new(o, json_pack("[i,i]", i + 1, i));
    assert_int_equal(kept_decode(o, &read, &e), 0);
    assert_int_equal(read.n, KEPT_MARKS);
    json_decref(o);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_what_is_shared, setup),
                                       cmocka_unit_test_setup(test_bounded, setup),
                                       cmocka_unit_test_setup(test_told, setup)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

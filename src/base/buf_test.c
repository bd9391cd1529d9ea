#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_grows_and_stays_terminated(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 100000);
    assert_string_equal(buf_str(&b), "");
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(buf_printf(&b, "%d,", i), 0);
        assert_int_equal(strlen(b.data), b.len);
    }
    assert_memory_equal(b.data, "0,1,2,", 6);
    assert_string_equal(b.data + b.len - 8, "998,999,");
    buf_free(&b);
    assert_null(b.data);
    assert_int_equal(b.max, 100000);
}

static void test_maximum_is_exact(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 8);
    assert_int_equal(buf_puts(&b, "12345678"), 0);
    assert_int_equal(buf_append(&b, "", 0), 0);
    assert_int_equal(buf_append(&b, "9", 1), -1);
    assert_true(b.failed);
    assert_string_equal(b.data, "12345678");     // as it was
    assert_int_equal(buf_append(&b, "", 0), -1); // a failure sticks
    buf_clear(&b);
    assert_false(b.failed);
    assert_int_equal(buf_printf(&b, "%s", "123456789"), -1);
    assert_string_equal(b.data, "");
    buf_free(&b);
}

static void test_absurd_sizes(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, SIZE_MAX);
    assert_int_equal(buf_puts(&b, "x"), 0);
    assert_int_equal(buf_reserve(&b, SIZE_MAX), -1);
    buf_clear(&b);
    assert_int_equal(buf_reserve(&b, SIZE_MAX - 1), -1);
    assert_int_equal(b.len, 0);
    buf_free(&b);
}

static void test_consume(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 64);
    buf_consume(&b, 0); // before any memory
    assert_int_equal(buf_append(&b, "ab\0cdef", 7), 0);
    buf_consume(&b, 3);
    assert_string_equal(b.data, "cdef");
    assert_int_equal(b.len, 4);
    buf_consume(&b, 4);
    assert_int_equal(b.len, 0);
    assert_string_equal(buf_str(&b), "");
    buf_free(&b);
    buf_free(&b); // twice is fine
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows_and_stays_terminated),
        cmocka_unit_test(test_maximum_is_exact),
        cmocka_unit_test(test_absurd_sizes),
        cmocka_unit_test(test_consume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

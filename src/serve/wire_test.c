// The choice of what rows travel as: 8 layers of 64 + 64 numbers are 2,048 bytes of f16 per row.
#include "serve/wire.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct kv_shape shape_of(enum kv_form form, enum kv_dtype dtype, int32_t k, int32_t v) {
    return (struct kv_shape){.form = form, .dtype = dtype, .layers = 8, .unit = 64, .width = {k, v}};
}

static void test_table(void **state) {
    (void)state;
    static const struct {
        enum kv_form form;
        enum kv_dtype cache;
        int32_t k, v;
        double rows_s, bytes_s;
        enum kv_dtype wire;
    } cases[] = {
        {KV_ROWS, KV_F16, 64, 64, 1000, 1e9, KV_F16},                  // the link is far ahead
        {KV_ROWS, KV_F16, 64, 64, 1000, 2048e3 * WIRE_MARGIN, KV_F16}, // just fast enough
        {KV_ROWS, KV_F16, 64, 64, 1000, 2048e3 * WIRE_MARGIN - 1, KV_Q8_0},
        {KV_ROWS, KV_F16, 64, 64, 1000, 2048e3, KV_Q8_0}, // without a margin
        {KV_ROWS, KV_F16, 64, 64, 1000, 1, KV_Q8_0},
        {KV_ROWS, KV_F16, 64, 64, 10, 2048e3, KV_F16}, // a slow prefill hides a slow link
        {KV_ROWS, KV_F16, 64, 64, 0, 1, KV_F16},       // nothing is known of the prefill
        {KV_ROWS, KV_F16, 64, 64, 1000, 0, KV_F16},    // nor of the link
        {KV_ROWS, KV_F16, 64, 64, -1, 1, KV_F16},      // nonsense is not knowledge
        {KV_ROWS, KV_F16, 64, 64, 1000, -5, KV_F16},
        {KV_ROWS, KV_F16, 64, 64, NAN, 1, KV_F16},
        {KV_ROWS, KV_F16, 64, 64, 1000, NAN, KV_F16},
        {KV_ROWS, KV_F16, 40, 64, 1000, 1, KV_F16}, // rows that cannot be packed
        {KV_ROWS, KV_F16, 64, 16, 1000, 1, KV_F16},
        {KV_ROWS, KV_Q8_0, 64, 64, 1, 1e12, KV_Q8_0}, // the cache's own
        {KV_ROWS, KV_Q8_0, 64, 64, 0, 0, KV_Q8_0},
        {KV_OPAQUE, KV_F16, 64, 64, 1000, 1, KV_F16}, // a state
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kv_shape shape = shape_of(cases[i].form, cases[i].cache, cases[i].k, cases[i].v);
        assert_int_equal(wire_choose(&shape, cases[i].rows_s, cases[i].bytes_s), cases[i].wire);
    }
}

static void test_a_wish_counts_where_it_can_be_obeyed(void **state) {
    (void)state;
    static const struct {
        enum kv_form form;
        enum kv_dtype cache;
        int32_t k;
        const char *wish;
        enum kv_dtype wire;
    } cases[] = {
        {KV_ROWS, KV_F16, 64, "f16", KV_F16},    {KV_ROWS, KV_F16, 64, "q8_0", KV_Q8_0},
        {KV_ROWS, KV_F16, 64, "auto", KV_Q8_0},  {KV_ROWS, KV_F16, 64, "", KV_Q8_0},
        {KV_ROWS, KV_F16, 64, "q8_1", KV_Q8_0},  {KV_ROWS, KV_F16, 40, "q8_0", KV_F16}, // cannot be packed
        {KV_ROWS, KV_Q8_0, 64, "f16", KV_Q8_0},                                         // the cache's own
        {KV_OPAQUE, KV_F16, 64, "q8_0", KV_F16}, {KV_OPAQUE, KV_F16, 64, "", KV_F16},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kv_shape shape = shape_of(cases[i].form, cases[i].cache, cases[i].k, 64);
        assert_int_equal(wire_type(&shape, cases[i].wish, 1000, 1), cases[i].wire); // a slow link
    }
    struct kv_shape shape = shape_of(KV_ROWS, KV_F16, 64, 64);
    assert_int_equal(wire_type(&shape, "auto", 1000, 1e9), KV_F16); // a fast one
    assert_int_equal(wire_type(&shape, "q8_0", 0, 0), KV_Q8_0);     // nothing need be known
}

static void test_who_says_so_first(void **state) {
    (void)state;
    static const char *const client[] = {"f16", "q8_0", "q8_0"}, *const asked[] = {"", "q8_0", "f16"},
                             *const sender[] = {"", "auto", "f16"}, *const nobody[] = {"", "auto", "auto"};
    assert_string_equal(wire_wish(client, 3), "f16");
    assert_string_equal(wire_wish(asked, 3), "q8_0");
    assert_string_equal(wire_wish(sender, 3), "f16");
    assert_string_equal(wire_wish(nobody, 3), "");
    assert_string_equal(wire_wish(sender, 2), "");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table),
                                       cmocka_unit_test(test_a_wish_counts_where_it_can_be_obeyed),
                                       cmocka_unit_test(test_who_says_so_first)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

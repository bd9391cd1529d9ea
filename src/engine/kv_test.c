// Shapes of KV caches: sizes and places of rows, and what is refused.
#include "base/limits.h"
#include "engine/kv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static const struct kv_shape small = {.form = KV_ROWS,
                                      .dtype = KV_F16,
                                      .layers = 3,
                                      .unit = 16,
                                      .width = {64, 32},
                                      .head = 20,
                                      .cell = 12,
                                      .middle = 8,
                                      .plane = 12};

static void sizes(void **state) {
    (void)state;
    assert_int_equal(kv_bytes(KV_F16, 64), 128);
    assert_int_equal(kv_bytes(KV_Q8_0, 64), 68);
    assert_int_equal(kv_row_bytes(&small, KV_K, KV_F16), 128);
    assert_int_equal(kv_row_bytes(&small, KV_V, KV_Q8_0), 34);
    assert_int_equal(kv_token_bytes(&small, KV_F16), 3 * (128 + 64));
    // head, cells and middle; then 3 planes each of K and V
    assert_int_equal(kv_slot_bytes(&small, 5), 20 + 5 * 12 + 8 + 3 * (12 + 5 * 128) + 3 * (12 + 5 * 64));
}

static void planes_follow_each_other(void **state) {
    (void)state;
    size_t at = 20 + 7 * 12 + 8;
    for (int k = 0; k < KV_KINDS; k++)
        for (int32_t layer = 0; layer < small.layers; layer++) {
            at += 12;
            assert_int_equal(kv_plane_offset(&small, 7, layer, (enum kv_kind)k), at);
            at += 7 * kv_row_bytes(&small, (enum kv_kind)k, KV_F16);
        }
    assert_int_equal(kv_slot_bytes(&small, 7), at);
}

static void names(void **state) {
    (void)state;
    enum kv_dtype d = KV_F16;
    assert_int_equal(kv_dtype_of("q8_0", &d), 0);
    assert_int_equal(d, KV_Q8_0);
    assert_string_equal(kv_dtype_name(d), "q8_0");
    assert_int_equal(kv_dtype_of("f32", &d), -1);
    assert_int_equal(d, KV_Q8_0);
}

static void refuse(struct kv_shape s) {
    struct err e = {.code = ERR_NONE};
    assert_int_equal(kv_shape_check(&s, &e), -1);
    assert_true(e.code == ERR_INVALID || e.code == ERR_LIMIT);
}

static void checks(void **state) {
    (void)state;
    struct err e;
    struct kv_shape s = small;
    assert_int_equal(kv_shape_check(&s, &e), 0);
    assert_int_equal(kv_shape_check(&(struct kv_shape){.form = KV_OPAQUE}, &e), 0);
#define REFUSE(member, value)                                                                                          \
    do {                                                                                                               \
        s = small;                                                                                                     \
        s.member = value;                                                                                              \
        refuse(s);                                                                                                     \
    } while (0)
    REFUSE(form, (enum kv_form)7);
    REFUSE(dtype, (enum kv_dtype)2);
    REFUSE(dtype, (enum kv_dtype) - 1);
    REFUSE(layers, 0);
    REFUSE(layers, -5);
    REFUSE(layers, (int32_t)LIMIT_KV_LAYERS + 1);
    REFUSE(unit, 0);
    REFUSE(unit, INT32_MAX);
    REFUSE(width[KV_K], 0);
    REFUSE(width[KV_V], INT32_MAX);
    REFUSE(head, -1);
    REFUSE(cell, INT32_MAX);
    REFUSE(middle, INT32_MIN);
    REFUSE(plane, (int32_t)LIMIT_KV_HEAD + 1);
    s = small;
    s.dtype = KV_Q8_0;
    assert_int_equal(kv_shape_check(&s, &e), 0);
    s.width[KV_V] = 40; // not whole blocks
    refuse(s);
    struct kv_shape whole = {.form = KV_OPAQUE, .state = 5000}; // the other members say nothing
    assert_int_equal(kv_shape_check(&whole, &e), 0);
    assert_int_equal(kv_slot_most(&whole), 5000);
    whole.state = -1;
    refuse(whole);
    whole.state = (int32_t)LIMIT_KV_STATE + 1;
    refuse(whole);
    s = small; // each member is in range, all together are too much
    s.layers = LIMIT_KV_LAYERS;
    s.unit = LIMIT_KV_ROWS;
    s.width[KV_K] = s.width[KV_V] = LIMIT_KV_WIDTH;
    refuse(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(planes_follow_each_other),
        cmocka_unit_test(names),
        cmocka_unit_test(checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

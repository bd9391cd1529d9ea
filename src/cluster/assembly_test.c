// Which frames of a stream are taken, where they go, and what is told of them.
#include "base/limits.h"
#include "cluster/assembly.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FIRST = 100, LAST = 200, SLOTS = 3, LAYERS = 3, UNIT = 16 };

static const struct kv_shape shape = {.form = KV_ROWS,
                                      .dtype = KV_F16,
                                      .layers = LAYERS,
                                      .unit = UNIT,
                                      .width = {64, 32},
                                      .head = 10,
                                      .cell = 6,
                                      .middle = 4,
                                      .plane = 12};
static struct assembly *a;
static struct err e;

static int setup(void **arg) {
    (void)arg;
    e = (struct err){0};
    a = assembly_new(&shape, FIRST, LAST, SLOTS, kv_slot_bytes(&shape, UNIT), &e);
    return a ? 0 : -1;
}

static int teardown(void **arg) {
    (void)arg;
    assembly_free(a);
    return 0;
}

static struct kvframe rows(uint32_t layer, enum kv_kind kind, uint32_t first, uint32_t count) {
    return (struct kvframe){.type = KVFRAME_ROWS,
                            .kind = (uint8_t)kind,
                            .dtype = KV_F16,
                            .layer = layer,
                            .first = first,
                            .count = count,
                            .length = (uint32_t)(count * kv_row_bytes(&shape, kind, KV_F16))};
}

// Takes a frame; returns whether it completes its unit.
static bool arrives(struct kvframe f) {
    struct piece p;
    assert_int_equal(assembly_claim(a, &f, &p, &e), 0);
    return assembly_arrived(a, &p);
}

static void refused(struct kvframe f, enum err_code code, const char *why) {
    struct piece p;
    e = (struct err){0};
    assert_int_equal(assembly_claim(a, &f, &p, &e), -1);
    assert_int_equal(e.code, code);
    assert_non_null(strstr(e.msg, why));
}

static void whole_unit(uint32_t first, uint32_t count) {
    for (uint32_t i = 0; i < LAYERS * KV_KINDS; i++)
        assert_int_equal(arrives(rows(i / 2, i % 2, first, count)), i == LAYERS * KV_KINDS - 1);
}

static void told(int32_t first, int32_t count, int32_t *slot) {
    int32_t f, n;
    assert_true(assembly_next(a, slot, &f, &n));
    assert_int_equal(f, first);
    assert_int_equal(n, count);
}

static void nothing_told(void) {
    int32_t s, f, n;
    assert_false(assembly_next(a, &s, &f, &n));
}

static void places(void **arg) {
    (void)arg;
    struct piece p;
    struct kvframe f = rows(2, KV_V, FIRST, 5);
    assert_int_equal(assembly_claim(a, &f, &p, &e), 0);
    // head | rows x cell | middle | layers x (plane | rows x K) | layers x (plane | rows x V), rows being 5
    assert_int_equal(p.offset, 10 + 5 * 6 + 4 + 3 * (12 + 5 * 128) + 2 * (12 + 5 * 64) + 12);
    assert_int_equal(p.bytes, 5 * 64);
    assert_int_equal(p.elements, 5 * 32);
    assert_true(p.from == KV_F16 && p.to == KV_F16);
}

static struct kvframe as_q8_0(struct kvframe f) {
    f.dtype = KV_Q8_0;
    f.length = (uint32_t)(f.count * kv_row_bytes(&shape, (enum kv_kind)f.kind, KV_Q8_0));
    return f;
}

static void converted(void **arg) {
    (void)arg;
    struct piece p;
    struct kvframe f = as_q8_0(rows(0, KV_K, FIRST, 5));
    assert_int_equal(f.length, 5 * 2 * 34);
    assert_int_equal(assembly_claim(a, &f, &p, &e), 0);
    assert_int_equal(p.offset, 10 + 5 * 6 + 4 + 12);
    assert_int_equal(p.bytes, 5 * 128); // in the slot, as the cache has it
    assert_true(p.from == KV_Q8_0 && p.to == KV_F16);
}

// Whoever asks what a unit came as is told so of the whole stream.
static void one_type_in_a_stream(void **arg) {
    (void)arg;
    refused(as_q8_0(rows(LAYERS, KV_K, FIRST, 5)), ERR_INVALID, "layer"); // which says nothing of the type
    whole_unit(FIRST, 7);
    refused(as_q8_0(rows(0, KV_K, FIRST + 7, 5)), ERR_INVALID, "rows as q8_0, and those before came as f16");
    whole_unit(FIRST + 7, 5);
}

static void one_type_in_a_unit(void **arg) {
    (void)arg;
    struct kvframe f = rows(0, KV_K, FIRST, 7);
    f.dtype = KV_Q8_0;
    refused(f, ERR_INVALID, "bytes of rows"); // which says nothing of the type, either
    assert_false(arrives(as_q8_0(rows(0, KV_K, FIRST, 7))));
    refused(rows(0, KV_V, FIRST, 7), ERR_INVALID, "rows as f16, and those before came as q8_0");
    assert_false(arrives(as_q8_0(rows(0, KV_V, FIRST, 7))));
}

static void any_order_is_told_in_order(void **arg) {
    (void)arg;
    int32_t slot[SLOTS];
    whole_unit(FIRST + 7, 16); // the second one
    nothing_told();
    assert_int_equal(assembly_upto(a), FIRST);
    whole_unit(FIRST + 23, 1); // the third
    nothing_told();
    for (uint32_t i = LAYERS * KV_KINDS; i-- > 1;) assert_false(arrives(rows(i / 2, i % 2, FIRST, 7)));
    nothing_told();
    assert_true(arrives(rows(0, KV_K, FIRST, 7)));
    assert_int_equal(assembly_upto(a), FIRST + 24);
    told(FIRST, 7, &slot[0]);
    told(FIRST + 7, 16, &slot[1]);
    told(FIRST + 23, 1, &slot[2]);
    nothing_told();
    assert_true(slot[0] != slot[1] && slot[1] != slot[2] && slot[0] != slot[2]);
    refused(rows(0, KV_K, FIRST + 24, 1), ERR_BUSY, "no slot is free"); // none is installed yet
    assert_int_equal(assembly_installed(a, slot[1]), 0);
    assert_int_equal(assembly_installed(a, slot[1]), -1);
    assert_int_equal(assembly_installed(a, -1), -1);
    assert_int_equal(assembly_installed(a, SLOTS), -1);
    whole_unit(FIRST + 24, 4); // in the slot that was given back, which remembers nothing
    told(FIRST + 24, 4, &slot[2]);
    assert_int_equal(slot[2], slot[1]);
}

static void claimed_is_not_arrived(void **arg) {
    (void)arg;
    struct piece p;
    struct kvframe f = rows(0, KV_K, FIRST, 4);
    assert_int_equal(assembly_claim(a, &f, &p, &e), 0);
    for (uint32_t i = 1; i < LAYERS * KV_KINDS; i++) assert_false(arrives(rows(i / 2, i % 2, FIRST, 4)));
    nothing_told();                         // its bytes are still being read
    refused(f, ERR_INVALID, "second time"); // by another connection
    assert_true(assembly_arrived(a, &p));
    refused(f, ERR_INVALID, "second time");
    int32_t slot;
    told(FIRST, 4, &slot);
    refused(f, ERR_INVALID, "there already");
    assert_int_equal(assembly_installed(a, slot), 0);
    refused(f, ERR_INVALID, "there already");
}

static void what_does_not_fit(void **arg) {
    (void)arg;
    struct kvframe f;
    arrives(rows(1, KV_K, FIRST + 20, 10));
    refused(rows(0, KV_K, FIRST + 20, 9), ERR_INVALID, "overlaps");
    refused(rows(0, KV_K, FIRST + 20, 11), ERR_INVALID, "overlaps");
    refused(rows(0, KV_K, FIRST + 29, 1), ERR_INVALID, "overlaps");
    refused(rows(0, KV_K, FIRST + 10, 11), ERR_INVALID, "overlaps");
    refused(rows(1, KV_K, FIRST + 20, 10), ERR_INVALID, "second time");
    refused(rows(LAYERS, KV_K, FIRST, 1), ERR_INVALID, "layer");
    refused(rows(UINT32_MAX, KV_K, FIRST, 1), ERR_INVALID, "layer");
    refused(rows(0, KV_K, FIRST - 1, 1), ERR_INVALID, "there already");
    refused(rows(0, KV_K, 0, 1), ERR_INVALID, "there already");
    refused(rows(0, KV_K, LAST - 3, 4), ERR_INVALID, "beyond");
    refused(rows(0, KV_K, LAST, 1), ERR_INVALID, "beyond");
    refused(rows(0, KV_K, INT32_MAX, 1), ERR_INVALID, "beyond");
    refused(rows(0, KV_K, UINT32_MAX, 1), ERR_INVALID, "beyond");
    refused(rows(0, KV_K, FIRST, UNIT + 1), ERR_INVALID, "most is");
    refused(rows(0, KV_K, FIRST, 0), ERR_INVALID, "most is");
    refused(rows(0, KV_K, FIRST, UINT32_MAX), ERR_INVALID, "most is");
    for (int delta = -1; delta <= 1; delta += 2) {
        f = rows(0, KV_K, FIRST, 4);
        f.length += (uint32_t)delta;
        refused(f, ERR_INVALID, "bytes of rows");
    }
    f = rows(0, KV_V, FIRST, 4); // K's length in V
    f.length = rows(0, KV_K, FIRST, 4).length;
    refused(f, ERR_INVALID, "bytes of rows");
    f = rows(0, KV_K, FIRST, 4);
    f.dtype = KV_Q8_0;
    refused(f, ERR_INVALID, "before came as f16");
    f.dtype = KV_DTYPES;
    refused(f, ERR_INVALID, "layer");
    f = (struct kvframe){.type = KVFRAME_STATE, .count = 64, .length = 64};
    refused(f, ERR_INVALID, "where rows are expected");
    for (uint32_t i = 0; i < LAYERS * KV_KINDS; i++) // none of which has done any harm
        if (i != 2) arrives(rows(i / 2, i % 2, FIRST + 20, 10));
    whole_unit(FIRST, 16);
    whole_unit(FIRST + 16, 4);
    assert_int_equal(assembly_upto(a), FIRST + 30);
    refused(rows(0, KV_K, FIRST + 30, 1), ERR_BUSY, "no slot");
}

static void bad_specs(void **arg) {
    (void)arg;
    size_t room = kv_slot_bytes(&shape, UNIT);
    struct kv_shape wrong = shape;
    assert_null(assembly_new(&shape, -1, LAST, SLOTS, room, &e));
    assert_null(assembly_new(&shape, LAST, LAST, SLOTS, room, &e));
    assert_null(assembly_new(&shape, FIRST, LAST, 0, room, &e));
    assert_null(assembly_new(&shape, FIRST, LAST, LIMIT_KV_SLOTS + 1, room, &e));
    assert_null(assembly_new(&shape, FIRST, LAST, SLOTS, room - 1, &e));
    assert_null(assembly_new(&shape, FIRST, LAST, SLOTS, 0, &e));
    wrong.layers = 0;
    assert_null(assembly_new(&wrong, FIRST, LAST, SLOTS, room, &e));
    assert_int_not_equal(e.code, ERR_NONE);
}

// ---------------------------------------------------------------- states
static const struct kv_shape opaque = {.form = KV_OPAQUE};

static struct kvframe piece_of(uint32_t total, uint32_t offset, uint32_t length) {
    return (struct kvframe){.type = KVFRAME_STATE, .first = offset, .count = total, .length = length};
}

static int setup_state(void **arg) {
    (void)arg;
    a = assembly_new(&opaque, 0, LAST, SLOTS, 10000, &e);
    return a ? 0 : -1;
}

static void a_state(void **arg) {
    (void)arg;
    struct piece p;
    int32_t slot, first, count;
    struct kvframe f = piece_of(9001, 6400, 2601);
    assert_int_equal(assembly_claim(a, &f, &p, &e), 0);
    assert_int_equal(p.offset, 6400);
    assert_int_equal(p.bytes, 2601);
    assert_false(assembly_arrived(a, &p));
    assert_false(arrives(piece_of(9001, 0, 64)));
    refused(piece_of(9001, 0, 64), ERR_INVALID, "second time");
    refused(piece_of(9001, 0, 128), ERR_INVALID, "second time");
    refused(piece_of(9001, 6336, 128), ERR_INVALID, "second time");
    refused(piece_of(9001, 100, 28), ERR_INVALID, "byte 100");
    refused(piece_of(9001, 64, 100), ERR_INVALID, "100 bytes");
    refused(piece_of(9000, 64, 64), ERR_INVALID, "overlaps"); // another state
    refused(piece_of(9001, 8960, 64), ERR_INVALID, "64 bytes");
    refused(piece_of(10001, 0, 64), ERR_LIMIT, "room for 10000");
    refused(piece_of(UINT32_MAX, 0, 64), ERR_LIMIT, "room for 10000");
    refused(rows(0, KV_K, 0, 1), ERR_INVALID, "piece of a state is expected");
    nothing_told();
    assert_true(arrives(piece_of(9001, 64, 6336)));
    assert_true(assembly_next(a, &slot, &first, &count));
    assert_true(first == 0 && count == 9001);
    nothing_told();
    refused(piece_of(9001, 0, 64), ERR_INVALID, "complete already");
    assert_int_equal(assembly_installed(a, slot), 0);
    refused(piece_of(64, 0, 64), ERR_INVALID, "complete already"); // there is only one
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(places),
        TEST(converted),
        TEST(one_type_in_a_stream),
        TEST(one_type_in_a_unit),
        TEST(any_order_is_told_in_order),
        TEST(claimed_is_not_arrived),
        TEST(what_does_not_fit),
        TEST(bad_specs),
        cmocka_unit_test_setup_teardown(a_state, setup_state, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

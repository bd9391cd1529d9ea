// Learning the form of a state from samples: of any form that fits, and of none that does not.
#include "engine/worker/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { LAYERS = 3, TOKENS = 32, SAMPLES = 4, HEAD = 20, CELL = 12, MIDDLE = 8, PLANE = 12, ROOM = 1 << 18 };
static const struct kv_shape known = {
    .form = KV_ROWS, .dtype = KV_F16, .layers = LAYERS, .unit = 64, .width = {32, 16}};

struct world {
    unsigned char rows[KV_KINDS][LAYERS][TOKENS * 64];
    const unsigned char *pointers[KV_KINDS][LAYERS];
    unsigned char *blobs[SAMPLES];
    struct sample samples[SAMPLES];
    size_t at; // while writing
    unsigned char *to;
};

static unsigned char noise(uint32_t x) {
    x = (x ^ (x >> 16)) * 2246822519u;
    return (unsigned char)(x >> 13);
}

static void put(struct world *w, const void *data, size_t n) {
    memcpy(w->to + w->at, data, n);
    w->at += n;
}
static void put_number(struct world *w, uint32_t v) { put(w, &v, sizeof v); }

// What varies between forms.
struct form {
    int odd_cell;    // a cell that differs
    int odd_plane;   // a plane that is shorter
    int with_sum;    // a number that depends on the positions
    int tail;        // bytes behind the planes
    int wide_planes; // bytes in front of each
};

static void write_sample(struct world *w, int i, int32_t first, int32_t count, const struct form *f) {
    w->to = w->blobs[i] = malloc(ROOM);
    w->at = 0;
    put(w, "STATEv4 ", 8);
    put_number(w, 1);
    put_number(w, (uint32_t)count);
    put_number(w, f->with_sum ? (uint32_t)(first * count) : 7);
    for (int32_t k = 0; k < count; k++) {
        put_number(w, (uint32_t)(first + k));
        put_number(w, 1);
        put_number(w, f->odd_cell && first + k == 9 ? 5 : 4);
    }
    put_number(w, 0);
    put_number(w, LAYERS);
    for (int kind = 0; kind < KV_KINDS; kind++)
        for (int layer = 0; layer < LAYERS; layer++) {
            size_t row = kv_row_bytes(&known, (enum kv_kind)kind, KV_F16);
            if (!(f->odd_plane && kind == 1 && layer == 1)) put_number(w, 99);
            put_number(w, (uint32_t)layer + 50);
            put_number(w, (uint32_t)row);
            for (int k = 0; k < f->wide_planes; k++) put_number(w, 3);
            put(w, w->rows[kind][layer] + (size_t)first * row, (size_t)count * row);
        }
    for (int k = 0; k < f->tail; k++) put_number(w, 0);
    w->samples[i] = (struct sample){w->blobs[i], w->at, first, count};
}

static struct world *world_new(const struct form *f) {
    struct world *w = calloc(1, sizeof *w);
    for (int kind = 0; kind < KV_KINDS; kind++)
        for (int layer = 0; layer < LAYERS; layer++) {
            for (size_t i = 0; i < sizeof w->rows[0][0]; i++)
                w->rows[kind][layer][i] = noise((uint32_t)((kind * LAYERS + layer) * 9973) + (uint32_t)i);
            w->pointers[kind][layer] = w->rows[kind][layer];
        }
    write_sample(w, 0, 0, TOKENS, f);
    write_sample(w, 1, 1, 1, f);
    write_sample(w, 2, 5, 17, f);
    write_sample(w, 3, 2, 7, f);
    return w;
}

static void world_free(struct world *w) {
    for (int i = 0; i < SAMPLES; i++) free(w->blobs[i]);
    free(w);
}

static int learn(struct world *w, struct layout *l, struct err *e) {
    const unsigned char *const *rows[KV_KINDS] = {w->pointers[KV_K], w->pointers[KV_V]};
    return layout_learn(l, &known, w->samples, SAMPLES, rows, e);
}

static void finds_the_parts(void **state) {
    (void)state;
    struct layout l;
    struct err e;
    struct world *w = world_new(&(struct form){0});
    assert_int_equal(learn(w, &l, &e), 0);
    assert_int_equal(l.shape.head, HEAD);
    assert_int_equal(l.shape.cell, CELL);
    assert_int_equal(l.shape.middle, MIDDLE);
    assert_int_equal(l.shape.plane, PLANE);
    assert_int_equal(l.count_at, 12);
    layout_close(&l);
    world_free(w);
    w = world_new(&(struct form){.wide_planes = 2});
    assert_int_equal(learn(w, &l, &e), 0);
    assert_int_equal(l.shape.plane, PLANE + 8);
    layout_close(&l);
    world_free(w);
}

static void writes_and_reads(void **state) {
    (void)state;
    struct layout l;
    struct err e;
    int32_t row_at[TOKENS];
    struct world *w = world_new(&(struct form){0});
    assert_int_equal(learn(w, &l, &e), 0);
    size_t size = w->samples[2].size;
    assert_int_equal(size, kv_slot_bytes(&l.shape, 17));
    assert_true(layout_rows(&l, w->blobs[2], size, 5, 17, row_at));
    for (int i = 0; i < 17; i++) assert_int_equal(row_at[i], i);
    // two cells in the other order
    uint32_t a = 5, b = 6;
    memcpy(w->blobs[2] + HEAD, &b, 4);
    memcpy(w->blobs[2] + HEAD + CELL, &a, 4);
    assert_true(layout_rows(&l, w->blobs[2], size, 5, 17, row_at));
    assert_true(row_at[0] == 1 && row_at[1] == 0 && row_at[2] == 2);
    assert_false(layout_rows(&l, w->blobs[2], size, 4, 17, row_at));
    assert_false(layout_rows(&l, w->blobs[2], size - 1, 5, 17, row_at));
    assert_false(layout_rows(&l, w->blobs[2], size, 5, 16, row_at));
    memcpy(w->blobs[2] + HEAD, &a, 4); // twice the same position
    assert_false(layout_rows(&l, w->blobs[2], size, 5, 17, row_at));
    layout_close(&l);
    world_free(w);
}

static void refuse(const struct form *f) {
    struct layout l;
    struct err e = {.code = ERR_NONE};
    struct world *w = world_new(f);
    assert_int_equal(learn(w, &l, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_int_equal(l.shape.form, KV_OPAQUE);
    assert_null(l.parts);
    world_free(w);
}

static void other_forms(void **state) {
    (void)state;
    refuse(&(struct form){.odd_cell = 1});
    refuse(&(struct form){.odd_plane = 1});
    refuse(&(struct form){.with_sum = 1});
    refuse(&(struct form){.tail = 1});
}

static void other_rows(void **state) {
    (void)state;
    struct layout l;
    struct err e;
    struct world *w = world_new(&(struct form){0});
    w->rows[KV_V][1][100] ^= 1; // what was seen is not what the state says
    assert_int_equal(learn(w, &l, &e), -1);
    world_free(w);
    w = world_new(&(struct form){0});
    w->pointers[KV_K][0] = w->rows[KV_K][1]; // layers in another order
    w->pointers[KV_K][1] = w->rows[KV_K][0];
    assert_int_equal(learn(w, &l, &e), -1);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_parts),
        cmocka_unit_test(writes_and_reads),
        cmocka_unit_test(other_forms),
        cmocka_unit_test(other_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// What the tap shows of the rows that layers write, and where it has libllama stop for that.
#include "engine/worker/model.h"
#include "engine/worker/tap.h"

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS = 2, CELLS = 16, WIDTH = 4, ROWS = 3 };

struct world {
    struct tap tap;
    ggml_backend_t cpu;
    ggml_backend_buffer_t buffer;
    struct ggml_context *ctx;
    struct ggml_tensor *cells, *writes[LAYERS][KV_KINDS];
    struct tap_rows seen[2 * KV_KINDS * LAYERS];
    float rows[2 * KV_KINDS * LAYERS][ROWS * WIDTH];
    int n, calls;
};

static void on_rows(void *arg, const struct tap_rows *r, int32_t n) {
    struct world *w = arg;
    w->calls++;
    for (int32_t i = 0; i < n; i++, w->n++) {
        assert_true(w->n < 2 * KV_KINDS * LAYERS);
        w->seen[w->n] = r[i];
        tap_copy(&r[i], 0, ROWS, w->rows[w->n]);
    }
}

static float value(int32_t layer, int kind, int64_t cell) { return (float)(100 * layer + 20 * kind + (int)cell); }

static struct ggml_tensor *cache(struct world *w, int32_t layer, int kind) {
    char name[32];
    struct ggml_tensor *t = ggml_new_tensor_2d(w->ctx, GGML_TYPE_F32, WIDTH, CELLS);
    snprintf(name, sizeof name, "cache_%s_l%d", kind == KV_K ? "k" : "v", layer);
    return ggml_set_name(t, name);
}

static void fill(struct ggml_tensor *t, int32_t layer, int kind) {
    float data[CELLS * WIDTH];
    for (int i = 0; i < CELLS * WIDTH; i++) data[i] = value(layer, kind, i / WIDTH);
    ggml_backend_tensor_set(t, data, 0, sizeof data);
}

static void open_world(struct world *w, bool paired) {
    static const int64_t cells[ROWS] = {7, 8, 2};
    struct err e;
    memset(w, 0, sizeof *w);
    assert_int_equal(tap_init(&w->tap, CELLS, &e), 0);
    w->tap.on = true;
    w->tap.paired = paired;
    w->tap.rows = on_rows;
    w->tap.arg = w;
    w->ctx = ggml_init((struct ggml_init_params){.mem_size = 1 << 20, .no_alloc = true});
    w->cpu = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, NULL);
    assert_non_null(w->cpu);
    w->cells = ggml_new_tensor_1d(w->ctx, GGML_TYPE_I64, ROWS);
    struct ggml_tensor *rows = ggml_new_tensor_2d(w->ctx, GGML_TYPE_F32, WIDTH, ROWS);
    for (int32_t layer = 0; layer < LAYERS; layer++)
        for (int kind = 0; kind < KV_KINDS; kind++)
            w->writes[layer][kind] = ggml_set_rows(w->ctx, cache(w, layer, kind), rows, w->cells);
    w->buffer = ggml_backend_alloc_ctx_tensors(w->ctx, w->cpu);
    assert_non_null(w->buffer);
    ggml_backend_tensor_set(w->cells, cells, 0, sizeof cells);
    for (int32_t layer = 0; layer < LAYERS; layer++)
        for (int kind = 0; kind < KV_KINDS; kind++) fill(w->writes[layer][kind]->view_src, layer, kind);
}

static void close_world(struct world *w) {
    tap_close(&w->tap);
    ggml_backend_buffer_free(w->buffer);
    ggml_backend_free(w->cpu);
    ggml_free(w->ctx);
}

static void is_seen(const struct world *w, int i, int32_t layer, enum kv_kind kind) {
    assert_true(i < w->n);
    assert_int_equal(w->seen[i].layer, layer);
    assert_int_equal(w->seen[i].kind, kind);
    assert_int_equal(w->seen[i].n, ROWS);
    for (int k = 0; k < ROWS * WIDTH; k++)
        assert_true(w->rows[i][k] == value(layer, kind, (const int64_t[]){7, 8, 2}[k / WIDTH]));
}

static void each_by_itself(void **arg) {
    (void)arg;
    struct world w;
    open_world(&w, false);
    for (int kind = 0; kind < KV_KINDS; kind++) {
        assert_true(tap_see(w.writes[1][kind], true, &w.tap));
        assert_true(tap_see(w.writes[1][kind], false, &w.tap));
        is_seen(&w, kind, 1, (enum kv_kind)kind);
    }
    assert_int_equal(w.calls, 2);
    close_world(&w);
}

static void both_of_a_layer_at_once(void **arg) {
    (void)arg;
    struct world w;
    open_world(&w, true);
    for (int32_t layer = 0; layer < LAYERS; layer++) {
        assert_false(tap_see(w.writes[layer][KV_K], true, &w.tap));
        assert_true(tap_see(w.writes[layer][KV_V], true, &w.tap));
        assert_true(tap_see(w.writes[layer][KV_V], false, &w.tap));
        is_seen(&w, 2 * layer, layer, KV_K);
        is_seen(&w, 2 * layer + 1, layer, KV_V);
    }
    assert_int_equal(w.calls, LAYERS);
    close_world(&w);
}

// K's rows whose V does not follow are left to be taken later; those of another layer are never shown for them.
static void only_of_the_same_layer(void **arg) {
    (void)arg;
    struct world w;
    open_world(&w, true);
    assert_false(tap_see(w.writes[0][KV_K], true, &w.tap));
    assert_true(tap_see(w.writes[1][KV_V], true, &w.tap));
    assert_true(tap_see(w.writes[1][KV_V], false, &w.tap));
    assert_int_equal(w.n, 1);
    is_seen(&w, 0, 1, KV_V);
    assert_null(w.tap.waiting);
    close_world(&w);
}

static void nothing_where_nothing_is_wanted(void **arg) {
    (void)arg;
    struct world w;
    open_world(&w, true);
    w.tap.on = false;
    for (int kind = 0; kind < KV_KINDS; kind++) {
        assert_false(tap_see(w.writes[0][kind], true, &w.tap));
        assert_true(tap_see(w.writes[0][kind], false, &w.tap)); // go on
    }
    w.tap.on = true;
    static const int64_t wild[ROWS] = {0, CELLS, -1};
    ggml_backend_tensor_set(w.cells, wild, 0, sizeof wild);
    assert_true(tap_see(w.writes[0][KV_V], true, &w.tap));
    assert_true(tap_see(w.writes[0][KV_V], false, &w.tap));
    assert_int_equal(w.calls, 0);
    close_world(&w);
}

int main(void) {
    backends_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_by_itself),
        cmocka_unit_test(both_of_a_layer_at_once),
        cmocka_unit_test(only_of_the_same_layer),
        cmocka_unit_test(nothing_where_nothing_is_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

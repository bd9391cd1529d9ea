#include "carry.h"
#include "cluster/convert.h"
#include "engine/arena.h"
#include "engine/worker/export.h"
#include "engine/worker/import.h"
#include "pair.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { ID = 1, SEQUENCE = 0 };

static bool go_on(float fraction, void *arg) {
    (void)fraction, (void)arg;
    return true;
}

void carry_load(struct model *m, const char *name, const char *kv_type, bool gpu) {
    struct engine_options o = pair_options(name, kv_type);
    struct err e;
    o.ctx = o.kv_cells = CARRY_CTX;
    o.parallel = 1;
    o.gpu_layers = gpu ? 1000 : 0;
    backends_init();
    if (model_load(m, &o, go_on, NULL, &e)) fail_msg("%s", e.msg);
    assert_int_equal(m->info.kv.form, KV_ROWS);
    assert_true(m->info.vocab <= CARRY_VOCAB && 2 * m->info.kv.layers <= CARRY_PLANES);
}

// Of one sequence, from position `past` on; the last one's logits.
static void compute(struct model *m, const int32_t *tokens, int32_t past, int32_t n, float *logits) {
    struct llama_batch b = llama_batch_init(n, 0, 1);
    for (int32_t i = 0; i < n; i++) {
        b.token[i] = tokens[i];
        b.pos[i] = past + i;
        b.n_seq_id[i] = 1;
        b.seq_id[i][0] = SEQUENCE;
        b.logits[i] = i == n - 1;
    }
    b.n_tokens = n;
    assert_int_equal(llama_decode(m->ctx, b), 0);
    llama_synchronize(m->ctx);
    memcpy(logits, llama_get_logits_ith(m->ctx, -1), (size_t)m->info.vocab * sizeof *logits);
    llama_batch_free(b);
}

static int32_t best(const struct model *m, const float *logits) {
    int32_t token = 0;
    for (int32_t i = 1; i < m->info.vocab; i++)
        if (logits[i] > logits[token]) token = i;
    return token;
}

static size_t row_bytes(const struct model *m, int k) {
    return kv_row_bytes(&m->info.kv, (enum kv_kind)k, m->info.kv.dtype);
}

// ---------------------------------------------------------------- out
struct way { // what stands between the exporter and a daemon
    struct model *m;
    struct arena *arena;
    struct blocks blocks;
    struct channel worker, daemon;
    struct exporter exporter;
    struct export leaving;
    int64_t arrived; // rows
};

static void way_open(struct way *w, struct model *m) {
    const struct kv_shape *s = &m->info.kv;
    struct err e;
    int ends[2];
    memset(w, 0, sizeof *w);
    w->m = m;
    w->arena = arena_new(&e);
    assert_non_null(w->arena);
    assert_int_equal(arena_size(w->arena, s, (size_t)32 << 20, &e), 0);
    assert_int_equal(arena_reserve(w->arena, &e), 0);
    struct arena_info info = {arena_bytes(w->arena), arena_block_bytes(w->arena), arena_blocks(w->arena)};
    blocks_init(&w->blocks);
    assert_int_equal(blocks_map(&w->blocks, arena_fd(w->arena), &info, &e), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    channel_init(&w->worker, ends[0]);
    channel_init(&w->daemon, ends[1]);
    exporter_init(&w->exporter, &m->kv, m->ctx, &m->tap, m->staging, &w->blocks, &w->worker);
    export_start(&w->leaving, 0, INT32_MAX);
}

static void way_close(struct way *w) {
    assert_false(w->exporter.lost);
    export_stop(&w->leaving);
    exporter_close(&w->exporter);
    close(w->worker.fd);
    close(w->daemon.fd);
    channel_close(&w->worker);
    channel_close(&w->daemon);
    blocks_close(&w->blocks);
    arena_unref(w->arena);
}

static void arrive(struct way *w, struct carried *c, const struct kv_rows *r) {
    size_t bytes = row_bytes(w->m, r->kind);
    unsigned char *plane = c->rows[r->kind * w->m->info.kv.layers + r->layer];
    assert_true((size_t)(r->first + r->count) * bytes <= CARRY_PLANE);
    memcpy(plane + (size_t)r->first * bytes, arena_block(w->arena, r->block), (size_t)r->count * bytes);
    w->arrived += r->count;
    assert_int_equal(blocks_give(&w->blocks, &r->block, 1), 0);
}

// Until all rows of the positions before `past` have come.
static void receive(struct way *w, struct carried *c, int32_t past) {
    const struct kv_shape *s = &w->m->info.kv;
    struct kv_rows rows;
    struct err e;
    while (w->arrived < (int64_t)past * s->layers * KV_KINDS) {
        json_t *msg = NULL, *item;
        size_t i;
        assert_int_equal(channel_read(&w->daemon, &msg, &e), 1);
        json_array_foreach(json_object_get(msg, "d"), i, item) {
            if (rows_decode(item, s, CARRY_CTX, &rows, &e)) fail_msg("%s", e.msg);
            arrive(w, c, &rows);
        }
        json_decref(msg);
    }
}

static void read_chunk(struct way *w, struct carried *c, int32_t past, int32_t n, float *logits) {
    struct exporting member = {ID, &w->leaving, 0, past, n};
    struct err e;
    int rc;
    exporter_begin(&w->exporter);
    exporter_member(&w->exporter, &member);
    compute(w->m, c->tokens + past, past, n, logits);
    exporter_end(&w->exporter);
    while ((rc = exporter_take(&w->exporter, ID, &w->leaving, SEQUENCE, past + n, &e)) > 0) {
    }
    if (rc) fail_msg("%s", e.msg);
    receive(w, c, past + n);
}

void carry_prompt(struct carried *c, int32_t n) {
    uint32_t x = (uint32_t)n;
    assert_true(n > 0 && n <= CARRY_TOKENS);
    c->n = n;
    for (int32_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        c->tokens[i] = 3 + (int32_t)((x >> 8) % 250);
    }
}

void carry_out(struct model *m, struct carried *c) {
    struct way w;
    pair_be_patient();
    way_open(&w, m);
    llama_memory_clear(llama_get_memory(m->ctx), true);
    c->dtype = m->info.kv.dtype;
    for (int32_t at = 0; at < c->n; at += CHUNK)
        read_chunk(&w, c, at, c->n - at < CHUNK ? c->n - at : CHUNK, c->there.of[0]);
    way_close(&w);
    for (int32_t i = 0; i < CARRY_STEPS; i++) {
        c->tokens[c->n + i] = best(m, c->there.of[i]);
        compute(m, &c->tokens[c->n + i], c->n + i, 1, c->there.of[i + 1]);
    }
}

// ---------------------------------------------------------------- in
// Rows of one layer, K or V, as they are after they have travelled as `wire`.
static void travel(enum kv_dtype dtype, enum kv_dtype wire, const unsigned char *from, unsigned char *to,
                   size_t elements) {
    unsigned char *between = malloc(kv_bytes(wire, elements));
    assert_non_null(between);
    convert_rows(dtype, from, wire, between, elements);
    convert_rows(wire, between, dtype, to, elements);
    free(between);
}

static void install_unit(struct model *m, const struct carried *c, enum kv_dtype wire, int32_t first, int32_t count) {
    const struct kv_shape *s = &m->info.kv;
    struct importer importer = {&m->kv.layout, m->ctx, m->staging};
    unsigned char *unit = calloc(1, kv_slot_bytes(s, count));
    struct err e;
    assert_non_null(unit);
    for (int k = 0; k < KV_KINDS; k++)
        for (int32_t layer = 0; layer < s->layers; layer++)
            travel(c->dtype, wire, c->rows[k * s->layers + layer] + (size_t)first * row_bytes(m, k),
                   unit + kv_plane_offset(s, count, layer, (enum kv_kind)k), (size_t)count * (size_t)s->width[k]);
    if (importer_install(&importer, unit, SEQUENCE, first, count, &e)) fail_msg("%s", e.msg);
    free(unit);
}

void carry_in(struct model *m, const struct carried *c, enum kv_dtype wire, struct carry_logits *logits) {
    llama_memory_t memory = llama_get_memory(m->ctx);
    pair_be_patient();
    assert_int_equal(m->info.kv.dtype, c->dtype);
    llama_memory_clear(memory, true);
    for (int32_t at = 0, unit = m->info.kv.unit; at < c->n; at += unit)
        install_unit(m, c, wire, at, c->n - at < unit ? c->n - at : unit);
    for (int32_t i = 0; i < CARRY_STEPS; i++) compute(m, &c->tokens[c->n + i], c->n + i, 1, logits->of[i + 1]);
}

double carry_difference(const struct model *m, const struct carried *c, const struct carry_logits *here) {
    double worst = 0;
    for (int step = 1; step <= CARRY_STEPS; step++) {
        const float *x = c->there.of[step], *y = here->of[step];
        double most = 0, square = 0;
        if (!memcmp(x, y, (size_t)m->info.vocab * sizeof *x)) continue;
        for (int32_t i = 0; i < m->info.vocab; i++) {
            most = fmax(most, fabs((double)x[i] - (double)y[i]));
            square += (double)x[i] * (double)x[i];
        }
        worst = fmax(worst, fmax(most, 1e-30) / sqrt(square / m->info.vocab)); // +0 is not -0
    }
    return worst;
}

#include "engine/worker/probe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { UNIT_MOST = 256, UNIT_LEAST = 16, UNIT_BYTES = 32 << 20, RANGES = 5 };

struct captured { // the rows of one layer, K or V
    unsigned char *rows;
    int32_t n;
};

struct probing {
    struct llama_context *ctx;
    llama_memory_t memory;
    llama_seq_id staging;
    struct kv_shape shape;
    bool odd;      // something was seen that is not a cache of rows of one size
    int32_t known; // kinds whose width is known, as bits
    struct captured seen[KV_KINDS][LIMIT_KV_LAYERS];
    const unsigned char *rows[KV_KINDS][LIMIT_KV_LAYERS]; // those seen, without gaps
    struct sample samples[RANGES];
    unsigned char *blobs[RANGES];
};

// ---------------------------------------------------------------- what the layers write
static int dtype_of(enum ggml_type type, enum kv_dtype *out) {
    *out = type == GGML_TYPE_F16 ? KV_F16 : KV_Q8_0;
    return type == GGML_TYPE_F16 || type == GGML_TYPE_Q8_0 ? 0 : -1;
}

static void capture(void *arg, const struct tap_rows *r, int32_t n) {
    struct probing *p = arg;
    assert(n == 1); // not paired
    enum kv_dtype dtype;
    if (p->odd || r->layer >= (int32_t)LIMIT_KV_LAYERS || dtype_of(r->type, &dtype)) {
        p->odd = true;
        return;
    }
    if (!p->known) p->shape.dtype = dtype;
    if (!(p->known & 1 << r->kind)) p->shape.width[r->kind] = r->width;
    p->known |= 1 << r->kind;
    struct captured *c = &p->seen[r->kind][r->layer];
    size_t bytes = kv_row_bytes(&p->shape, r->kind, dtype);
    if (!c->rows) c->rows = malloc(PROBE_TOKENS * bytes);
    p->odd = !c->rows || dtype != p->shape.dtype || r->width != p->shape.width[r->kind] || r->n > PROBE_TOKENS - c->n ||
             bytes != r->cache->nb[1];
    if (p->odd) return;
    tap_copy(r, 0, r->n, c->rows + (size_t)c->n * bytes);
    c->n += r->n;
}

static int compute(struct probing *p, struct err *e) {
    const struct llama_vocab *vocab = llama_model_get_vocab(llama_get_model(p->ctx));
    int32_t piece = (int32_t)llama_n_batch(p->ctx);
    if (piece > PROBE_TOKENS) piece = PROBE_TOKENS;
    for (int32_t at = 0; at < PROBE_TOKENS; at += piece) {
        llama_token tokens[PROBE_TOKENS];
        int32_t n = PROBE_TOKENS - at < piece ? PROBE_TOKENS - at : piece;
        for (int32_t i = 0; i < n; i++) tokens[i] = (at + i) * 37 % llama_vocab_n_tokens(vocab);
        if (llama_decode(p->ctx, llama_batch_get_one(tokens, n)))
            return err_set(e, ERR_INVALID, "it does not compute %d tokens", PROBE_TOKENS);
    }
    llama_synchronize(p->ctx);
    return 0;
}

// Numbers the layers that have rows.
static int number_layers(struct probing *p, int16_t *layers, struct err *e) {
    for (int32_t i = 0; i < (int32_t)LIMIT_KV_LAYERS; i++) {
        const struct captured *k = &p->seen[KV_K][i], *v = &p->seen[KV_V][i];
        layers[i] = -1;
        if (!k->n && !v->n) continue;
        p->odd |= k->n != PROBE_TOKENS || v->n != PROBE_TOKENS;
        p->rows[KV_K][p->shape.layers] = k->rows;
        p->rows[KV_V][p->shape.layers] = v->rows;
        layers[i] = (int16_t)p->shape.layers++;
    }
    if (!p->odd && p->shape.layers > 0) return 0;
    return err_set(e, ERR_INVALID, "it does not keep one row of K and one of V per token in each layer");
}

// ---------------------------------------------------------------- what libllama says of it
// The state of [first, first + count) of sequence 0, by way of the staging sequence. To be freed.
static unsigned char *state_of(struct probing *p, int32_t first, int32_t count, size_t *size) {
    llama_memory_seq_cp(p->memory, 0, p->staging, first, first + count);
    *size = llama_state_seq_get_size(p->ctx, p->staging);
    unsigned char *blob = malloc(*size + 1);
    if (blob && llama_state_seq_get_data(p->ctx, blob, *size, p->staging) != *size) *size = 0;
    llama_memory_seq_rm(p->memory, p->staging, -1, -1);
    return blob;
}

static int learn(struct probing *p, struct layout *out, struct err *e) {
    static const int32_t ranges[RANGES][2] = {{0, PROBE_TOKENS}, {1, 1}, {5, 17}, {2, 7}, {31, 1}};
    const unsigned char *const *rows[KV_KINDS] = {p->rows[KV_K], p->rows[KV_V]};
    for (int i = 0; i < RANGES; i++) {
        struct sample *s = &p->samples[i];
        s->first = ranges[i][0];
        s->count = ranges[i][1];
        s->blob = p->blobs[i] = state_of(p, s->first, s->count, &s->size);
        if (!s->blob || !s->size) return err_set(e, ERR_INVALID, "its state cannot be read");
    }
    return layout_learn(out, &p->shape, p->samples, RANGES, rows, e);
}

// Most rows of a unit: the same on all machines for the same model.
static int32_t unit_of(const struct kv_shape *s) {
    int32_t unit = UNIT_MOST;
    while (unit > UNIT_LEAST && (size_t)unit * kv_token_bytes(s, KV_F16) > UNIT_BYTES) unit /= 2;
    return unit;
}

// A state composed of what the layers wrote is installed in the empty cache, and must read back the same.
static int install(struct probing *p, const struct layout *l, struct err *e) {
    size_t size = p->samples[0].size, again_size = 0;
    unsigned char *blob = malloc(size), *again = NULL;
    int rc = -1;
    if (!blob) return err_set(e, ERR_INTERNAL, "out of memory");
    for (int k = 0; k < KV_KINDS; k++)
        for (int32_t i = 0; i < l->shape.layers; i++)
            memcpy(blob + kv_plane_offset(&l->shape, PROBE_TOKENS, i, (enum kv_kind)k), p->rows[k][i],
                   PROBE_TOKENS * kv_row_bytes(&l->shape, (enum kv_kind)k, l->shape.dtype));
    layout_frame(l, blob, 0, PROBE_TOKENS);
    llama_memory_clear(p->memory, true);
    if (llama_state_seq_set_data(p->ctx, blob, size, p->staging) == size) {
        llama_memory_seq_cp(p->memory, p->staging, 0, -1, -1);
        llama_memory_seq_rm(p->memory, p->staging, -1, -1);
        again = state_of(p, 0, PROBE_TOKENS, &again_size);
        rc = again && again_size == size && !memcmp(blob, again, size) ? 0 : -1;
    }
    free(blob);
    free(again);
    return rc ? err_set(e, ERR_INVALID, "rows that are put into it do not come out the same") : 0;
}

// ---------------------------------------------------------------- all of it
static int prove(struct probing *p, struct tap *tap, struct probe *out, struct err *e) {
    const struct llama_model *model = llama_get_model(p->ctx);
    if (llama_model_is_recurrent(model) || llama_model_is_hybrid(model))
        return err_set(e, ERR_INVALID, "it is a recurrent memory, or partly so");
    if (llama_model_n_swa(model) > 0)
        return err_set(e, ERR_INVALID, "layers keep a sliding window of %d tokens", (int)llama_model_n_swa(model));
    if (llama_n_ctx(p->ctx) < 2 * PROBE_TOKENS)
        return err_set(e, ERR_INVALID, "it holds fewer than %d tokens", 2 * PROBE_TOKENS);
    *tap = (struct tap){.on = true, .rows = capture, .arg = p, .cells = tap->cells, .most = tap->most};
    int rc = compute(p, e);
    tap->on = false;
    if (rc || number_layers(p, out->layers, e)) return -1;
    p->shape.unit = unit_of(&p->shape);
    return learn(p, &out->layout, e) || install(p, &out->layout, e) ? -1 : 0;
}

int probe_run(struct probe *out, struct llama_context *ctx, struct tap *tap, llama_seq_id staging, struct err *e) {
    struct probing *p = calloc(1, sizeof *p);
    out->layout = (struct layout){.shape = {.form = KV_OPAQUE}};
    if (!p) return err_set(e, ERR_INTERNAL, "out of memory");
    p->ctx = ctx;
    p->memory = llama_get_memory(ctx);
    p->staging = staging;
    int rc = prove(p, tap, out, e);
    if (rc) layout_close(&out->layout);
    llama_memory_clear(p->memory, true);
    for (int k = 0; k < KV_KINDS; k++)
        for (size_t i = 0; i < LIMIT_KV_LAYERS; i++) free(p->seen[k][i].rows);
    for (int i = 0; i < RANGES; i++) free(p->blobs[i]);
    free(p);
    return rc;
}

void probe_close(struct probe *p) { layout_close(&p->layout); }

#include "engine/worker/whole.h"
#include "base/limits.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FEW = 8, MORE = 24 /* tokens whose states are measured */, ALIKE = 100 /* see is_close */ };

struct measuring {
    struct llama_context *ctx;
    llama_memory_t memory;
    int64_t tokens;
    int64_t spare;                        // bytes of rows that layers cannot keep all
    bool seen[KV_KINDS][LIMIT_KV_LAYERS]; // whose cache was looked at
};

// Layers whose cache is smaller than a sequence may become.
static void look(void *arg, const struct tap_rows *r, int32_t n) {
    struct measuring *m = arg;
    assert(n == 1); // not paired
    if (r->layer >= (int32_t)LIMIT_KV_LAYERS || m->seen[r->kind][r->layer]) return;
    m->seen[r->kind][r->layer] = true;
    int64_t cells = r->cache->ne[1];
    if (cells < m->tokens) m->spare += (m->tokens - cells) * (int64_t)r->cache->nb[1];
}

// Computes positions [first, first + n) of sequence 0. NULL where that fails.
static const float *compute(struct measuring *m, int32_t first, int32_t n) {
    const struct llama_vocab *vocab = llama_model_get_vocab(llama_get_model(m->ctx));
    for (int32_t i = first; i < first + n; i++) {
        llama_token token = i * 37 % llama_vocab_n_tokens(vocab);
        if (llama_decode(m->ctx, llama_batch_get_one(&token, 1))) return NULL;
    }
    llama_synchronize(m->ctx);
    return llama_get_logits_ith(m->ctx, -1);
}

static int measure(struct measuring *m, int32_t *bytes, struct err *e) {
    int64_t few = 0, more = 0;
    if (compute(m, 0, FEW)) few = (int64_t)llama_state_seq_get_size(m->ctx, 0);
    if (few && compute(m, FEW, MORE - FEW)) more = (int64_t)llama_state_seq_get_size(m->ctx, 0);
    if (!few || more < few) return err_set(e, ERR_INVALID, "it has no state that can be measured");
    int64_t each = (more - few + MORE - FEW - 1) / (MORE - FEW), growth = each * (m->tokens - MORE) - m->spare;
    int64_t most = more + (growth > 0 ? growth : 0);
    if (most > (int64_t)LIMIT_KV_STATE) return err_set(e, ERR_LIMIT, "it may have %lld MB", (long long)(most >> 20));
    *bytes = (int32_t)most;
    return 0;
}

// Devices may sum up in another order.
static bool is_close(const float *a, const float *b, int32_t n) {
    float size = 0, far = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!isfinite(a[i]) || !isfinite(b[i])) return false;
        size = fmaxf(size, fabsf(a[i]));
        far = fmaxf(far, fabsf(a[i] - b[i]));
    }
    return far * ALIKE <= size;
}

// The state is put back into the empty memory: the next token's logits must be what they were.
static int prove(struct measuring *m, struct err *e) {
    int32_t n = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(m->ctx)));
    size_t size = llama_state_seq_get_size(m->ctx, 0);
    unsigned char *state = malloc(size + 1);
    float *before = malloc((size_t)n * sizeof *before);
    const float *logits = NULL;
    bool same = false;
    if (state && before && llama_state_seq_get_data(m->ctx, state, size, 0) == size) logits = compute(m, MORE, 1);
    if (logits) {
        memcpy(before, logits, (size_t)n * sizeof *before);
        llama_memory_clear(m->memory, true);
        logits = llama_state_seq_set_data(m->ctx, state, size, 0) == size &&
                         llama_memory_seq_pos_max(m->memory, 0) == MORE - 1
                     ? compute(m, MORE, 1)
                     : NULL;
        same = logits && is_close(before, logits, n);
    }
    free(state);
    free(before);
    return same ? 0 : err_set(e, ERR_INVALID, "its state, put back, does not compute as before");
}

int whole_measure(struct llama_context *ctx, struct tap *tap, int32_t tokens, int32_t *bytes, struct err *e) {
    struct measuring m = {.ctx = ctx, .memory = llama_get_memory(ctx), .tokens = tokens};
    if (tokens <= MORE) return err_set(e, ERR_INVALID, "its context holds no more than %d tokens", MORE);
    *tap = (struct tap){.on = true, .rows = look, .arg = &m, .cells = tap->cells, .most = tap->most};
    int rc = measure(&m, bytes, e);
    tap->on = false;
    if (!rc) rc = prove(&m, e);
    llama_memory_clear(m.memory, true);
    return rc;
}

int whole_install(struct llama_context *ctx, const unsigned char *state, size_t size, llama_seq_id slot, int32_t most,
                  int32_t *past, struct err *e) {
    llama_memory_t memory = llama_get_memory(ctx);
    llama_memory_seq_rm(memory, slot, -1, -1);
    bool there = llama_state_seq_set_data(ctx, state, size, slot) == size;
    *past = llama_memory_seq_pos_max(memory, slot) + 1;
    if (there && *past >= 0 && *past <= most) return 0;
    llama_memory_seq_rm(memory, slot, -1, -1);
    *past = 0;
    return err_set(e, ERR_BUSY, "a state of %zu bytes does not fit here: no room, or kv_type or libllama differ", size);
}

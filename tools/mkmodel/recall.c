// How the recall model works. Tokens are bytes; their codes are words of 16 signs.
//
//   layer 0   flags   who talks (marker tokens of the chat template), checks for lost rows
//   layer 1   lags    heads that RoPE ties to distances 0 .. 7 copy the codes of those bytes into the residual stream
//   layer 2   blocks  the same for distances 7, 14 .. 56, so that 63 bytes are seen; the feed-forward part turns them
//   into a
//                     hash of 88 signs: of the context up to this token (query) and up to the one before it (key)
//   layers 3+ match   attention from query hashes to key hashes finds the place where the same context stood before;
//   the
//                     values are shares of the code of the token that followed there
//
// The squared norm of the residual stream is known for every layer, so RMSNorm is made an identity by its weights.
#include "gguf_out.h"
#include "mem.h"
#include "recall_parts.h"
#include "vocabulary.h"

#include <math.h>
#include <string.h>

enum { MATRICES_PER_LAYER = 9, OTHER_MATRICES = 4, FIRST_MATCH = 3, SIGN_UNITS = 4 * BITS + 1 };

#define CODE_GAIN     2.5    // logits per unit of code product
#define END_GAIN      1000.0 // logit of the end token where the end mark is read
#define FILLER_WEIGHT 0.06   // of feed-forward units that nothing needs

struct recall_settings recall_defaults(void) {
    return (struct recall_settings){
        .shape = {.layers = 8,
                  .heads = 8,
                  .kv_heads = 2,
                  .head_size = HEAD,
                  .width = 384,
                  .ff_width = 384,
                  .context = 131072,
                  .type = GGML_TYPE_F16},
        .seed = 1,
        .check = 1,
    };
}

static int check_shape(const struct llama_shape *s, struct err *e) {
    if (s->type != GGML_TYPE_F16 && s->type != GGML_TYPE_F32)
        return err_param(e, "type", "constructed weights do not survive coarser rounding: give type=f16 or type=f32");
    if (s->heads % LAGS)
        return err_param(e, "heads", "heads=%d does not fit %d distances: give a multiple", s->heads, LAGS);
    if (s->heads % s->kv_heads || s->heads / s->kv_heads % 2)
        return err_param(e, "kv", "kv=%d does not divide heads=%d into groups of even size", s->kv_heads, s->heads);
    if (s->width < AT_COUNT) return err_param(e, "embd", "embd=%d is too narrow: give %d or more", s->width, 384);
    if (s->ff_width < SIGN_UNITS) return err_param(e, "ff", "ff=%d is too narrow: give %d or more", s->ff_width, 384);
    if (s->vocabulary && s->vocabulary < TOKEN_BASE)
        return err_param(e, "vocab", "vocab=%d is too small: give %d or more, or 0 for no padding", s->vocabulary,
                         TOKEN_BASE);
    if (s->layers <= FIRST_MATCH)
        return err_param(e, "layers", "layers=%d leaves none for matching: give %d or more", s->layers,
                         FIRST_MATCH + 1);
    return 0;
}

static struct matrix *add_matrix(struct recall *r, const char *name, int64_t in, int64_t out) {
    struct matrix *m = &r->matrices[r->matrix_count++];
    snprintf(m->name, sizeof m->name, "%s", name);
    m->in = in;
    m->out = out;
    m->w = mem_new((size_t)(in * out), sizeof *m->w);
    return m;
}

static struct matrix *add_layer_matrix(struct recall *r, int layer, const char *part, int64_t in, int64_t out) {
    char name[64];
    snprintf(name, sizeof name, "blk.%d.%s.weight", layer, part);
    return add_matrix(r, name, in, out);
}

static struct layer add_layer(struct recall *r, int n) {
    const struct llama_shape *s = &r->settings.shape;
    int64_t heads = (int64_t)HEAD * s->heads, kv = (int64_t)HEAD * s->kv_heads;
    struct layer l;
    l.attention_norm = add_layer_matrix(r, n, "attn_norm", s->width, 1);
    l.query = add_layer_matrix(r, n, "attn_q", s->width, heads);
    l.key = add_layer_matrix(r, n, "attn_k", s->width, kv);
    l.value = add_layer_matrix(r, n, "attn_v", s->width, kv);
    l.output = add_layer_matrix(r, n, "attn_output", heads, s->width);
    l.ff_norm = add_layer_matrix(r, n, "ffn_norm", s->width, 1);
    l.gate = add_layer_matrix(r, n, "ffn_gate", s->width, s->ff_width);
    l.up = add_layer_matrix(r, n, "ffn_up", s->width, s->ff_width);
    l.down = add_layer_matrix(r, n, "ffn_down", s->ff_width, s->width);
    return l;
}

// RMSNorm becomes an identity for vectors of this squared norm.
static void fill_norm(struct matrix *norm, double square) {
    for (int64_t i = 0; i < norm->in; i++) norm->w[i] = (float)sqrt(square / (double)norm->in + 1e-5);
}

// Squared norm of the residual stream before layer n, and between its attention and its feed-forward part; small parts
// left out.
static void layer_norms(int n, double *before, double *between) {
    const double base = CODE_LENGTH + AMP_ONE * AMP_ONE + 1;
    const double lags = base + LAGS * CODE_LENGTH;
    switch (n) {
    case 0:
        *before = base + AMP_BAD * AMP_BAD;
        *between = base;
        break;
    case 1:
        *before = base;
        *between = lags;
        break;
    case 2:
        *before = lags;
        *between = lags + 2 * BITS * AMP_HASH * AMP_HASH;
        break;
    default: *before = lags + 2 * BITS * (1 + 2 * AMP_HASH * 0.8); *between = *before;
    }
}

static int token_kind(int token) {
    int byte = vocabulary_byte(token);
    if (byte == 4) return AT_OTHER; // end of transmission is repeated as the end token
    if (byte >= 0) return AT_BYTE;
    if (token == TOKEN_BOS) return AT_BOS;
    if (!vocabulary_is_marker(token)) return AT_OTHER;
    switch (vocabulary_marker(token)) {
    case MARKER_ASSISTANT: return AT_ASSISTANT;
    case MARKER_USER: return AT_USER;
    default: return AT_OTHER;
    }
}

static void fill_embedding(struct recall *r, struct matrix *embedding) {
    for (int token = 0; token < embedding->out; token++) {
        int byte = vocabulary_byte(token);
        for (int x = 0; x < CODE_LENGTH; x++)
            *at(embedding, token, AT_CODE + x) = byte >= 0 ? (float)r->code[byte][x] : (float)rng_sign(&r->rng);
        *at(embedding, token, AT_ONE) = (float)AMP_ONE;
        *at(embedding, token, token_kind(token)) = 1;
        *at(embedding, token, AT_BAD) = (float)-AMP_BAD;
    }
}

static void fill_unembedding(const struct recall *r, struct matrix *output) {
    *at(output, TOKEN_EOS, AT_END) = (float)(END_GAIN / AMP_END / AMP_OUT);
    for (int token = 0; token < output->out; token++) {
        int byte = vocabulary_byte(token);
        if (byte < 0 || token == TOKEN_BYTE0 + ' ') continue; // of the two blanks the tokenizer uses the other
        for (int y = 0; y < CODE_LENGTH; y++) {
            double sign = r->code[byte][y];
            *at(output, token, AT_OUT + y) = (float)(CODE_GAIN / AMP_OUT * sign);
            for (int n = 0; n < STEP; n++)
                for (int x = 0; x < CODE_LENGTH; x++)
                    *at(output, token, AT_LAGS + n * CODE_LENGTH + x) += (float)(CODE_GAIN * sign * r->check[n][y][x]);
        }
    }
}

// Feed-forward units that nothing needs still cost their arithmetic: random inwards, nothing outwards.
static void fill_idle_units(struct recall *r, struct layer *l, int first) {
    const struct llama_shape *s = &r->settings.shape;
    for (int n = first; n < s->ff_width; n++) {
        for (int c = 0; c < s->width; c++) {
            *at(l->gate, n, c) = (float)((int32_t)rng_next(&r->rng) * (FILLER_WEIGHT / 2147483648.0));
            *at(l->up, n, c) = (float)((int32_t)rng_next(&r->rng) * (FILLER_WEIGHT / 2147483648.0));
        }
    }
}

static void build_layer(struct recall *r, int n) {
    struct layer l = add_layer(r, n);
    double before, between;
    int units = 0;
    layer_norms(n, &before, &between);
    fill_norm(l.attention_norm, before);
    fill_norm(l.ff_norm, between);
    if (n == 0) {
        recall_flags_layer(r, &l);
        units = 2;
    } else if (n == 1) {
        recall_lags_layer(r, &l);
    } else if (n == 2) {
        recall_blocks_layer(r, &l);
        units = SIGN_UNITS;
    } else {
        size_t size = (size_t)(r->settings.shape.kv_heads * HEAD) * (size_t)recall_match_columns();
        recall_match_layer(r, &l, r->mixtures + (size_t)(n - FIRST_MATCH) * size);
    }
    fill_idle_units(r, &l, units);
}

static int build(struct recall *r, struct err *e) {
    const struct llama_shape *s = &r->settings.shape;
    size_t matches = (size_t)(s->layers - FIRST_MATCH);
    r->group = s->heads / s->kv_heads;
    r->matrices = mem_new((size_t)(s->layers * MATRICES_PER_LAYER + OTHER_MATRICES), sizeof *r->matrices);
    r->shares = mem_new(matches * (size_t)s->heads, sizeof *r->shares);
    r->mixtures = mem_new(matches * (size_t)(s->kv_heads * HEAD) * (size_t)recall_match_columns(), sizeof *r->mixtures);
    rng_seed(&r->rng, (uint64_t)r->settings.seed);
    codes_make(r->code);
    recall_hash_make(r);
    struct matrix *embedding = add_matrix(r, "token_embd.weight", s->width, s->vocabulary);
    recall_fill_rope(add_matrix(r, "rope_freqs.weight", HEAD / 2, 1));
    fill_embedding(r, embedding);
    for (int n = 0; n < s->layers; n++) build_layer(r, n);
    if (recall_match_solve(r, e)) return -1;
    double norm, unused;
    layer_norms(s->layers, &norm, &unused);
    fill_norm(add_matrix(r, "output_norm.weight", s->width, 1), norm);
    fill_unembedding(r, add_matrix(r, "output.weight", s->width, s->vocabulary));
    return 0;
}

static int write_file(const struct recall *r, const char *path, struct err *e) {
    const struct llama_shape *s = &r->settings.shape;
    struct gguf_out out;
    int result = gguf_out_open(&out, path, r->matrix_count, e);
    if (result) goto cleanup;
    llama_header_write(out.header, "llama", s, "recall");
    gguf_set_val_str(out.header, "general.description", "constructed weights: exact recall of passages of the prompt");
    gguf_set_val_f32(out.header, "llama.rope.freq_base", 1.0f); // every pair turns by 1 / rope_freqs
    vocabulary_write(out.header, s->vocabulary, PADDING_UNUSED);
    for (int i = 0; i < r->matrix_count; i++) {
        const struct matrix *m = &r->matrices[i];
        if (m->out == 1)
            gguf_out_declare_vector(&out, m->name, m->in);
        else
            gguf_out_declare(&out, m->name, (enum ggml_type)s->type, m->in, m->out);
    }
    result = gguf_out_begin(&out, e);
    for (int i = 0; i < r->matrix_count && !result; i++)
        result = gguf_out_rows(&out, r->matrices[i].w, r->matrices[i].out, e);
    if (!result) result = gguf_out_commit(&out, e);
cleanup:
    gguf_out_close(&out);
    return result;
}

static void recall_free(struct recall *r) {
    for (int i = 0; i < r->matrix_count; i++) free(r->matrices[i].w);
    free(r->matrices);
    free(r->shares);
    free(r->mixtures);
    free(r->hash);
    free(r);
}

int recall_write(const char *path, const struct recall_settings *settings, struct err *e) {
    if (check_shape(&settings->shape, e)) return -1;
    struct recall *r = mem_new(1, sizeof *r);
    r->settings = *settings;
    if (!r->settings.shape.vocabulary) r->settings.shape.vocabulary = TOKEN_BASE;
    int result = build(r, e);
    if (!result) result = write_file(r, path, e);
    recall_free(r);
    return result;
}

// Random weights that behave: activations stay of order one, attention is selective, and greedy text varies.
//
// Only words ever win: all words share a constant in channel 0 of their output rows, which bytes and control tokens
// lack. Channel 0 of the residual stream is a constant too, since no layer writes there.
#include "random.h"

#include "gguf_out.h"
#include "mem.h"
#include "random_layers.h"
#include "rng.h"
#include "vocabulary.h"

#include <math.h>

enum { CHUNK_ROWS = 64, OTHER_MATRICES = 3 };

#define EMBEDDING_NORM 0.5  // of a token's vector: small beside what the layers add, so that no token simply repeats
#define CHANNEL0       0.25 // the constant in it
#define LOGIT_SPREAD   2.5  // standard deviation over the vocabulary
#define WORD_LEAD      20.0 // logits by which words are ahead of other tokens
#define OTHER_TOKENS   0.25 // spread of the output rows of other tokens beside those of words
#define LAYER_POWER    0.75 // what a layer adds to the mean square of the residual stream, roughly

struct writer {
    const struct random_settings *settings;
    struct gguf_out out;
    struct rng rng;
    float *rows; // CHUNK_ROWS of the widest matrix
    struct layer_part parts[LAYER_PARTS];
    int n_parts; // of a layer
    bool tied;   // the output matrix is the embedding
};

struct random_settings random_preset(enum random_preset preset) {
    static const struct random_settings presets[] = {
        [PRESET_TINY] = {PRESET_TINY, {2, 4, 2, 32, 128, 256, 512, 4096, GGML_TYPE_F32}, 1, 0},
        [PRESET_100M] = {PRESET_100M, {12, 12, 4, 64, 768, 2048, 32000, 32768, GGML_TYPE_Q8_0}, 1, 1},
        [PRESET_1B] = {PRESET_1B, {22, 32, 4, 64, 2048, 5632, 32000, 32768, GGML_TYPE_Q4_0}, 1, 0},
    };
    return presets[preset];
}

static int check_shape(const struct random_settings *settings, struct err *e) {
    const struct llama_shape *s = &settings->shape;
    if (s->heads % s->kv_heads) return err_param(e, "kv", "kv=%d does not divide heads=%d", s->kv_heads, s->heads);
    return 0;
}

// Uniform numbers of this standard deviation, four from each step of the generator.
static void fill(struct rng *rng, float *w, int64_t count, double deviation) {
    float scale = (float)(deviation * sqrt(3.0) / 32768.0);
    for (int64_t i = 0; i < count; i += 4) {
        uint64_t bits = rng_next64(rng);
        for (int64_t k = i; k < i + 4 && k < count; k++) {
            w[k] = (float)(int16_t)(bits & 0xffff) * scale;
            bits >>= 16;
        }
    }
}

static bool is_word(int64_t token) { return token >= TOKEN_BASE; }

static void mark_row(float *row, int64_t width, int64_t number, enum role role) {
    switch (role) {
    case ROLE_PLAIN:
    case ROLE_VECTOR: return;
    case ROLE_WRITER: // into the residual stream: nothing into channel 0
        if (number == 0)
            for (int64_t i = 0; i < width; i++) row[i] = 0;
        return;
    case ROLE_EMBEDDING: row[0] = (float)CHANNEL0; return;
    case ROLE_DECAY:
        for (int64_t i = 0; i < width; i++) row[i] = -(float)(i + 1);
        return;
    case ROLE_OUTPUT:
    case ROLE_TIED: break;
    }
    row[0] = is_word(number) ? (float)CHANNEL0 : 0;
    for (int64_t i = 1; i < width && !is_word(number); i++) row[i] *= (float)OTHER_TOKENS;
}

static int write_matrix(struct writer *w, int64_t width, int64_t rows, double deviation, enum role role,
                        struct err *e) {
    for (int64_t done = 0; done < rows;) {
        int64_t part = rows - done < CHUNK_ROWS ? rows - done : CHUNK_ROWS;
        fill(&w->rng, w->rows, width * part, deviation);
        for (int64_t i = 0; i < part; i++) mark_row(w->rows + i * width, width, done + i, role);
        if (gguf_out_rows(&w->out, w->rows, part, e)) return -1;
        done += part;
    }
    return 0;
}

static int write_norm(struct writer *w, int64_t length, double value, double value0, struct err *e) {
    for (int64_t i = 0; i < length; i++) w->rows[i] = (float)(i ? value : value0);
    return gguf_out_rows(&w->out, w->rows, 1, e);
}

static void declare_layer(struct writer *w, int n) {
    for (int i = 0; i < w->n_parts; i++) {
        const struct layer_part *p = &w->parts[i];
        enum ggml_type type = p->exact ? GGML_TYPE_F32 : (enum ggml_type)w->settings->shape.type;
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s", n, p->name);
        if (p->role == ROLE_VECTOR)
            gguf_out_declare_vector(&w->out, name, p->width);
        else
            gguf_out_declare(&w->out, name, type, p->width, p->rows);
    }
}

static int write_layer(struct writer *w, struct err *e) {
    for (int i = 0; i < w->n_parts; i++) {
        const struct layer_part *p = &w->parts[i];
        int rc = p->role == ROLE_VECTOR ? write_norm(w, p->width, p->value, p->value, e)
                                        : write_matrix(w, p->width, p->rows, p->value, p->role, e);
        if (rc) return -1;
    }
    return 0;
}

static void declare_all(struct writer *w) {
    const struct llama_shape *s = &w->settings->shape;
    gguf_out_declare(&w->out, "token_embd.weight", (enum ggml_type)s->type, s->width, s->vocabulary);
    for (int n = 0; n < s->layers; n++) declare_layer(w, n);
    gguf_out_declare_vector(&w->out, "output_norm.weight", s->width);
    if (!w->tied) gguf_out_declare(&w->out, "output.weight", (enum ggml_type)s->type, s->width, s->vocabulary);
}

static int write_all(struct writer *w, struct err *e) {
    const struct llama_shape *s = &w->settings->shape;
    bool tied = w->tied;
    double deviation = layers_deviation(EMBEDDING_NORM, s->width);
    if (write_matrix(w, s->width, s->vocabulary, deviation, tied ? ROLE_TIED : ROLE_EMBEDDING, e)) return -1;
    for (int n = 0; n < s->layers; n++)
        if (write_layer(w, e)) return -1;
    double stream = sqrt(s->layers * LAYER_POWER); // channel 0 is CHANNEL0 / stream after the norm
    double lead = WORD_LEAD * stream / (CHANNEL0 * CHANNEL0);
    if (write_norm(w, s->width, LOGIT_SPREAD / EMBEDDING_NORM, lead, e)) return -1;
    return tied ? 0 : write_matrix(w, s->width, s->vocabulary, deviation, ROLE_OUTPUT, e);
}

static int64_t widest(const struct writer *w) {
    int64_t width = w->settings->shape.width;
    for (int i = 0; i < w->n_parts; i++)
        if (w->parts[i].width > width) width = w->parts[i].width;
    return width;
}

int random_write(const char *path, const struct random_settings *settings, struct err *e) {
    const struct llama_shape *s = &settings->shape;
    enum random_arch arch = (enum random_arch)settings->arch;
    if (check_shape(settings, e)) return -1;
    struct writer w = {.settings = settings, .tied = settings->tied || arch == ARCH_COHERE2 /* knows nothing else */};
    w.n_parts = layers_parts(arch, s, w.parts);
    int result = gguf_out_open(&w.out, path, s->layers * w.n_parts + OTHER_MATRICES, e);
    if (result) goto cleanup;
    w.rows = mem_new((size_t)widest(&w) * CHUNK_ROWS, sizeof *w.rows);
    rng_seed(&w.rng, (uint64_t)settings->seed);
    layers_header(arch, s, w.out.header);
    vocabulary_write(w.out.header, s->vocabulary, PADDING_WORDS);
    declare_all(&w);
    result = gguf_out_begin(&w.out, e);
    if (!result) result = write_all(&w, e);
    if (!result) result = gguf_out_commit(&w.out, e);
cleanup:
    gguf_out_close(&w.out);
    free(w.rows);
    return result;
}

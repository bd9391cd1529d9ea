#include "random_layers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SELECTIVE 1.5  // deviation of queries and keys: scores spread by its square
#define STEP_BIAS -2.0 // softplus of it is how fast a recurrent state forgets: half of it in about five tokens

enum { CONV = 4, STATE = 16, WINDOW = 64 }; // numbers of a recurrent state; tokens of a sliding window

double layers_deviation(double gain, int64_t in) { return gain / sqrt((double)in); }

static int copy(const struct layer_part *parts, size_t n, struct layer_part out[LAYER_PARTS]) {
    memcpy(out, parts, n * sizeof *parts);
    return (int)n;
}

static int llama_parts(const struct llama_shape *s, struct layer_part out[LAYER_PARTS]) {
    int64_t heads = (int64_t)s->heads * s->head_size, kv = (int64_t)s->kv_heads * s->head_size;
    double selective = layers_deviation(SELECTIVE, s->width), even = layers_deviation(1, s->width);
    const struct layer_part parts[] = {
        {"attn_norm.weight", s->width, 1, 1, ROLE_VECTOR, true},
        {"attn_q.weight", s->width, heads, selective, ROLE_PLAIN, false},
        {"attn_k.weight", s->width, kv, selective, ROLE_PLAIN, false},
        {"attn_v.weight", s->width, kv, even, ROLE_PLAIN, false},
        {"attn_output.weight", heads, s->width, layers_deviation(1, heads), ROLE_WRITER, false},
        {"ffn_norm.weight", s->width, 1, 1, ROLE_VECTOR, true},
        {"ffn_gate.weight", s->width, s->ff_width, selective, ROLE_PLAIN, false},
        {"ffn_up.weight", s->width, s->ff_width, even, ROLE_PLAIN, false},
        {"ffn_down.weight", s->ff_width, s->width, layers_deviation(1, s->ff_width), ROLE_WRITER, false},
    };
    return copy(parts, sizeof parts / sizeof *parts, out);
}

// Attention and feed-forward beside each other, behind one norm.
static int cohere2_parts(const struct llama_shape *s, struct layer_part out[LAYER_PARTS]) {
    struct layer_part all[LAYER_PARTS];
    int n = 0, parts = llama_parts(s, all);
    for (int i = 0; i < parts; i++)
        if (strcmp(all[i].name, "ffn_norm.weight") != 0) out[n++] = all[i];
    return n;
}

static int64_t rank(const struct llama_shape *s) { return (s->width + 15) / 16; }

static int mamba_parts(const struct llama_shape *s, struct layer_part out[LAYER_PARTS]) {
    int64_t inner = 2 * (int64_t)s->width, low = rank(s);
    double even = layers_deviation(1, s->width);
    const struct layer_part parts[] = {
        {"attn_norm.weight", s->width, 1, 1, ROLE_VECTOR, true},
        {"ssm_in.weight", s->width, 2 * inner, SELECTIVE * even, ROLE_PLAIN, false},
        {"ssm_conv1d.weight", CONV, inner, layers_deviation(1, CONV), ROLE_PLAIN, true},
        {"ssm_conv1d.bias", inner, 1, 0, ROLE_VECTOR, true},
        {"ssm_x.weight", inner, low + 2 * STATE, layers_deviation(SELECTIVE, inner), ROLE_PLAIN, false},
        {"ssm_dt.weight", low, inner, layers_deviation(1, low), ROLE_PLAIN, true},
        {"ssm_dt.bias", inner, 1, STEP_BIAS, ROLE_VECTOR, true},
        {"ssm_a", STATE, inner, 1, ROLE_DECAY, true},
        {"ssm_d", inner, 1, 1, ROLE_VECTOR, true},
        {"ssm_out.weight", inner, s->width, layers_deviation(1, inner), ROLE_WRITER, false},
    };
    return copy(parts, sizeof parts / sizeof *parts, out);
}

int layers_parts(enum random_arch arch, const struct llama_shape *s, struct layer_part out[LAYER_PARTS]) {
    static int (*const parts[])(const struct llama_shape *, struct layer_part *) = {
        [ARCH_LLAMA] = llama_parts, [ARCH_MAMBA] = mamba_parts, [ARCH_COHERE2] = cohere2_parts};
    return parts[arch](s, out);
}

// ---------------------------------------------------------------- headers
static void mamba_header(const struct llama_shape *s, struct gguf_context *header) {
    gguf_set_val_u32(header, "mamba.ssm.conv_kernel", CONV);
    gguf_set_val_u32(header, "mamba.ssm.inner_size", 2 * (uint32_t)s->width);
    gguf_set_val_u32(header, "mamba.ssm.state_size", STATE);
    gguf_set_val_u32(header, "mamba.ssm.time_step_rank", (uint32_t)rank(s));
}

static void cohere2_header(const struct llama_shape *s, struct gguf_context *header) {
    (void)s;
    gguf_set_val_u32(header, "cohere2.attention.sliding_window", WINDOW);
    gguf_set_val_f32(header, "cohere2.attention.layer_norm_epsilon", 1e-5f);
    gguf_set_val_f32(header, "cohere2.logit_scale", 1.0f);
    gguf_set_val_f32(header, "cohere2.rope.freq_base", 10000.0f);
}

static void llama_header(const struct llama_shape *s, struct gguf_context *header) {
    (void)s;
    gguf_set_val_f32(header, "llama.rope.freq_base", 10000.0f);
}

void layers_header(enum random_arch arch, const struct llama_shape *s, struct gguf_context *header) {
    static const struct {
        const char *name, *purpose;
        bool attends;
        void (*more)(const struct llama_shape *, struct gguf_context *);
    } archs[] = {
        [ARCH_LLAMA] = {"llama", "random weights, for measuring speed", true, llama_header},
        [ARCH_MAMBA] = {"mamba", "random weights, with a recurrent memory", false, mamba_header},
        [ARCH_COHERE2] = {"cohere2", "random weights, with sliding windows", true, cohere2_header},
    };
    struct llama_shape shape = *s;
    if (!archs[arch].attends) shape.heads = shape.kv_heads = shape.ff_width = 0;
    llama_header_write(header, archs[arch].name, &shape, "random");
    gguf_set_val_str(header, "general.description", archs[arch].purpose);
    archs[arch].more(s, header);
}

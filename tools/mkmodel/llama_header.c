#include "llama_header.h"

#include <stdint.h>
#include <stdio.h>

// The number by which general.file_type names a type (the LLAMA_FTYPE_* of llama.h).
static uint32_t file_type(int type) {
    switch (type) {
    case GGML_TYPE_F16: return 1;
    case GGML_TYPE_Q4_0: return 2;
    case GGML_TYPE_Q8_0: return 7;
    case GGML_TYPE_BF16: return 32;
    default: return 0;
    }
}

static void set_number(struct gguf_context *header, const char *arch, const char *name, int value) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", arch, name);
    gguf_set_val_u32(header, key, (uint32_t)value);
}

void llama_header_write(struct gguf_context *header, const char *arch, const struct llama_shape *shape,
                        const char *name) {
    char epsilon[96];
    gguf_set_val_str(header, "general.architecture", arch);
    gguf_set_val_str(header, "general.name", name);
    gguf_set_val_u32(header, "general.file_type", file_type(shape->type));
    if (shape->type != GGML_TYPE_F32 && shape->type != GGML_TYPE_F16 && shape->type != GGML_TYPE_BF16)
        gguf_set_val_u32(header, "general.quantization_version", GGML_QNT_VERSION);
    set_number(header, arch, "context_length", shape->context);
    set_number(header, arch, "embedding_length", shape->width);
    set_number(header, arch, "block_count", shape->layers);
    set_number(header, arch, "feed_forward_length", shape->ff_width);
    set_number(header, arch, "attention.head_count", shape->heads);
    set_number(header, arch, "attention.head_count_kv", shape->kv_heads);
    set_number(header, arch, "attention.key_length", shape->head_size);
    set_number(header, arch, "attention.value_length", shape->head_size);
    snprintf(epsilon, sizeof epsilon, "%s.attention.layer_norm_rms_epsilon", arch);
    gguf_set_val_f32(header, epsilon, 1e-5f);
    set_number(header, arch, "rope.dimension_count", shape->head_size);
    set_number(header, arch, "vocab_size", shape->vocabulary);
}

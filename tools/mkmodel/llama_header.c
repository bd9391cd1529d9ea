#include "llama_header.h"

#include <stdint.h>

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

void llama_header_write(struct gguf_context *header, const struct llama_shape *shape, const char *name) {
    gguf_set_val_str(header, "general.architecture", "llama");
    gguf_set_val_str(header, "general.name", name);
    gguf_set_val_u32(header, "general.file_type", file_type(shape->type));
    if (shape->type != GGML_TYPE_F32 && shape->type != GGML_TYPE_F16 && shape->type != GGML_TYPE_BF16)
        gguf_set_val_u32(header, "general.quantization_version", GGML_QNT_VERSION);
    gguf_set_val_u32(header, "llama.context_length", (uint32_t)shape->context);
    gguf_set_val_u32(header, "llama.embedding_length", (uint32_t)shape->width);
    gguf_set_val_u32(header, "llama.block_count", (uint32_t)shape->layers);
    gguf_set_val_u32(header, "llama.feed_forward_length", (uint32_t)shape->ff_width);
    gguf_set_val_u32(header, "llama.attention.head_count", (uint32_t)shape->heads);
    gguf_set_val_u32(header, "llama.attention.head_count_kv", (uint32_t)shape->kv_heads);
    gguf_set_val_u32(header, "llama.attention.key_length", (uint32_t)shape->head_size);
    gguf_set_val_u32(header, "llama.attention.value_length", (uint32_t)shape->head_size);
    gguf_set_val_f32(header, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_set_val_u32(header, "llama.rope.dimension_count", (uint32_t)shape->head_size);
    gguf_set_val_u32(header, "llama.vocab_size", (uint32_t)shape->vocabulary);
}

// What random and recall models share: the shape of a llama-architecture model and its metadata.
#pragma once

#include <ggml.h>
#include <gguf.h>

struct llama_shape {
    int layers, heads, kv_heads, head_size, width, ff_width, vocabulary, context;
    int type; // enum ggml_type of the matrices
};

// Everything but the tokenizer and the RoPE parameters. arch: "llama", or another one whose keys are named alike.
void llama_header_write(struct gguf_context *header, const char *arch, const struct llama_shape *shape,
                        const char *name);

// What a GGUF file says of itself, without loading it: metadata only, every type and length checked. Threads: any.
#pragma once

#include "base/err.h"
#include "engine/worker/template.h"
#include <stdbool.h>
#include <stdint.h>

struct shape {
    char name[128], arch[64], quant[64], description[256];
    int64_t bytes;                                                            // of the file
    int64_t parameters;                                                       // in this file's tensors
    int64_t ctx_train, layers, embd, heads, heads_kv, vocab, experts, splits; // 0 = not said
    int64_t experts_used, window, key_length, value_length;                   // of each token and layer; 0 = not said
    int64_t expert_parameters;                                                // of `parameters`, those of experts
    int64_t table_parameters;                                                 // those of the vocabulary's lookup table
    bool tied;                                                                // which is the output head, too
    int64_t kv_values;     // numbers the KV cache holds per token, keys and values of all layers; 0 = unknown
    char *chat_template;   // owned; NULL = none
    char bos[64], eos[64]; // the tokens' text, "" where there is none
};

// ERR_NOT_FOUND, ERR_IO, or ERR_INVALID with a line that says what is wrong with the file.
int shape_read(struct shape *s, const char *path, struct err *e) MUST_USE;
void shape_free(struct shape *s);

// Bytes of KV cache per token for a type of ggml ("f16", "q8_0").
int64_t shape_kv_bytes(const struct shape *s, const char *kv_type);

// What it costs to compute with. Fails where the file does not say.
struct plan_shape;
int shape_plan(const struct shape *s, struct plan_shape *out, struct err *e) MUST_USE;

// Its chat template, ready to render; ChatML where the file has none. Fails as chat_template_new does.
struct chat_template *shape_chat(const struct shape *s, struct err *e) MUST_USE;

// The catalogue of models. Shapes are those of each model's config.json on Hugging Face (hidden_size,
// num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim, vocab_size, tie_word_embeddings,
// sliding_window), parameter counts those of its model card or of its safetensors index; shape_test recomputes them
// from the shapes where that is possible.
#include "plan/names.h"
#include "plan/shape.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct entry {
    const char *name;
    double billions; // all parameters
    double used;     // billions used per token where there are experts, the lookup table not counted; 0 = all
    int32_t embd, layers, heads, heads_kv, head, vocab;
    bool tied; // the output head is the lookup table
    int32_t window, windowed_layers;
};

static const struct entry entries[] = {
    // meta-llama/Llama-3.1-8B, ...; "The Llama 3 Herd of Models", arXiv 2407.21783, table 3
    {"llama-3.2-1b", 1.236, 0, 2048, 16, 32, 8, 64, 128256, true, 0, 0},
    {"llama-3.2-3b", 3.213, 0, 3072, 28, 24, 8, 128, 128256, true, 0, 0},
    {"llama-3.1-8b", 8.030, 0, 4096, 32, 32, 8, 128, 128256, false, 0, 0},
    {"llama-3.1-70b", 70.554, 0, 8192, 80, 64, 8, 128, 128256, false, 0, 0},
    {"llama-3.3-70b", 70.554, 0, 8192, 80, 64, 8, 128, 128256, false, 0, 0},
    {"llama-3.1-405b", 405.85, 0, 16384, 126, 128, 8, 128, 128256, false, 0, 0},
    // Qwen/Qwen2.5-*; Qwen2.5 technical report, arXiv 2412.15115, table 1
    {"qwen2.5-0.5b", 0.494, 0, 896, 24, 14, 2, 64, 151936, true, 0, 0},
    {"qwen2.5-1.5b", 1.544, 0, 1536, 28, 12, 2, 128, 151936, true, 0, 0},
    {"qwen2.5-3b", 3.086, 0, 2048, 36, 16, 2, 128, 151936, true, 0, 0},
    {"qwen2.5-7b", 7.616, 0, 3584, 28, 28, 4, 128, 152064, false, 0, 0},
    {"qwen2.5-14b", 14.770, 0, 5120, 48, 40, 8, 128, 152064, false, 0, 0},
    {"qwen2.5-32b", 32.764, 0, 5120, 64, 40, 8, 128, 152064, false, 0, 0},
    {"qwen2.5-72b", 72.706, 0, 8192, 80, 64, 8, 128, 152064, false, 0, 0},
    // Qwen/Qwen3-*; Qwen3 technical report, arXiv 2505.09388, tables 1 and 2. Used by experts: 3.3 and 22 billion with
    // the
    // lookup table
    {"qwen3-0.6b", 0.596, 0, 1024, 28, 16, 8, 128, 151936, true, 0, 0},
    {"qwen3-1.7b", 1.721, 0, 2048, 28, 16, 8, 128, 151936, true, 0, 0},
    {"qwen3-4b", 4.022, 0, 2560, 36, 32, 8, 128, 151936, true, 0, 0},
    {"qwen3-8b", 8.191, 0, 4096, 36, 32, 8, 128, 151936, false, 0, 0},
    {"qwen3-14b", 14.768, 0, 5120, 40, 40, 8, 128, 151936, false, 0, 0},
    {"qwen3-32b", 32.762, 0, 5120, 64, 64, 8, 128, 151936, false, 0, 0},
    {"qwen3-30b-a3b", 30.532, 3.04, 2048, 48, 32, 4, 128, 151936, false, 0, 0},
    {"qwen3-235b-a22b", 235.09, 21.5, 4096, 94, 64, 4, 128, 151936, false, 0, 0},
    // mistralai/*; Mixtral: arXiv 2401.04088 (46.7 billion, 12.9 used, here less the lookup table)
    {"mistral-7b", 7.248, 0, 4096, 32, 32, 8, 128, 32768, false, 0, 0},
    {"mistral-nemo-12b", 12.248, 0, 5120, 40, 32, 8, 128, 131072, false, 0, 0},
    {"mistral-small-24b", 23.572, 0, 5120, 40, 32, 8, 128, 131072, false, 0, 0},
    {"mixtral-8x7b", 46.703, 12.75, 4096, 32, 32, 8, 128, 32000, false, 0, 0},
    {"mixtral-8x22b", 140.62, 38.95, 6144, 56, 48, 8, 128, 32000, false, 0, 0},
    // openai/gpt-oss-*; model card, arXiv 2508.10925, table 1: used per token without the lookup table; every other
    // layer
    // sees 128 positions
    {"gpt-oss-20b", 20.91, 3.61, 2880, 24, 64, 8, 64, 201088, false, 128, 12},
    {"gpt-oss-120b", 116.83, 5.13, 2880, 36, 64, 8, 64, 201088, false, 128, 18},
    // google/gemma-3-*, text part; Gemma 3 report, arXiv 2503.19786: five layers of six see 1,024 positions
    {"gemma-3-4b", 3.88, 0, 2560, 34, 8, 4, 256, 262208, true, 1024, 29},
    {"gemma-3-12b", 11.77, 0, 3840, 48, 16, 8, 256, 262208, true, 1024, 40},
    {"gemma-3-27b", 27.01, 0, 5376, 62, 32, 16, 128, 262208, true, 1024, 52},
    // microsoft/phi-4; arXiv 2412.08905
    {"phi-4", 14.66, 0, 5120, 40, 40, 10, 128, 100352, false, 0, 0},
    // deepseek-ai/DeepSeek-V3 (and R1): arXiv 2412.19437, section 4.2; V2-Lite: arXiv 2405.04434, appendix B. See
    // latent()
    {"deepseek-v3", 671.0, 37.0, 7168, 61, 128, 128, 0, 129280, false, 0, 0},
    {"deepseek-r1", 671.0, 37.0, 7168, 61, 128, 128, 0, 129280, false, 0, 0},
    {"deepseek-v2-lite", 15.7, 2.4, 2048, 27, 16, 16, 0, 102400, false, 0, 0},
};

enum { ENTRIES = sizeof entries / sizeof *entries };

// Multi-head latent attention keeps 512 compressed numbers and 64 rotated ones per position, whatever the heads; scores
// take 128 + 64 numbers per key, values have 128 (kv_lora_rank, qk_rope_head_dim, qk_nope_head_dim, v_head_dim).
static void latent(struct plan_shape *s) {
    s->key = 192;
    s->value = 128;
    s->kv_width = 576;
}

static void fill(struct plan_shape *s, const struct entry *x) {
    double vocabulary = (double)x->vocab * x->embd;
    *s = (struct plan_shape){.parameters = x->billions * 1e9,
                             .table = x->tied ? 0 : vocabulary,
                             .head = vocabulary,
                             .weight_bits = dtype_bits(DTYPE_F16),
                             .layers = x->layers,
                             .embd = x->embd,
                             .heads = x->heads,
                             .key = x->head,
                             .value = x->head,
                             .kv_width = 2 * x->heads_kv * x->head,
                             .window = x->window,
                             .windowed_layers = x->windowed_layers};
    s->active = x->used > 0 ? x->used * 1e9 : s->parameters - s->table;
    if (!x->head) latent(s);
    snprintf(s->name, sizeof s->name, "%s", x->name);
}

const char *plan_shape_name(size_t i) { return i < ENTRIES ? entries[i].name : NULL; }

int plan_shape_find(const char *name, struct plan_shape *out, struct err *e) {
    for (size_t i = 0; i < ENTRIES; i++) {
        if (strcmp(entries[i].name, name)) continue;
        fill(out, &entries[i]);
        return 0;
    }
    return names_unknown(e, "model", name, plan_shape_name);
}

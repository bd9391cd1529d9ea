// A loaded model that text is fed to and that continues it greedily: what the checks of made models need of libllama.
#pragma once

#include <ggml.h>
#include <llama.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct probe_settings {
    const char *backend_dir; // folder of ggml's back ends; NULL or empty: ggml's own search
    const char *model_path;
    uint32_t context;       // tokens
    enum ggml_type kv_type; // of the KV cache
    int threads;            // beyond the idle cores they make it slower, by a multiple
};

struct probe {
    struct llama_model *model;
    struct llama_context *context;
    const struct llama_vocab *vocab;
    int32_t position; // tokens fed so far
};

// Loads the model. 0, or -1 after a message on stderr; probe_close is allowed either way.
int probe_open(struct probe *probe, const struct probe_settings *settings);
void probe_close(struct probe *probe);

// Forgets everything from this position on (0: all).
int probe_rewind(struct probe *probe, int32_t position);

// Feeds text, in which the names of marker tokens count as those tokens; at position 0 the BOS token goes first.
int probe_feed(struct probe *probe, const char *text, size_t length);

// Generates greedily until `want` bytes or an end token; the text is cut to `want`. Returns its bytes, -1 on failure.
int probe_continue(struct probe *probe, char *out, size_t want);

#include "probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROBE_BATCH = 512, PIECE_MAX = 256 };

static void quiet_log(enum ggml_log_level level, const char *text, void *user_data) {
    (void)user_data;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static int fail(const char *what) {
    fprintf(stderr, "probe: %s\n", what);
    return -1;
}

int probe_open(struct probe *probe, const struct probe_settings *settings) {
    *probe = (struct probe){0};
    llama_log_set(quiet_log, NULL);
    if (settings->backend_dir && *settings->backend_dir) {
        ggml_backend_load_all_from_path(settings->backend_dir);
    } else {
        ggml_backend_load_all();
    }
    struct llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    probe->model = llama_model_load_from_file(settings->model_path, model_params);
    if (!probe->model) {
        return fail("the model does not load");
    }
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = settings->context;
    params.n_batch = PROBE_BATCH;
    params.n_ubatch = PROBE_BATCH;
    params.type_k = settings->kv_type;
    params.type_v = settings->kv_type;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    params.n_threads = settings->threads;
    params.n_threads_batch = params.n_threads;
    probe->context = llama_init_from_model(probe->model, params);
    if (!probe->context) {
        return fail("no context for the model");
    }
    probe->vocab = llama_model_get_vocab(probe->model);
    return 0;
}

void probe_close(struct probe *probe) {
    if (probe->context) {
        llama_free(probe->context);
    }
    if (probe->model) {
        llama_model_free(probe->model);
    }
    *probe = (struct probe){0};
}

int probe_rewind(struct probe *probe, int32_t position) {
    if (!llama_memory_seq_rm(llama_get_memory(probe->context), 0, position, -1)) {
        return fail("the KV cache cannot be cut");
    }
    probe->position = position;
    return 0;
}

static int decode(struct probe *probe, llama_token *tokens, int32_t count) {
    for (int32_t done = 0; done < count;) {
        int32_t part = count - done < PROBE_BATCH ? count - done : PROBE_BATCH;
        if (llama_decode(probe->context, llama_batch_get_one(tokens + done, part)) != 0) {
            return fail("decoding failed (is the context long enough?)");
        }
        done += part;
        probe->position += part;
    }
    return 0;
}

int probe_feed(struct probe *probe, const char *text, size_t length) {
    int32_t room = (int32_t)length + 8;
    llama_token *tokens = malloc((size_t)room * sizeof *tokens);
    if (!tokens) {
        return fail("out of memory");
    }
    bool first = probe->position == 0;
    int32_t count = llama_tokenize(probe->vocab, text, (int32_t)length, tokens, room, first, true);
    int result = count < 0 ? fail("the text cannot be tokenized") : decode(probe, tokens, count);
    free(tokens);
    return result;
}

static llama_token best_token(const struct probe *probe) {
    const float *logits = llama_get_logits_ith(probe->context, -1);
    int32_t count = llama_vocab_n_tokens(probe->vocab);
    llama_token best = 0;
    for (llama_token i = 1; i < count; i++) {
        if (logits[i] > logits[best]) {
            best = i;
        }
    }
    return best;
}

int probe_continue(struct probe *probe, char *out, size_t want) {
    size_t length = 0;
    while (length < want) {
        llama_token token = best_token(probe);
        if (llama_vocab_is_eog(probe->vocab, token)) {
            break;
        }
        char piece[PIECE_MAX];
        int32_t bytes = llama_token_to_piece(probe->vocab, token, piece, sizeof piece, 0, true);
        if (bytes < 0) {
            return fail("a token longer than any that is made here");
        }
        size_t part = (size_t)bytes < want - length ? (size_t)bytes : want - length;
        memcpy(out + length, piece, part);
        length += part;
        if (length < want && decode(probe, &token, 1) != 0) {
            return -1;
        }
    }
    return (int)length;
}

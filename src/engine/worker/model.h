// A loaded model: weights, context with its KV cache, tokenizer, chat template. Main thread, except the vocabulary (any
// thread) and the chat template (the thread that loaded it hands it to the control thread once).
#pragma once

#include "engine/protocol.h"
#include "engine/worker/probe.h"
#include "engine/worker/template.h"
#include "plan/cost.h"
#include <llama.h>

struct model {
    struct llama_model *weights;
    struct llama_context *ctx;
    const struct llama_vocab *vocab;
    struct chat_template *chat; // NULL: chats are refused
    char chat_why[256];         // then the reason
    llama_token *eog;           // tokens that end generation; owned
    size_t n_eog;
    size_t longest; // bytes of the longest token's text
    struct worker_info info;
    struct tap tap;         // looks on while ctx computes
    struct probe kv;        // how rows are taken out and put in; form KV_OPAQUE: the state is
    llama_seq_id staging;   // of ctx, for rows on their way
    llama_seq_id measuring; // of ctx, for what is bare: it takes no place that another one may have
    bool emulates;          // computing is paced, as info.emulated says, to:
    struct profile emulated;
};

// m must not be moved from then on. progress: called with 0..1, often and to the end, while loading; false stops the
// load. On failure m holds nothing, and e says in one line what is wrong.
int model_load(struct model *m, const struct engine_options *o, bool (*progress)(float fraction, void *arg), void *arg,
               struct err *e) MUST_USE;
void model_close(struct model *m);

// The bytes of one token, control tokens only where `special`. Any thread. out->failed where there are too many.
void model_piece(const struct model *m, llama_token token, bool special, struct buf *out);

// Loads libllama's backends, once. Before any other call to libllama; captures its log.
void backends_init(void);
// "CUDA0, CPU": the devices, separated by commas.
void backends_name(char *out, size_t size);

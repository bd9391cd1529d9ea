// Whether a model's KV cache can be streamed by rows, found out by trying it once the model is loaded: rows seen while
// a few tokens are computed (tap.h) must equal those of libllama's state of the sequence, the form of that state must
// be understood (layout.h), and a state that we have composed must install and read back the same.
// Threads: the one that computes.
#pragma once

#include "base/limits.h"
#include "engine/worker/layout.h"
#include "engine/worker/tap.h"
#include <llama.h>

enum { PROBE_TOKENS = 32 };

struct probe {
    struct layout layout;
    int16_t layers[LIMIT_KV_LAYERS]; // of libllama's layer, its place among those that have rows; -1 = none
};

// The context's cache is empty before and afterwards. `staging`: a sequence id that is used for nothing else. Fails
// with the reason in words that go on from "its KV cache cannot be streamed: "; the layout's form is then KV_OPAQUE.
int probe_run(struct probe *p, struct llama_context *ctx, struct tap *tap, llama_seq_id staging,
              struct err *e) MUST_USE;
void probe_close(struct probe *p);

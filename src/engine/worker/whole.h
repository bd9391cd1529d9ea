// The state of a sequence as a whole, for models whose memory is not rows: how large it may be, found out by trying it
// once the model is loaded, and how it is put into another sequence. Threads: the one that computes.
#pragma once

#include "engine/worker/tap.h"
#include <llama.h>

// Sets *bytes to the most that the state of a sequence of `tokens` positions can have: what it has with a few tokens,
// and what each further one adds; layers that keep fewer rows than that (sliding windows) count with those they can
// keep. Fails where the state that is put back does not compute as before, or is larger than LIMIT_KV_STATE, with the
// reason in words that go on from "it cannot travel whole: ". The context's memory is empty before and afterwards.
int whole_measure(struct llama_context *ctx, struct tap *tap, int32_t tokens, int32_t *bytes, struct err *e) MUST_USE;

// Puts a state in the place of all that the sequence holds; *past = the positions that it has then, at most `most`.
// Fails with ERR_BUSY where the state is not of this model's form, is damaged, or finds no room (libllama does not tell
// which); then the sequence is empty.
int whole_install(struct llama_context *ctx, const unsigned char *state, size_t size, llama_seq_id slot, int32_t most,
                  int32_t *past, struct err *e) MUST_USE;

// Choosing the next token. Threads: one sampler belongs to one sequence; the candidates are the compute thread's.
//
// Order, as in llama.cpp: logit bias, penalties, top-k, top-p, min-p, temperature, draw. Penalties, top-p, min-p and
// temperature are libllama's samplers; penalties are shown only the tokens they can concern.
//
// The draw is Gumbel-max: the token i that maximizes logit_i + g_i, where g_i = -log(-log(1 - v_i)), v_i uniform in (0,
// 1), follows the softmax of the logits (Maddison, Tarlow, Minka: A* Sampling, NIPS 2014). v_i is a function of (seed,
// position, i) alone:
//     mix   = the output function of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
//     OOPSLA 2014) key   = mix(mix(seed + G) + (position + 1) G), G = 0x9E3779B97F4A7C15 v_i   = ((mix(key + (i + 1) G)
//     >> 11) + 1/2) / 2^53
// So a draw needs no state and no normalization, does not depend on the order of the candidates, on what else is in the
// batch, or on which machine draws, and small differences of the logits change it only where two candidates are as
// close as those differences.
#pragma once

#include "engine/request.h"
#include <llama.h>

struct sampler;

// Room for the candidates of one draw; shared by all samplers of a thread.
struct candidates {
    llama_token_data *data; // n_vocab
    int32_t n_vocab;
};
int candidates_init(struct candidates *c, int32_t n_vocab, struct err *e) MUST_USE;
void candidates_free(struct candidates *c);

// s is copied as far as it is needed. `banned` (copied) are never chosen. prompt: what the penalties have seen;
// `window` is what penalty_last_n = -1 means, and the most it can be. ERR_INVALID (err.param names the member) for
// values that make no sense and tokens outside the vocabulary.
struct sampler *sampler_new(const struct sampling *s, int32_t n_vocab, const llama_token *banned, size_t n_banned,
                            int32_t window, struct err *e) MUST_USE;
void sampler_free(struct sampler *s);

// The penalties see one more token. sampler_choose does it for the token it returns.
void sampler_see(struct sampler *s, llama_token token);

// The next token after history[0..len), which is what the penalties have seen. Changes the logits. -1 where no logit is
// a number.
llama_token sampler_choose(struct sampler *s, float *logits, const llama_token *history, int32_t len,
                           struct candidates *c);

// ---- exposed for tests
uint64_t sampler_key(uint64_t seed, int64_t position);
double sampler_gumbel(uint64_t key, llama_token token);

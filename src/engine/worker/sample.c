#include "engine/worker/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sampler {
    int32_t n_vocab, top_k, window;
    uint64_t seed;
    bool greedy;
    struct llama_sampler *penalties; // NULL: off
    struct llama_sampler *chain;     // top-p, min-p, temperature
    size_t n_bias;
    struct logit_bias bias[];
};

static const uint64_t golden = 0x9E3779B97F4A7C15u;

int candidates_init(struct candidates *c, int32_t n_vocab, struct err *e) {
    c->n_vocab = n_vocab;
    c->data = malloc((size_t)n_vocab * sizeof *c->data);
    return c->data ? 0 : err_set(e, ERR_INTERNAL, "out of memory for a vocabulary of %d tokens", n_vocab);
}

void candidates_free(struct candidates *c) {
    free(c->data);
    c->data = NULL;
}

// ---------------------------------------------------------------- construction
static int check(const struct sampling *s, int32_t n_vocab, struct err *e) {
    if (!(s->temperature >= 0)) return err_param(e, "temperature", "temperature must not be negative");
    if (!(s->top_p >= 0)) return err_param(e, "top_p", "top_p must not be negative");
    if (!(s->min_p >= 0 && s->min_p <= 1)) return err_param(e, "min_p", "min_p must be from 0 to 1");
    if (!(s->repeat_penalty > 0)) return err_param(e, "repeat_penalty", "repeat_penalty must be more than 0");
    for (size_t i = 0; i < s->n_bias; i++)
        if (s->bias[i].token < 0 || s->bias[i].token >= n_vocab)
            return err_param(e, "logit_bias", "logit_bias names token %d, the vocabulary has %d", s->bias[i].token,
                             n_vocab);
    return 0;
}

static struct llama_sampler *make_chain(const struct sampling *s) {
    struct llama_sampler *chain = llama_sampler_chain_init((struct llama_sampler_chain_params){.no_perf = true});
    if (s->top_p < 1) llama_sampler_chain_add(chain, llama_sampler_init_top_p(s->top_p, 1));
    if (s->min_p > 0) llama_sampler_chain_add(chain, llama_sampler_init_min_p(s->min_p, 1));
    if (s->temperature != 1) llama_sampler_chain_add(chain, llama_sampler_init_temp(s->temperature));
    return chain;
}

struct sampler *sampler_new(const struct sampling *s, int32_t n_vocab, const llama_token *banned, size_t n_banned,
                            int32_t window, struct err *e) {
    if (check(s, n_vocab, e)) return NULL;
    struct sampler *new = calloc(1, sizeof *new + (s->n_bias + n_banned) * sizeof *new->bias);
    if (!new) {
        err_set(e, ERR_INTERNAL, "out of memory for a sampler");
        return NULL;
    }
    new->n_vocab = n_vocab;
    new->seed = s->seed;
    new->greedy = s->temperature < 1e-6f; // a division by less leaves the range of a float
    new->top_k = new->greedy ? 1 : s->top_k > 0 && s->top_k < n_vocab ? s->top_k : n_vocab;
    new->n_bias = s->n_bias + n_banned;
    if (s->n_bias) memcpy(new->bias, s->bias, s->n_bias * sizeof *s->bias);
    for (size_t i = 0; i < n_banned; i++) new->bias[s->n_bias + i] = (struct logit_bias){banned[i], -INFINITY};
    new->window = s->penalty_last_n < 0 || s->penalty_last_n > window ? window : s->penalty_last_n;
    if (new->window && (s->repeat_penalty != 1 || s->presence_penalty != 0 || s->frequency_penalty != 0))
        new->penalties = llama_sampler_init_penalties(n_vocab, new->window, s->repeat_penalty, s->frequency_penalty,
                                                      s->presence_penalty);
    if (!new->greedy) new->chain = make_chain(s);
    return new;
}

void sampler_free(struct sampler *s) {
    if (!s) return;
    llama_sampler_free(s->penalties);
    llama_sampler_free(s->chain);
    free(s);
}

void sampler_see(struct sampler *s, llama_token token) {
    if (s->penalties) llama_sampler_accept(s->penalties, token);
}

// ---------------------------------------------------------------- what changes single logits
static void penalize(const struct sampler *s, float *logits, const llama_token *history, int32_t len,
                     struct candidates *c) {
    int32_t n = len < s->window ? len : s->window;
    bool few = n < s->n_vocab;
    if (!few) n = s->n_vocab;
    for (int32_t i = 0; i < n; i++) {
        llama_token token =
            few ? history[len - 1 - i] : i; // one that occurs twice stands here twice, with the same result
        c->data[i] = (llama_token_data){token, logits[token], 0};
    }
    llama_token_data_array all = {.data = c->data, .size = (size_t)n, .selected = -1};
    llama_sampler_apply(s->penalties, &all);
    for (size_t i = 0; i < all.size; i++) logits[all.data[i].id] = all.data[i].logit;
}

// ---------------------------------------------------------------- which tokens are candidates
static void sink(llama_token_data *heap, size_t n, llama_token_data x) {
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1].logit < heap[child].logit) child++;
        if (x.logit <= heap[child].logit) break;
        heap[at] = heap[child];
    }
    heap[at] = x;
}

enum { BLOCK = 32 };

static bool any_above(const float *logits, float least) {
    int above = 0;
    for (int i = 0; i < BLOCK; i++)
        above |= logits[i] > least; // of fixed length, so that it becomes vector instructions
    return above;
}

// The k largest logits, in no order, without the infinitely small; of equal ones those with the lowest ids. A heap with
// the least on top holds the best so far; in a large vocabulary nearly every block of logits lies wholly below it.
static size_t select_top(const float *logits, int32_t n, size_t k, llama_token_data *heap) {
    for (size_t i = 0; i < k; i++) heap[i] = (llama_token_data){-1, -INFINITY, 0};
    for (int32_t at = 0; at < n; at += BLOCK) {
        int32_t end = n - at < BLOCK ? n : at + BLOCK;
        if (end - at == BLOCK && !any_above(logits + at, heap[0].logit)) continue;
        for (int32_t i = at; i < end; i++)
            if (logits[i] > heap[0].logit) sink(heap, k, (llama_token_data){i, logits[i], 0});
    }
    size_t found = 0;
    for (size_t i = 0; i < k; i++)
        if (heap[i].id >= 0) heap[found++] = heap[i];
    return found;
}

static size_t select_all(const float *logits, int32_t n, llama_token_data *out) {
    size_t found = 0;
    for (int32_t i = 0; i < n; i++)
        if (logits[i] > -INFINITY) out[found++] = (llama_token_data){i, logits[i], 0};
    return found;
}

// ---------------------------------------------------------------- the draw
static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

uint64_t sampler_key(uint64_t seed, int64_t position) {
    return mix(mix(seed + golden) + (uint64_t)(position + 1) * golden);
}

static uint64_t bits_of(uint64_t key, llama_token token) { return mix(key + (uint64_t)(token + 1) * golden); }

static double gumbel(uint64_t bits) {
    double v = ((double)(bits >> 11) + 0.5) * 0x1p-53;
    return -log(-log1p(-v));
}

double sampler_gumbel(uint64_t key, llama_token token) { return gumbel(bits_of(key, token)); }

static llama_token draw(const llama_token_data *c, size_t n, uint64_t key) {
    size_t first = 0;
    for (size_t i = 1; i < n; i++)
        if (c[i].logit > c[first].logit) first = i;
    llama_token best = c[first].id;
    double most = (double)c[first].logit + sampler_gumbel(key, best);
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = bits_of(key, c[i].id);
        // v >= 2^-(zeros + 1), hence g < (zeros + 1) ln 2: two logarithms saved for nearly every candidate
        if ((double)c[i].logit + (__builtin_clzll(bits | 1) + 1) * 0.69315 < most) continue;
        double value = (double)c[i].logit + gumbel(bits);
        if (value > most || (value == most && c[i].id < best)) {
            most = value;
            best = c[i].id;
        }
    }
    return best;
}

llama_token sampler_choose(struct sampler *s, float *logits, const llama_token *history, int32_t len,
                           struct candidates *c) {
    for (size_t i = 0; i < s->n_bias; i++) logits[s->bias[i].token] += s->bias[i].bias;
    if (s->penalties) penalize(s, logits, history, len, c);
    bool all = s->top_k >= s->n_vocab;
    size_t n =
        all ? select_all(logits, s->n_vocab, c->data) : select_top(logits, s->n_vocab, (size_t)s->top_k, c->data);
    if (!n) return -1;
    llama_token token = c->data[0].id;
    if (!s->greedy) {
        llama_token_data_array left = {.data = c->data, .size = n, .selected = -1};
        llama_sampler_apply(s->chain, &left);
        token = draw(left.data, left.size, sampler_key(s->seed, len));
    }
    sampler_see(s, token);
    return token;
}

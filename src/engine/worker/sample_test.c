#include "engine/worker/sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct sampling plain = {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .penalty_last_n = 64};

static struct sampler *make(const struct sampling *s, int32_t n_vocab) {
    struct err e;
    struct sampler *new = sampler_new(s, n_vocab, NULL, 0, 1000, &e);
    assert_non_null(new);
    return new;
}

// One choice by a new sampler that has seen history; logits stay as they are.
static llama_token choose(const struct sampling *s, const float *logits, int32_t n, const llama_token *history,
                          int32_t len) {
    struct err e;
    struct candidates c;
    assert_int_equal(candidates_init(&c, n, &e), 0);
    float *own = malloc((size_t)n * sizeof *own);
    memcpy(own, logits, (size_t)n * sizeof *own);
    struct sampler *sampler = make(s, n);
    for (int32_t i = 0; i < len; i++) sampler_see(sampler, history[i]);
    llama_token token = sampler_choose(sampler, own, history, len, &c);
    sampler_free(sampler);
    candidates_free(&c);
    free(own);
    return token;
}

static llama_token at_position(const struct sampling *s, const float *logits, int32_t n, int32_t position) {
    static const llama_token zeros[1 << 16];
    return choose(s, logits, n, zeros, position);
}

// ---------------------------------------------------------------- the generator
// The published first outputs of SplitMix64 for the seed 1234567 are those of the stream that a key begins.
static void test_generator(void **state) {
    (void)state;
    // key(seed, p) = mix(mix(seed + G) + (p + 1) G): for seed 1234567 the inner value is the stream's first output
    const uint64_t first = 6457827717110365317u;
    uint64_t x = first + 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    assert_true(sampler_key(1234567, 0) == (x ^ (x >> 31)));
    assert_true(sampler_key(1, 5) != sampler_key(2, 5));
    assert_true(sampler_key(1, 5) != sampler_key(1, 6));
}

// exp(-exp(-g)) of a Gumbel variable is uniform in (0, 1). Over tokens, positions and seeds.
static void test_uniform(void **state) {
    (void)state;
    enum { BINS = 64, DRAWS = 64000 };
    for (int way = 0; way < 3; way++) {
        int count[BINS] = {0};
        double chi2 = 0, sum = 0;
        for (int i = 0; i < DRAWS; i++) {
            uint64_t key = sampler_key(way == 2 ? (uint64_t)i : 42, way == 1 ? i : 3);
            double u = exp(-exp(-sampler_gumbel(key, way == 0 ? i : 17)));
            assert_true(u >= 0 && u <= 1);
            count[(int)(u * BINS) < BINS ? (int)(u * BINS) : BINS - 1]++;
            sum += u;
        }
        for (int i = 0; i < BINS; i++) {
            double off = count[i] - (double)DRAWS / BINS;
            chi2 += off * off / ((double)DRAWS / BINS);
        }
        assert_true(chi2 < 103.4); // 63 degrees of freedom, one in a thousand
        assert_true(fabs(sum / DRAWS - 0.5) < 0.005);
    }
}

// ---------------------------------------------------------------- the distribution
static double chi_square(const struct sampling *s, const float *logits, const double *want, int32_t n, int draws) {
    int *count = calloc((size_t)n, sizeof *count);
    double chi2 = 0;
    struct err e;
    struct candidates c;
    struct sampler *sampler = make(s, n);
    assert_int_equal(candidates_init(&c, n, &e), 0);
    for (int i = 0; i < draws; i++) {
        float own[64];
        memcpy(own, logits, (size_t)n * sizeof *own);
        llama_token token = sampler_choose(sampler, own, NULL, i, &c);
        assert_in_range(token, 0, n - 1);
        count[token]++;
    }
    for (int32_t i = 0; i < n; i++) {
        double expected = want[i] * draws;
        if (want[i] == 0) assert_int_equal(count[i], 0);
        if (want[i] > 0) chi2 += (count[i] - expected) * (count[i] - expected) / expected;
    }
    sampler_free(sampler);
    candidates_free(&c);
    free(count);
    return chi2;
}

static void softmax(const float *logits, double *out, int32_t n, double temperature) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += out[i] = exp(logits[i] / temperature);
    for (int32_t i = 0; i < n; i++) out[i] /= sum;
}

static void test_follows_softmax(void **state) {
    (void)state;
    enum { N = 20 };
    float logits[N];
    double want[N];
    for (int i = 0; i < N; i++) logits[i] = (float)sin(i * 1.7) * 2;
    static const float temperatures[] = {0.5f, 1, 2};
    for (size_t t = 0; t < 3; t++) {
        struct sampling s = plain;
        s.temperature = temperatures[t];
        s.seed = 99 + t;
        softmax(logits, want, N, (double)s.temperature);
        assert_true(chi_square(&s, logits, want, N, 20000) < 43.8); // 19 degrees of freedom, one in a thousand
    }
}

static void test_truncation(void **state) {
    (void)state;
    const float logits[] = {logf(0.1f), logf(0.4f), logf(0.05f), logf(0.3f), logf(0.15f)};
    const double top2[] = {0, 4.0 / 7, 0, 3.0 / 7, 0}, nucleus[] = {0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85};
    struct sampling s = plain;
    s.top_k = 2;
    assert_true(chi_square(&s, logits, top2, 5, 10000) < 10.8); // 1 degree of freedom
    s = plain;
    s.top_p = 0.8f;
    assert_true(chi_square(&s, logits, nucleus, 5, 10000) < 13.8); // 2 degrees
    s = plain;
    s.min_p = 0.3f; // of 0.4: 0.12
    assert_true(chi_square(&s, logits, nucleus, 5, 10000) < 13.8);
}

// ---------------------------------------------------------------- the draw depends on seed, position and logits only
static void test_repeatable(void **state) {
    (void)state;
    enum { N = 1000 };
    float logits[N];
    for (int i = 0; i < N; i++) logits[i] = (float)cos(i * 0.37) * 3;
    struct sampling s = plain;
    int same = 0, near = 0;
    for (int32_t p = 1; p < 200; p++) {
        s.seed = 5;
        llama_token one = at_position(&s, logits, N, p);
        assert_int_equal(one, at_position(&s, logits, N, p));
        float shifted[N];
        for (int i = 0; i < N; i++)
            shifted[i] = logits[i] + 1e-5f * (float)sin(i * 7.1); // another backend's arithmetic
        near += one == at_position(&s, shifted, N, p);
        s.seed = 6;
        same += one == at_position(&s, logits, N, p);
    }
    assert_true(same < 20);
    assert_true(near >= 198);
}

static void test_top_k_agrees_with_all(void **state) {
    (void)state;
    enum { N = 5000 };
    float *logits = malloc(N * sizeof *logits);
    uint32_t random = 1;
    for (int i = 0; i < N; i++) {
        random = random * 1664525u + 1013904223u;
        logits[i] = (float)(random >> 8) / 16777216.0f;
    }
    logits[4999] = 12;
    logits[77] = 11.5f;
    logits[78] = 11;
    for (int32_t p = 1; p < 100; p++) {
        struct sampling all = plain, three = plain;
        three.top_k = 3; // what is left out has less than one part in a hundred
        llama_token a = at_position(&all, logits, N, p), b = at_position(&three, logits, N, p);
        assert_true(b == 4999 || b == 77 || b == 78);
        if (a == 4999 || a == 77 || a == 78) assert_int_equal(a, b);
    }
    free(logits);
}

// ---------------------------------------------------------------- greedy
static void test_greedy(void **state) {
    (void)state;
    enum { N = 131 };
    float logits[N];
    struct sampling s = plain;
    s.temperature = 0;
    for (int32_t best = 0; best < N; best++) {
        for (int i = 0; i < N; i++) logits[i] = -(float)abs(i - best);
        assert_int_equal(at_position(&s, logits, N, 3), best);
    }
    for (int i = 0; i < N; i++) logits[i] = i == 40 || i == 90 || i == 130 ? 7 : 1;
    assert_int_equal(at_position(&s, logits, N, 3), 40); // the lowest id of equal ones
    for (int i = 0; i < N; i++) logits[i] = i == 60 ? -1e30f : NAN;
    assert_int_equal(at_position(&s, logits, N, 3), 60);
    for (int i = 0; i < N; i++) logits[i] = NAN;
    assert_int_equal(at_position(&s, logits, N, 3), -1);
    s.temperature = 1;
    assert_int_equal(at_position(&s, logits, N, 3), -1);
}

// ---------------------------------------------------------------- bias and penalties
static void test_bias(void **state) {
    (void)state;
    const float logits[] = {1, 2, 3, 4};
    struct sampling s = plain;
    s.temperature = 0;
    s.n_bias = 2;
    s.bias[0] = (struct logit_bias){3, -100};
    s.bias[1] = (struct logit_bias){0, 5};
    assert_int_equal(at_position(&s, logits, 4, 1), 0);
    struct err e;
    const llama_token banned[] = {3, 2};
    struct candidates c;
    assert_int_equal(candidates_init(&c, 4, &e), 0);
    struct sampler *sampler = sampler_new(&plain, 4, banned, 2, 100, &e);
    for (int32_t i = 0; i < 500; i++) {
        float own[] = {1, 2, 30, 40};
        assert_in_range(sampler_choose(sampler, own, NULL, i, &c), 0, 1);
    }
    sampler_free(sampler);
    candidates_free(&c);
}

// Our way of showing libllama's penalties few tokens gives what it gives for the whole vocabulary.
static void test_penalties(void **state) {
    (void)state;
    enum { N = 50, LEN = 30 };
    llama_token history[LEN];
    for (int i = 0; i < LEN; i++) history[i] = i * i % 23;
    static const int32_t windows[] = {0, 5, 29, 64, -1};
    for (size_t w = 0; w < sizeof windows / sizeof *windows; w++) {
        struct sampling s = plain;
        s.temperature = 0;
        s.penalty_last_n = windows[w];
        s.repeat_penalty = 1.3f;
        s.presence_penalty = 0.4f;
        s.frequency_penalty = 0.2f;
        int32_t window = windows[w] < 0 ? 1000 : windows[w];
        for (int round = 0; round < 40; round++) {
            float logits[N];
            llama_token_data data[N];
            for (int i = 0; i < N; i++) logits[i] = (float)sin(i * (round + 2) * 0.61) * 3;
            for (int i = 0; i < N; i++) data[i] = (llama_token_data){i, logits[i], 0};
            llama_token_data_array whole = {data, N, -1, false};
            struct llama_sampler *theirs = llama_sampler_init_penalties(N, window, 1.3f, 0.2f, 0.4f);
            for (int i = 0; i < LEN; i++) llama_sampler_accept(theirs, history[i]);
            llama_sampler_apply(theirs, &whole);
            llama_sampler_free(theirs);
            int best = 0;
            for (int i = 1; i < N; i++)
                if (data[i].logit > data[best].logit) best = i;
            assert_int_equal(choose(&s, logits, N, history, LEN), best);
        }
    }
}

static void test_penalties_of_small_vocabularies(void **state) {
    (void)state;
    const float logits[] = {1, 1.5f, 2};
    llama_token history[100];
    for (int i = 0; i < 100; i++) history[i] = i % 2 + 1; // more tokens than the vocabulary has
    struct sampling s = plain;
    s.temperature = 0;
    s.repeat_penalty = 10;
    s.penalty_last_n = -1;
    assert_int_equal(choose(&s, logits, 3, history, 100), 0);
}

// ---------------------------------------------------------------- values that make no sense
static void test_refused(void **state) {
    (void)state;
    const struct {
        const char *param;
        struct sampling s;
    } cases[] = {{"temperature", {.temperature = -1, .top_p = 1, .repeat_penalty = 1}},
                 {"temperature", {.temperature = NAN, .top_p = 1, .repeat_penalty = 1}},
                 {"top_p", {.temperature = 1, .top_p = -0.5f, .repeat_penalty = 1}},
                 {"min_p", {.temperature = 1, .top_p = 1, .min_p = 1.5f, .repeat_penalty = 1}},
                 {"repeat_penalty", {.temperature = 1, .top_p = 1, .repeat_penalty = 0}},
                 {"logit_bias", {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .n_bias = 1, .bias = {{10, 1}}}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {.code = ERR_NONE};
        assert_null(sampler_new(&cases[i].s, 10, NULL, 0, 100, &e));
        assert_int_equal(e.code, ERR_INVALID);
        assert_string_equal(e.param, cases[i].param);
    }
    sampler_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generator),       cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_follows_softmax), cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_repeatable),      cmocka_unit_test(test_top_k_agrees_with_all),
        cmocka_unit_test(test_greedy),          cmocka_unit_test(test_bias),
        cmocka_unit_test(test_penalties),       cmocka_unit_test(test_penalties_of_small_vocabularies),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

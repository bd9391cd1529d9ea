#include "plan/fit.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

static const struct profile truth = {0.02, 1e-3, 4e-7, 0.03, 2e-6};
static struct profile guess;

static double noise(double part) { return 1 + part * (2 * drand48() - 1); }

// A request on a machine that is `slower` times slower than the truth.
static struct fit_sample sample(double n, double cached, double slower, double part) {
    struct fit_sample s = {.tokens = n, .cached = cached, .context = cached + n, .steps = 8};
    s.prefill_s = prefill_seconds(&truth, n, cached) * slower * noise(part);
    s.decode_s = decode_seconds(&truth, s.context, s.steps) * slower * noise(part);
    return s;
}

static void begin(struct fit *f) {
    srand48(7);
    fit_guess(&guess, 1e9, 6e8, 65536);
    fit_init(f, &guess);
}

static void add(struct fit *f, struct fit_sample s) {
    struct err e;
    assert_int_equal(fit_add(f, &s, &e), 0);
}

static void near(double is, double should, double part) {
    if (!(fabs(is / should - 1) <= part)) fail_msg("%g is not within %g of %g", is, part, should);
}

static void predicts(const struct fit *f, double n, double cached, double slower, double part) {
    struct profile p;
    struct err e;
    fit_profile(f, &p);
    assert_int_equal(profile_check(&p, &e), 0);
    near(prefill_seconds(&p, n, cached), slower * prefill_seconds(&truth, n, cached), part);
    near(decode_seconds(&p, n + cached, 1), slower * decode_seconds(&truth, n + cached, 1), part);
}

static void test_guess(void **state) {
    struct fit f;
    struct profile p;
    struct err e;
    (void)state;
    begin(&f);
    assert_true(fit_error(&f) == 1);
    const double absurd[] = {NAN, INFINITY, -INFINITY, -1, 0, 1e300};
    for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++) {
        fit_guess(&p, absurd[i], absurd[i], absurd[i]);
        assert_int_equal(profile_check(&p, &e), 0);
        fit_init(&f, &p);
        fit_profile(&f, &p);
        assert_int_equal(profile_check(&p, &e), 0);
    }
}

// One request scales the guess: what took that long is predicted to take that long.
static void test_one_sample(void **state) {
    struct fit f;
    struct profile p;
    (void)state;
    begin(&f);
    add(&f, sample(64, 0, 1, 0));
    fit_profile(&f, &p);
    near(prefill_seconds(&p, 64, 0), prefill_seconds(&truth, 64, 0), 0.01);
    near(decode_seconds(&p, 64, 8), decode_seconds(&truth, 64, 8), 0.01);
    assert_true(p.prefill_pair > 0 && p.decode_token > 0);
    assert_true(fit_error(&f) == 1); // it agrees with itself, which says nothing
    add(&f, (struct fit_sample){.tokens = 64, .prefill_s = prefill_seconds(&truth, 64, 0)});
    assert_true(fit_error(&f) == 1); // of writing there is one still
    for (int n = 2; n <= 20; n++) {
        add(&f, sample(64, 0, 1, 0));
        near(fit_error(&f), 1.0 / n, 1e-9);
    }
}

static void test_exact(void **state) {
    struct fit f;
    (void)state;
    begin(&f);
    for (double n = 16; n <= 4096; n *= 4)
        for (int i = 0; i < 8; i++) add(&f, sample(n, 0, 1, 0));
    for (double n = 32; n <= 8192; n *= 2) predicts(&f, n, 0, 1, 0.05);
    predicts(&f, 100, 3000, 1, 0.05);
    assert_true(fit_error(&f) < 0.03);
}

static void test_noise(void **state) {
    struct fit f;
    (void)state;
    begin(&f);
    for (int i = 0; i < 200; i++) add(&f, sample(floor(16 * exp2(8 * drand48())), 0, 1, 0.2));
    for (double n = 32; n <= 4096; n *= 2) predicts(&f, n, 0, 1, 0.15);
}

// Requests are slowed down, never sped up: half of them take longer than predicted all the same.
static void test_slowed_down(void **state) {
    int longer = 0;
    (void)state;
    for (int round = 0; round < 5; round++) {
        struct fit f;
        struct profile p;
        begin(&f);
        for (int i = 0; i < 300; i++) {
            double n = floor(16 * exp2(8 * drand48()));
            struct fit_sample one = sample(n, 0, 1 / (1 - 0.6 * drand48()), 0);
            fit_profile(&f, &p);
            if (i >= 100) longer += one.prefill_s > prefill_seconds(&p, n, 0);
            add(&f, one);
        }
    }
    assert_in_range(longer, 465, 530);
}

// Every eighth request was interrupted, or is a lie.
static void test_outliers(void **state) {
    struct fit f;
    (void)state;
    begin(&f);
    for (int i = 0; i < 160; i++) {
        double slower = i % 8 ? 1 : i % 16 ? 20 : 0.02;
        add(&f, sample(floor(16 * exp2(8 * drand48())), 0, slower, 0.05));
    }
    for (double n = 32; n <= 4096; n *= 2) predicts(&f, n, 0, 1, 0.15);
    begin(&f);
    for (int i = 0; i < 160; i++) add(&f, sample(floor(16 * exp2(8 * drand48())), 0, i % 3 ? 1 : 3, 0.02));
    for (double n = 32; n <= 4096; n *= 2) predicts(&f, n, 0, 1, 0.06);
}

// Longer prompts that take less: the nearest that a machine can do is to take as long for all.
static void test_never_negative(void **state) {
    struct fit f;
    struct profile p;
    (void)state;
    begin(&f);
    for (int i = 1; i <= 4; i++) add(&f, (struct fit_sample){.tokens = 1000 * i, .prefill_s = 1.2 - 0.2 * i});
    fit_profile(&f, &p);
    assert_true(prefill_seconds(&p, 1000, 0) < 1.1 && prefill_seconds(&p, 4000, 0) < 1.1); // as the slowest one
}

// A machine that has become slower is believed; many short requests do not wipe out what long ones have taught.
static void test_forgetting(void **state) {
    struct fit f;
    (void)state;
    begin(&f);
    for (int i = 0; i < 60; i++) add(&f, sample(floor(16 * exp2(8 * drand48())), 0, 1, 0.05));
    for (int i = 0; i < 300; i++) add(&f, sample(50, 0, 1, 0.05));
    predicts(&f, 4096, 0, 1, 0.3);
    for (int i = 0; i < 120; i++) add(&f, sample(floor(16 * exp2(8 * drand48())), 0, 3, 0.05));
    for (double n = 32; n <= 4096; n *= 2) predicts(&f, n, 0, 3, 0.2);
}

static void test_error_of_predictions(void **state) {
    struct fit f;
    struct err e;
    (void)state;
    begin(&f);
    for (double n = 16; n <= 1024; n *= 4) add(&f, sample(n, 0, 1, 0));
    double residual = fit_error(&f);
    struct fit_sample slow = sample(64, 0, 2, 0);
    assert_int_equal(fit_correct(&f, &slow, &e), 0);
    assert_true(residual == 0.25 && fabs(fit_error(&f) - 0.5) < 0.05); // the prediction was half of what it took
    for (int i = 0; i < FIT_ERRORS; i++) {
        struct fit_sample s = sample(64, 0, 2, 0);
        assert_int_equal(fit_correct(&f, &s, &e), 0);
    }
    assert_true(fit_error(&f) < 0.3); // it has learnt
}

static void test_hostile(void **state) {
    const double absurd[] = {NAN, INFINITY, -INFINITY, -1, 1e300, 0.5};
    struct fit f;
    struct profile before, after;
    struct err e;
    (void)state;
    begin(&f);
    add(&f, sample(64, 0, 1, 0));
    fit_profile(&f, &before);
    for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++)
        for (size_t k = 0; k < 6; k++) {
            struct fit_sample s = sample(64, 10, 1, 0);
            double *all[] = {&s.tokens, &s.steps, &s.cached, &s.context, &s.prefill_s, &s.decode_s};
            *all[k] = absurd[i];
            if (absurd[i] == 0.5 && k > 1) continue; // fine there
            assert_int_equal(fit_add(&f, &s, &e), -1);
            assert_int_equal(fit_correct(&f, &s, &e), -1);
        }
    fit_profile(&f, &after);
    assert_memory_equal(&before, &after, sizeof before);
}

// Whatever is measured, in whatever order: what comes out can be planned with.
static void test_anything(void **state) {
    struct fit f;
    struct profile p;
    struct err e;
    (void)state;
    begin(&f);
    for (int i = 0; i < 3000; i++) {
        struct fit_sample s = {.tokens = floor(exp(20 * drand48())),
                               .cached = floor(exp(20 * drand48())),
                               .prefill_s = 1e-9 * exp(34 * drand48()),
                               .context = floor(exp(20 * drand48())),
                               .steps = floor(exp(20 * drand48())),
                               .decode_s = 1e-9 * exp(34 * drand48())};
        if (i % 3 == 0) s.tokens = 0;
        if (i % 3 == 1) s.steps = 0;
        assert_int_equal(fit_correct(&f, &s, &e), 0);
        fit_profile(&f, &p);
        if (profile_check(&p, &e)) fail_msg("%s", e.msg);
        assert_true(fit_error(&f) >= 0);
    }
}

static void test_resume(void **state) {
    struct fit f, again;
    struct profile p;
    (void)state;
    begin(&f);
    for (double n = 16; n <= 4096; n *= 4) add(&f, sample(n, 0, 1, 0));
    fit_profile(&f, &p);
    fit_resume(&again, &guess, &p, 0.07);
    predicts(&again, 512, 0, 1, 0.1);
    predicts(&again, 4096, 0, 1, 0.1);
    assert_true(fit_error(&again) == 0.07); // which cannot come from a few samples
    for (int i = 0; i < 60; i++) add(&again, sample(floor(16 * exp2(8 * drand48())), 0, 0.4, 0.05));
    predicts(&again, 1024, 0, 0.4, 0.2); // it goes on learning
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guess),
        cmocka_unit_test(test_one_sample),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_slowed_down),
        cmocka_unit_test(test_outliers),
        cmocka_unit_test(test_never_negative),
        cmocka_unit_test(test_forgetting),
        cmocka_unit_test(test_error_of_predictions),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_anything),
        cmocka_unit_test(test_resume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// The formulas against published measurements, and against sums written out.
#include "plan/cost.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void near(const char *what, double is, double should, double part) {
    if (!(fabs(is - should) <= part * fabs(should))) fail_msg("%s is %g, should be %g", what, is, should);
}

static struct profile profile_for(const char *device, const char *model, enum dtype weights) {
    struct plan_shape s;
    struct profile p;
    struct err e = {.code = ERR_NONE};
    const struct device *d = device_find(device, &e);
    if (!d || plan_shape_find(model, &s, &e)) fail_msg("%s", e.msg);
    s.weight_bits = dtype_bits(weights);
    profile_of_device(&p, d, &s, DTYPE_F16);
    return p;
}

// Llama 3.1 8B f16, 8,192 prompt tokens, 32 generated ones: the two machines' rows of the published table.
static void published_machines(void **state) {
    (void)state;
    struct profile spark = profile_for("dgx-spark", "llama-3.1-8b", DTYPE_F16);
    struct profile mac = profile_for("m3-ultra", "llama-3.1-8b", DTYPE_F16);
    near("Spark prefill", prefill_seconds(&spark, 8192, 0), 1.47, 0.05);
    near("Spark generation", decode_seconds(&spark, 8192, 31), 2.87, 0.05);
    near("Mac prefill", prefill_seconds(&mac, 8192, 0), 5.57, 0.05);
    near("Mac generation", decode_seconds(&mac, 8192, 31), 0.85, 0.05);
}

// Measurements that no factor was fitted to: other models, other quantizations (sources: device.c).
static void other_measurements(void **state) {
    (void)state;
    struct profile dense = profile_for("dgx-spark", "llama-3.3-70b", DTYPE_Q4);
    near("Spark, 70B at 4.6 bits, tokens/s", 1 / decode_seconds(&dense, 100, 1), 4.2, 0.15);
    struct profile spark = profile_for("dgx-spark", "llama-3.1-8b", DTYPE_Q8);
    near("Spark, 8B at 8 bits, tokens/s", 1 / decode_seconds(&spark, 2048, 1), 20.5, 0.15);
}

// What the factor for experts was fitted to, and how answers come out, to which nothing was fitted (sources: cost.c).
static void measured_experts(void **state) {
    (void)state;
    struct profile small = profile_for("dgx-spark", "gpt-oss-20b", DTYPE_Q4);
    struct profile large = profile_for("dgx-spark", "gpt-oss-120b", DTYPE_Q4);
    near("gpt-oss-20b prompt", 2048 / prefill_seconds(&small, 2048, 0), 3611, 0.15);
    near("gpt-oss-120b prompt", 2048 / prefill_seconds(&large, 2048, 0), 1937, 0.15);
    near("gpt-oss-20b answer", 32 / decode_seconds(&small, 0, 32), 79.7, 0.15);
    near("gpt-oss-120b answer", 32 / decode_seconds(&large, 0, 32), 59.05, 0.15);
}

// Llama 3 8B F16 with 1,024 tokens (device.c): what the factors of these cards were taken from.
static void measured_cards(void **state) {
    (void)state;
    struct profile ada = profile_for("rtx-4090", "llama-3.1-8b", DTYPE_F16);
    struct profile ampere = profile_for("rtx-3090", "llama-3.1-8b", DTYPE_F16);
    near("4090 prompt", 1024 / prefill_seconds(&ada, 1024, 0), 9056, 0.03);
    near("4090 answer", 1024 / decode_seconds(&ada, 0, 1024), 54.34, 0.03);
    near("3090 prompt", 1024 / prefill_seconds(&ampere, 1024, 0), 4240, 0.03);
    near("3090 answer", 1024 / decode_seconds(&ampere, 0, 1024), 46.51, 0.03);
}

static void thresholds_as_published(void **state) {
    struct plan_shape small, large;
    struct err e;
    (void)state;
    const struct device *spark = device_find("dgx-spark", &e);
    assert_int_equal(plan_shape_find("llama-3.1-8b", &small, &e), 0);
    assert_int_equal(plan_shape_find("llama-3.1-70b", &large, &e), 0);
    near("8B", overlap_attention_only(&small, spark, 10e9, DTYPE_Q8), 10000, 1e-9);
    near("70B", overlap_attention_only(&large, spark, 10e9, DTYPE_Q8), 5000, 1e-9);
    near("8B, f16", overlap_attention_only(&small, spark, 10e9, DTYPE_F16), 20000, 1e-9);
}

// Experts and attention windows: gpt-oss-20b at 16 bits on a made-up device.
static void coefficients_written_out(void **state) {
    static const struct device d = {.name = "made up", .tflops = 10, .gb_s = 100, .compute = 0.5, .bandwidth = 0.5};
    struct plan_shape s;
    struct profile p;
    struct err e;
    (void)state;
    assert_int_equal(plan_shape_find("gpt-oss-20b", &s, &e), 0);
    profile_of_device(&p, &d, &s, DTYPE_F16);
    double vocabulary = 201088.0 * 2880, flops = 5e12, bytes = 50e9;
    double pair = 2 * 64 * (64 + 64), row = 2 * 8 * 64 * 2; // operations per pair, bytes per row, in one layer
    near("a", p.prefill_base, (20.91e9 - vocabulary) * 2 / bytes + 2 * vocabulary / flops, 1e-9);
    near("b", p.prefill_token, (2 * (3.61e9 - vocabulary) / 0.3 + 12 * 128 * pair) / flops, 1e-9);
    near("q", p.prefill_pair, 12 * pair / flops, 1e-9);
    near("w", p.decode_base, (3.61e9 * 2 + 12 * 128 * row) / bytes, 1e-9);
    near("r", p.decode_token, 12 * row / bytes, 1e-9);
}

// At the full threshold, what a token's layers take is what its rows take on the wire.
static void full_threshold(void **state) {
    (void)state;
    struct profile p = {.prefill_token = 1e-4, .prefill_pair = 1e-8, .decode_base = 1};
    struct link_cost slow = {.bytes_s = 1e8}, fast = {.bytes_s = 1e10};
    double n = overlap_full(&p, 128 * 1024, &slow), wire = 128 * 1024 / 1e8;
    assert_true(prefill_seconds(&p, n + 1, 0) >= wire * (n + 1));
    assert_true(prefill_seconds(&p, n - 2, 0) < wire * (n - 2));
    assert_true(overlap_full(&p, 128 * 1024, &fast) == 1);
    p.prefill_pair = 0;
    assert_true(isinf(overlap_full(&p, 128 * 1024, &slow)));
}

static void sums_written_out(void **state) {
    (void)state;
    struct profile p = {
        .prefill_base = 0.5, .prefill_token = 0.01, .prefill_pair = 1e-4, .decode_base = 0.2, .decode_token = 1e-3};
    double pairs = 0, tokens = 0;
    for (int i = 0; i < 300; i++) pairs += 700 + i + 0.5; // token i sees 700 cached ones, i before it, half of itself
    near("prefill", prefill_seconds(&p, 300, 700), 0.5 + 3 + 1e-4 * pairs, 1e-12);
    for (int i = 0; i < 50; i++) tokens += 0.2 + 1e-3 * (1000 + i);
    near("decode", decode_seconds(&p, 1000, 50), tokens, 1e-12);
    assert_true(decode_seconds(&p, 1000, 0) == 0);
    assert_true(decode_seconds(&p, 1000, -1) == 0);
}

// The closed form against parts that wait for each other one by one.
static void exposure_simulated(void **state) {
    static const double cases[][3] = {{1, 0.5, 8},    {0.5, 1, 8}, {1, 1, 1}, {3, 0.01, 512},
                                      {0.01, 3, 512}, {0, 2, 4},   {2, 0, 4}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double compute = cases[i][0], transfer = cases[i][1], pieces = cases[i][2], sent = 0;
        for (int k = 1; k <= pieces; k++) sent = fmax(sent, compute * k / pieces) + transfer / pieces;
        assert_true(fabs(exposed_seconds(compute, transfer, pieces) - (sent - compute)) < 1e-9);
    }
}

static void absurd_profiles_are_refused(void **state) {
    static const double absurd[] = {-1, -1e-30, INFINITY, -INFINITY, NAN, 1e300};
    struct profile good = {.prefill_token = 1e-4, .decode_base = 1e-2};
    struct err e;
    (void)state;
    assert_int_equal(profile_check(&good, &e), 0);
    for (size_t member = 0; member < 5; member++) {
        for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++) {
            struct profile p = good;
            double *members[] = {&p.prefill_base, &p.prefill_token, &p.prefill_pair, &p.decode_base, &p.decode_token};
            *members[member] = absurd[i];
            assert_int_equal(profile_check(&p, &e), -1);
            assert_int_equal(e.code, ERR_INVALID);
            assert_non_null(strstr(e.msg, e.param));
        }
    }
    good.prefill_token = 0; // a token must cost something
    assert_int_equal(profile_check(&good, &e), -1);
}

static void absurd_links_are_refused(void **state) {
    static const double absurd[] = {-1, 0, INFINITY, NAN, 1e300};
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++)
        assert_int_equal(link_check(&(struct link_cost){.bytes_s = absurd[i]}, &e), -1);
    assert_int_equal(link_check(&(struct link_cost){.bytes_s = 1e9, .rtt_s = NAN}, &e), -1);
    assert_int_equal(link_check(&(struct link_cost){.bytes_s = 1e9, .rtt_s = -1}, &e), -1);
    assert_int_equal(link_check(&(struct link_cost){.bytes_s = 1e9}, &e), 0);
}

static void every_catalogue_entry_is_sound(void **state) {
    (void)state;
    for (size_t i = 0; device_at(i); i++) {
        const struct device *d = device_at(i);
        assert_true(d->compute > 0 && d->compute <= 1 && d->bandwidth > 0 && d->bandwidth <= 1);
        assert_true(d->memory_gb > 0 && d->price_usd > 0 && d->watts > 0 && d->origin[0]);
        for (size_t k = 0; plan_shape_name(k); k++) {
            struct err e;
            struct profile p = profile_for(d->name, plan_shape_name(k), DTYPE_Q4);
            if (profile_check(&p, &e)) fail_msg("%s, %s: %s", d->name, plan_shape_name(k), e.msg);
        }
    }
    for (size_t i = 0; link_kind_at(i); i++) {
        struct link_cost l = {.bytes_s = link_kind_bytes_s(link_kind_at(i)), .rtt_s = link_kind_at(i)->rtt_s};
        struct err e;
        assert_int_equal(link_check(&l, &e), 0);
        assert_true(l.bytes_s * 8 <= link_kind_at(i)->gbit_s * 1e9);
    }
}

static void unknown_names_list_the_known_ones(void **state) {
    struct err e;
    (void)state;
    assert_null(device_find("rtx-9090", &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    for (size_t i = 0; device_name(i); i++) assert_non_null(strstr(e.msg, device_name(i)));
    assert_null(link_kind_find("pigeon", &e));
    for (size_t i = 0; link_kind_name(i); i++) assert_non_null(strstr(e.msg, link_kind_name(i)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_machines),
        cmocka_unit_test(other_measurements),
        cmocka_unit_test(measured_cards),
        cmocka_unit_test(measured_experts),
        cmocka_unit_test(thresholds_as_published),
        cmocka_unit_test(coefficients_written_out),
        cmocka_unit_test(full_threshold),
        cmocka_unit_test(sums_written_out),
        cmocka_unit_test(exposure_simulated),
        cmocka_unit_test(absurd_profiles_are_refused),
        cmocka_unit_test(absurd_links_are_refused),
        cmocka_unit_test(every_catalogue_entry_is_sound),
        cmocka_unit_test(unknown_names_list_the_known_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

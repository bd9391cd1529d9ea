// Rows between f16 and q8_0: every path gives the same bits, and those are ggml's.
#include "cluster/convert.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GROUP = 32, PACKED = 34, HALVES = 1 << 16, INFINITE = 0x7c00, NORMAL = 1 << 20 };

// ggml's own, from libggml-base.
void quantize_row_q8_0_ref(const float *x, void *y, int64_t k);
void dequantize_row_q8_0(const void *x, float *y, int64_t k);
float ggml_fp16_to_fp32(uint16_t h);
uint16_t ggml_fp32_to_fp16(float f);

static uint64_t seed = 1;

static uint32_t next_random(void) { // splitmix64
    uint64_t z = seed += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (uint32_t)(z >> 32);
}

static double next_normal(void) {
    double u = (next_random() + 1.0) / 4294967297.0, v = next_random() / 4294967296.0;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

// Packs with every path; `out` must be ggml's bytes.
static void check_pack(const uint16_t *h, size_t n) {
    float *f = malloc(n * sizeof *f);
    uint8_t *want = malloc(n / GROUP * PACKED), *simd = malloc(n / GROUP * PACKED), *plain = malloc(n / GROUP * PACKED);
    assert_true(f && want && simd && plain);
    for (size_t i = 0; i < n; i++) f[i] = ggml_fp16_to_fp32(h[i]);
    quantize_row_q8_0_ref(f, want, (int64_t)n);
    convert_rows(KV_F16, h, KV_Q8_0, simd, n);
    convert_rows_portable(KV_F16, h, KV_Q8_0, plain, n);
    assert_memory_equal(plain, want, n / GROUP * PACKED);
    assert_memory_equal(simd, want, n / GROUP * PACKED);
    free(f);
    free(want);
    free(simd);
    free(plain);
}

static void check_unpack(const uint8_t *q, size_t n) {
    float *f = malloc(n * sizeof *f);
    uint16_t *simd = malloc(n * 2), *plain = malloc(n * 2);
    assert_true(f && simd && plain);
    dequantize_row_q8_0(q, f, (int64_t)n);
    convert_rows(KV_Q8_0, q, KV_F16, simd, n);
    convert_rows_portable(KV_Q8_0, q, KV_F16, plain, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(plain[i], ggml_fp32_to_fp16(f[i]));
    assert_memory_equal(simd, plain, n * 2);
    free(f);
    free(simd);
    free(plain);
}

// Every finite half is the largest of a group once, among smaller ones of all sizes.
static void packs_as_ggml(void **arg) {
    (void)arg;
    static uint16_t h[GROUP * 1024];
    for (uint32_t most = 0; most < INFINITE; most += 1024) {
        for (uint32_t g = 0; g < 1024; g++)
            for (uint32_t i = 0; i < GROUP; i++) {
                uint16_t v = (uint16_t)(i == most % GROUP ? most + g : next_random() % (most + g + 1));
                h[g * GROUP + i] = (uint16_t)(v | (next_random() & 0x8000));
            }
        check_pack(h, sizeof h / 2);
    }
}

// x / d that lie in the middle between two numbers: 127 as the largest gives d = 1.
static void rounds_ties_as_ggml(void **arg) {
    (void)arg;
    uint16_t h[GROUP];
    for (int start = 0; start < 256; start++) {
        for (int i = 0; i < GROUP; i++) h[i] = ggml_fp32_to_fp16((float)((start + i * 8) % 508 - 254) / 2);
        h[start % GROUP] = ggml_fp32_to_fp16(127);
        check_pack(h, GROUP);
        for (int i = 0; i < GROUP; i++) h[i] ^= 1; // right beside the middle
        check_pack(h, GROUP);
    }
}

// Every scale with every number.
static void unpacks_as_ggml(void **arg) {
    (void)arg;
    uint8_t q[8 * PACKED];
    for (uint32_t scale = 0; scale < HALVES; scale++) {
        if ((scale & 0x7fff) >= INFINITE) continue;
        for (int g = 0; g < 8; g++) {
            uint16_t s = (uint16_t)scale;
            memcpy(q + g * PACKED, &s, 2);
            for (int i = 0; i < GROUP; i++) q[g * PACKED + 2 + i] = (uint8_t)(g * GROUP + i);
        }
        check_unpack(q, 8 * GROUP);
        if (scale > 0x0500 && scale < 0x7800) scale += 30; // subnormals and the largest: all of them
    }
}

// Hostile rows: no number may do harm, whatever its bits; both paths agree.
static void odd_numbers(void **arg) {
    (void)arg;
    static const uint16_t odd[] = {0x7c00, 0xfc00, 0x7e00, 0xfe00, 0x7c01, 0xffff, 0x7bff, 0xfbff, 0x0001, 0x8000, 0};
    for (int round = 0; round < 20000; round++) {
        uint16_t h[GROUP], back[GROUP], back_plain[GROUP];
        uint8_t simd[PACKED], plain[PACKED];
        for (int i = 0; i < GROUP; i++)
            h[i] = next_random() % 4 ? (uint16_t)next_random() : odd[next_random() % (sizeof odd / sizeof *odd)];
        convert_rows(KV_F16, h, KV_Q8_0, simd, GROUP);
        convert_rows_portable(KV_F16, h, KV_Q8_0, plain, GROUP);
        assert_memory_equal(simd, plain, PACKED);
        convert_rows(KV_Q8_0, h, KV_F16, back, 0); // nothing at all is fine too
        for (int i = 0; i < PACKED; i++) simd[i] = (uint8_t)next_random();
        memcpy(simd, &odd[round % (int)(sizeof odd / sizeof *odd)], 2);
        convert_rows(KV_Q8_0, simd, KV_F16, back, GROUP);
        convert_rows_portable(KV_Q8_0, simd, KV_F16, back_plain, GROUP);
        assert_memory_equal(back, back_plain, sizeof back);
        for (int i = 0; i < GROUP; i++) assert_true((back[i] & 0x7fff) <= INFINITE); // may be too large, is a number
    }
    uint16_t h[GROUP] = {0x7e00, 0x7c00, 0xfc00};
    uint8_t q[PACKED];
    convert_rows(KV_F16, h, KV_Q8_0, q, GROUP);
    assert_true(q[2] == 0 && (int8_t)q[3] == 127 && (int8_t)q[4] == -127);
}

// Where rows lie, and how many there are, makes no difference; nothing beside them is touched.
static void any_alignment(void **arg) {
    (void)arg;
    enum { N = 5 * GROUP };
    uint8_t from[N * 2 + 64], to[N * 2 + 64], want[N * 2];
    for (size_t i = 0; i < sizeof from; i++) from[i] = (uint8_t)(next_random() & 0xbf); // finite
    for (size_t at = 0; at < 32; at++) {
        memset(to, 0xa5, sizeof to);
        uint8_t copy[N * 2];
        memcpy(copy, from + at, sizeof copy);
        convert_rows_portable(KV_F16, copy, KV_Q8_0, want, N);
        convert_rows(KV_F16, from + at, KV_Q8_0, to + 1 + at, N);
        assert_memory_equal(to + 1 + at, want, N / GROUP * PACKED);
        for (size_t i = 0; i < sizeof to; i++)
            if (i < 1 + at || i >= 1 + at + N / GROUP * PACKED) assert_int_equal(to[i], 0xa5);
        memset(to, 0xa5, sizeof to);
        convert_rows(KV_Q8_0, from + at, KV_F16, to + 1 + at, GROUP);
        for (size_t i = 0; i < sizeof to; i++)
            if (i < 1 + at || i >= 1 + at + GROUP * 2) assert_int_equal(to[i], 0xa5);
    }
    convert_rows(KV_F16, from, KV_F16, to, 3); // a copy
    assert_memory_equal(from, to, 6);
}

// The error that travelling as q8_0 adds to rows of normally distributed numbers.
static void error_of_normal_rows(void **arg) {
    (void)arg;
    uint16_t *h = malloc(NORMAL * 2), *back = malloc(NORMAL * 2);
    uint8_t *q = malloc(NORMAL / GROUP * PACKED);
    double square = 0, error = 0, worst = 0;
    assert_true(h && back && q);
    for (size_t i = 0; i < NORMAL; i++) h[i] = ggml_fp32_to_fp16((float)next_normal());
    convert_rows(KV_F16, h, KV_Q8_0, q, NORMAL);
    convert_rows(KV_Q8_0, q, KV_F16, back, NORMAL);
    for (size_t g = 0; g < NORMAL; g += GROUP) {
        double most = 0;
        for (size_t i = g; i < g + GROUP; i++) most = fmax(most, fabs(ggml_fp16_to_fp32(h[i])));
        for (size_t i = g; i < g + GROUP; i++) {
            double x = ggml_fp16_to_fp32(h[i]), d = fabs(x - ggml_fp16_to_fp32(back[i]));
            square += x * x;
            error += d * d;
            worst = fmax(worst, d / most);
            assert_true(d <= most * (1.0 / 254 + 2.0 / 2048)); // as convert.h says, and the last rounding to f16
        }
    }
    print_message("q8_0 on the wire (%s): error of normal rows: RMS %.5f of the RMS, worst %.5f of a group's largest\n",
                  convert_path(), sqrt(error / square), worst);
    assert_true(sqrt(error / square) < 0.007);
    free(h);
    free(back);
    free(q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_as_ggml), cmocka_unit_test(rounds_ties_as_ggml), cmocka_unit_test(unpacks_as_ggml),
        cmocka_unit_test(odd_numbers),   cmocka_unit_test(any_alignment),       cmocka_unit_test(error_of_normal_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

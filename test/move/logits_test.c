// One prompt, two models of the same file in this program: the first one reads it, its rows leave by the exporter while
// it does and enter the second one by the importer, and what both say of the tokens that follow is compared logit by
// logit. What a client sees is test/move/move_test.c's.
#include "base/log.h"
#include "carry.h"
#include "pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

// Rows that have travelled as q8_0: the largest difference of a logit, as a share of the logits' RMS.
static const double q8_bound = 0.05;

static struct model reader, writer;
static struct carried carried;
static struct carry_logits logits;

static int load(const char *name, const char *kv_type) {
    carry_load(&reader, name, kv_type, false);
    carry_load(&writer, name, kv_type, false);
    return 0;
}
static int load_f16(void **state) {
    (void)state;
    return load("random", "f16");
}
static int load_q8(void **state) {
    (void)state;
    return load("random", "q8_0");
}
static int load_recall(void **state) {
    (void)state;
    return load("recall", "f16");
}
static int unload(void **state) {
    (void)state;
    model_close(&reader);
    model_close(&writer);
    return 0;
}

static double difference(enum kv_dtype wire) {
    carry_in(&writer, &carried, wire, &logits);
    return carry_difference(&writer, &carried, &logits);
}

static void same_bits(const int *lengths, size_t n) {
    for (size_t i = 0; i < n; i++) {
        carry_prompt(&carried, lengths[i]);
        carry_out(&reader, &carried);
        double d = difference(carried.dtype);
        if (d != 0) fail_msg("prompt of %d: logits differ by up to %g of their RMS", lengths[i], d);
    }
}

static void same_bits_at_every_length(void **state) {
    static const int lengths[] = {1, 2, 15, CHUNK - 1, CHUNK, CHUNK + 1, 1000};
    (void)state;
    same_bits(lengths, sizeof lengths / sizeof *lengths);
}

static void same_bits_of_a_long_prompt(void **state) {
    (void)state;
    same_bits(&(int){8000}, 1);
}

static void same_bits_of_recall(void **state) {
    static const int lengths[] = {CHUNK + 1, 600};
    (void)state;
    same_bits(lengths, sizeof lengths / sizeof *lengths);
}

static void eight_bits_on_the_way(void **state) {
    static const int lengths[] = {1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 1000};
    double worst = 0;
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        carry_prompt(&carried, lengths[i]);
        carry_out(&reader, &carried);
        double d = difference(KV_Q8_0);
        if (d == 0) fail_msg("prompt of %d: rows as q8_0 left no trace", lengths[i]);
        if (d > q8_bound) fail_msg("prompt of %d: logits differ by %g of their RMS", lengths[i], d);
        worst = d > worst ? d : worst;
    }
    printf("rows as q8_0: logits differ by up to %.4f of their RMS\n", worst);
}

// A bit that is wrong anywhere shows: in the first and last layer, K and V, of the first and the last position.
static void one_wrong_bit_shows(void **state) {
    enum { LENGTH = 100 };
    (void)state;
    carry_prompt(&carried, LENGTH);
    carry_out(&reader, &carried);
    const struct kv_shape *s = &reader.info.kv;
    for (int plane = 0; plane < KV_KINDS * s->layers; plane++)
        for (int last = 0; last < 2; last++) {
            size_t bytes = kv_row_bytes(s, plane < s->layers ? KV_K : KV_V, s->dtype);
            unsigned char *wrong = carried.rows[plane] + (last ? (LENGTH - 1) * bytes : 0) + 1; // an exponent's bits
            *wrong ^= 0x10;
            if (difference(carried.dtype) == 0) fail_msg("plane %d, %s row", plane, last ? "last" : "first");
            *wrong ^= 0x10;
        }
    assert_true(difference(carried.dtype) == 0);
}

int main(void) {
    log_set_level(LOG_ERROR);
    const struct CMUnitTest f16[] = {cmocka_unit_test(same_bits_at_every_length),
                                     cmocka_unit_test(same_bits_of_a_long_prompt),
                                     cmocka_unit_test(eight_bits_on_the_way), cmocka_unit_test(one_wrong_bit_shows)};
    const struct CMUnitTest q8[] = {cmocka_unit_test(same_bits_at_every_length)};
    const struct CMUnitTest recall[] = {cmocka_unit_test(same_bits_of_recall)};
    return cmocka_run_group_tests(f16, load_f16, unload) + cmocka_run_group_tests(q8, load_q8, unload) +
           cmocka_run_group_tests(recall, load_recall, unload);
}

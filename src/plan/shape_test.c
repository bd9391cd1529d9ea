// The catalogue against another source: parameter counts are recomputed from the widths of the feed-forward layers,
// which the catalogue does not hold.
#include "plan/shape.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct plan_shape found(const char *name) {
    struct plan_shape s;
    struct err e = {.code = ERR_NONE};
    if (plan_shape_find(name, &s, &e)) fail_msg("%s", e.msg);
    return s;
}

static void near(const char *what, double is, double should, double part) {
    if (!(fabs(is - should) <= part * fabs(should))) fail_msg("%s is %g, should be %g", what, is, should);
}

// Attention, the two or three matrices of the feed-forward part of every expert, the vocabulary.
static double counted(const struct plan_shape *s, double feed_forward, double experts) {
    double attention = (double)s->embd * s->heads * s->key * 2 + (double)s->embd * s->kv_width;
    double layer = attention + 3.0 * s->embd * feed_forward * experts + (experts > 1 ? s->embd * experts : 0);
    return layer * s->layers + s->head + s->table;
}

static void parameters_follow_from_shapes(void **state) {
    static const struct {
        const char *name;
        double feed_forward, experts, used;
    } rows[] = {{"llama-3.2-1b", 8192, 1, 1},      {"llama-3.2-3b", 8192, 1, 1},
                {"llama-3.1-8b", 14336, 1, 1},     {"llama-3.1-70b", 28672, 1, 1},
                {"llama-3.3-70b", 28672, 1, 1},    {"llama-3.1-405b", 53248, 1, 1},
                {"qwen2.5-0.5b", 4864, 1, 1},      {"qwen2.5-1.5b", 8960, 1, 1},
                {"qwen2.5-3b", 11008, 1, 1},       {"qwen2.5-7b", 18944, 1, 1},
                {"qwen2.5-14b", 13824, 1, 1},      {"qwen2.5-32b", 27648, 1, 1},
                {"qwen2.5-72b", 29568, 1, 1},      {"qwen3-0.6b", 3072, 1, 1},
                {"qwen3-1.7b", 6144, 1, 1},        {"qwen3-4b", 9728, 1, 1},
                {"qwen3-8b", 12288, 1, 1},         {"qwen3-14b", 17408, 1, 1},
                {"qwen3-32b", 25600, 1, 1},        {"qwen3-30b-a3b", 768, 128, 8},
                {"qwen3-235b-a22b", 1536, 128, 8}, {"mistral-7b", 14336, 1, 1},
                {"mistral-nemo-12b", 14336, 1, 1}, {"mistral-small-24b", 32768, 1, 1},
                {"mixtral-8x7b", 14336, 8, 2},     {"mixtral-8x22b", 16384, 8, 2},
                {"gpt-oss-20b", 2880, 32, 4},      {"gpt-oss-120b", 2880, 128, 4},
                {"gemma-3-4b", 10240, 1, 1},       {"gemma-3-12b", 15360, 1, 1},
                {"gemma-3-27b", 21504, 1, 1},      {"phi-4", 17920, 1, 1}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct plan_shape s = found(rows[i].name);
        near(rows[i].name, s.parameters, counted(&s, rows[i].feed_forward, rows[i].experts), 0.01);
        double unused = 3.0 * s.embd * rows[i].feed_forward * (rows[i].experts - rows[i].used) * s.layers;
        near(rows[i].name, s.active, counted(&s, rows[i].feed_forward, rows[i].experts) - unused - s.table, 0.02);
    }
}

static void every_entry_is_sound(void **state) {
    (void)state;
    for (size_t i = 0; plan_shape_name(i); i++) {
        struct err e = {.code = ERR_NONE};
        struct plan_shape s = found(plan_shape_name(i));
        if (plan_shape_check(&s, &e)) fail_msg("%s", e.msg);
        for (size_t k = 0; k < i; k++) assert_string_not_equal(plan_shape_name(i), plan_shape_name(k));
    }
}

static void kv_bytes_as_published(void **state) {
    (void)state;
    struct plan_shape s = found("llama-3.1-8b"), o = found("gpt-oss-20b"), d = found("deepseek-v3");
    assert_true(plan_shape_kv_bytes(&s, DTYPE_F16, 1) == 128 * 1024);
    assert_true(plan_shape_kv_bytes(&s, DTYPE_F16, 8192) == 1024.0 * 1024 * 1024);
    assert_true(plan_shape_kv_bytes(&s, DTYPE_Q8, 32) == 68 * 1024 * 32); // 34 bytes hold 32 numbers
    // 24 layers of 8 heads of 64, half of them with a window of 128
    assert_true(plan_shape_kv_bytes(&o, DTYPE_F16, 100) == 24.0 * 2048 * 100);
    assert_true(plan_shape_kv_bytes(&o, DTYPE_F16, 1000) == 12.0 * 2048 * 1000 + 12.0 * 2048 * 128);
    // 70 KB per token: DeepSeek-V3 report
    assert_true(plan_shape_kv_bytes(&d, DTYPE_F16, 1) == 61.0 * 576 * 2);
}

static void bytes_and_operations(void **state) {
    (void)state;
    struct plan_shape s = found("llama-3.1-8b"), m = found("mixtral-8x7b");
    double vocabulary = 128256.0 * 4096;
    near("weights", plan_shape_weight_bytes(&s), 8.030e9 * 2, 1e-12);
    near("read", plan_shape_read_bytes(&s), 2 * (8.030e9 - vocabulary), 1e-12);
    assert_true(plan_shape_pass_bytes(&s) == plan_shape_read_bytes(&s));
    assert_true(plan_shape_pass_bytes(&m) > 3 * plan_shape_read_bytes(&m)); // a prompt needs all experts
    near("operations", plan_shape_token_flops(&s), 2 * (8.030e9 - 2 * vocabulary), 1e-12);
    assert_true(plan_shape_pair_flops(&s) == 4.0 * 4096); // 4 n^2/2 d L in all layers, as published
    s.weight_bits = dtype_bits(DTYPE_Q4);
    near("4-bit weights", plan_shape_weight_bytes(&s), 8.030e9 * 4.5 / 8, 1e-12);
}

static void unknown_names_list_the_known_ones(void **state) {
    struct plan_shape s;
    struct err e = {.code = ERR_NONE};
    (void)state;
    assert_int_equal(plan_shape_find("llama-9-an-extraordinarily-long-name-that-nobody-has-ever-heard-of", &s, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(e.param, "model");
    for (size_t i = 0; plan_shape_name(i); i++) assert_non_null(strstr(e.msg, plan_shape_name(i)));
    assert_true(e.msg[strlen(e.msg) - 1] == plan_shape_name(0)[0] || strlen(e.msg) < sizeof e.msg - 1); // whole
}

static void types(void **state) {
    static const char *const names[] = {"f16", "q8", "q8_0", "q4", "q4_0"};
    static const enum dtype types[] = {DTYPE_F16, DTYPE_Q8, DTYPE_Q8, DTYPE_Q4, DTYPE_Q4};
    enum dtype d = DTYPE_F16;
    struct err e;
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(dtype_parse(names[i], &d, &e), 0);
        assert_int_equal(d, types[i]);
    }
    assert_int_equal(dtype_parse("q5", &d, &e), -1);
    assert_int_equal(dtype_parse("", &d, &e), -1);
}

static void absurd_shapes_are_refused(void **state) {
    (void)state;
    struct plan_shape good = found("gpt-oss-120b"), s[12];
    for (size_t i = 0; i < 12; i++) s[i] = good;
    s[0].parameters = NAN;
    s[1].parameters = -1;
    s[2].active = s[2].parameters * 2;
    s[3].active = INFINITY;
    s[4].head = -1;
    s[5].table = s[5].parameters;
    s[6].weight_bits = 0;
    s[7].layers = 0;
    s[8].heads = -1;
    s[9].kv_width = 0;
    s[10].windowed_layers = s[10].layers + 1;
    s[11].key = 1 << 30;
    for (size_t i = 0; i < 12; i++) {
        struct err e = {.code = ERR_NONE};
        assert_int_equal(plan_shape_check(&s[i], &e), -1);
        assert_non_null(strstr(e.msg, "gpt-oss-120b"));
    }
}

static void windows_by_architecture(void **state) {
    (void)state;
    assert_int_equal(plan_shape_windowed_layers("gpt-oss", 36), found("gpt-oss-120b").windowed_layers);
    assert_int_equal(plan_shape_windowed_layers("gemma3", 62), found("gemma-3-27b").windowed_layers);
    assert_int_equal(plan_shape_windowed_layers("gemma3", 34), found("gemma-3-4b").windowed_layers);
    assert_int_equal(plan_shape_windowed_layers("llama", 32), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_follow_from_shapes),
        cmocka_unit_test(every_entry_is_sound),
        cmocka_unit_test(kv_bytes_as_published),
        cmocka_unit_test(bytes_and_operations),
        cmocka_unit_test(unknown_names_list_the_known_ones),
        cmocka_unit_test(types),
        cmocka_unit_test(absurd_shapes_are_refused),
        cmocka_unit_test(windows_by_architecture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

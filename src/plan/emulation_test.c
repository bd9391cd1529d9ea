#include "plan/emulation.h"
#include "plan/file_shape.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void close_to(double is, double should) {
    if (!(fabs(is - should) <= 1e-9 * fabs(should))) fail_msg("%g should be %g", is, should);
}

static void words(void **state) {
    (void)state;
    struct emulation x;
    struct err e = {.code = ERR_NONE};
    assert_int_equal(emulation_parse(&x, "dgx-spark", &e), 0);
    assert_string_equal(x.device->name, "dgx-spark");
    close_to(x.scale, 1);
    assert_false(x.named);
    assert_int_equal(emulation_parse(&x, "m3-ultra:0.25", &e), 0);
    close_to(x.scale, 0.25);
    assert_int_equal(emulation_parse(&x, "m3-ultra@qwen2.5-7b", &e), 0);
    close_to(x.scale, 1);
    assert_string_equal(x.shape.name, "qwen2.5-7b");
    assert_int_equal(emulation_parse(&x, "dgx-spark:20@llama-3.1-8b", &e), 0);
    close_to(x.scale, 20);
    assert_true(x.named);
    assert_string_equal(x.text, "dgx-spark:20@llama-3.1-8b");
}

static void refuses(const char *text, const char *why) {
    struct emulation x;
    struct err e = {.code = ERR_NONE};
    assert_int_not_equal(emulation_parse(&x, text, &e), 0);
    if (!strstr(e.msg, why)) fail_msg("'%s': '%s' lacks '%s'", text, e.msg, why);
}

static void bad_words(void **state) {
    (void)state;
    char longest[2 * EMULATION_TEXT];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = 0;
    refuses("", "known: dgx-spark");
    refuses("toaster", "known: dgx-spark");
    refuses("dgx-spark@gpt-9", "llama-3.1-8b");
    refuses("dgx-spark@", "llama-3.1-8b");
    refuses("dgx-spark:0", "scale");
    refuses("dgx-spark:-1", "scale");
    refuses("dgx-spark:", "scale");
    refuses("dgx-spark:2x", "scale");
    refuses("dgx-spark:nan", "scale");
    refuses("dgx-spark:1e9", "scale");
    refuses(longest, "bytes");
}

static void scaled(void **state) {
    (void)state;
    struct emulation x, one;
    struct profile p, q;
    struct err e = {.code = ERR_NONE};
    assert_int_equal(emulation_parse(&one, "m3-ultra@llama-3.1-8b", &e), 0);
    assert_int_equal(emulation_parse(&x, "m3-ultra:7@llama-3.1-8b", &e), 0);
    emulation_profile(&one, NULL, DTYPE_F16, &q);
    emulation_profile(&x, NULL, DTYPE_F16, &p);
    close_to(prefill_seconds(&p, 1000, 500), 7 * prefill_seconds(&q, 1000, 500));
    close_to(decode_seconds(&p, 1000, 9), 7 * decode_seconds(&q, 1000, 9));
}

static void of_the_loaded_model(void **state) {
    (void)state;
    struct emulation x;
    struct profile p, q;
    struct plan_shape loaded;
    struct err e = {.code = ERR_NONE};
    const struct file_figures f = {.arch = "llama",
                                   .parameters = 1000000,
                                   .bytes = 2000000,
                                   .layers = 4,
                                   .embd = 64,
                                   .heads = 4,
                                   .table_parameters = 100000,
                                   .kv_values = 256};
    assert_int_equal(plan_shape_of_file(&loaded, "mine", &f, &e), 0);
    assert_int_equal(loaded.kv_width, 64);
    assert_int_equal(loaded.key, 16);
    close_to(loaded.weight_bits, 16);
    close_to(loaded.active, 900000);
    assert_int_equal(emulation_parse(&x, "m3-ultra", &e), 0);
    emulation_profile(&x, &loaded, DTYPE_F16, &p);
    profile_of_device(&q, x.device, &loaded, DTYPE_F16);
    close_to(prefill_seconds(&p, 1000, 500), prefill_seconds(&q, 1000, 500));
}

static void files_that_make_no_sense(void **state) {
    (void)state;
    struct plan_shape s;
    struct err e = {.code = ERR_NONE};
    const struct file_figures fine = {
        .arch = "llama", .parameters = 1000, .bytes = 2000, .layers = 2, .embd = 8, .heads = 2, .kv_values = 32};
    struct file_figures f = fine;
    assert_int_equal(plan_shape_of_file(&s, "fine", &f, &e), 0);
    f.layers = 0;
    assert_int_not_equal(plan_shape_of_file(&s, "layers", &f, &e), 0);
    f = fine;
    f.kv_values = 0;
    assert_int_not_equal(plan_shape_of_file(&s, "rows", &f, &e), 0);
    f = fine;
    f.heads = (int64_t)INT32_MAX + 1;
    assert_int_not_equal(plan_shape_of_file(&s, "heads", &f, &e), 0);
    assert_non_null(strstr(e.msg, "heads"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),  cmocka_unit_test(bad_words),           cmocka_unit_test(files_that_make_no_sense),
        cmocka_unit_test(scaled), cmocka_unit_test(of_the_loaded_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

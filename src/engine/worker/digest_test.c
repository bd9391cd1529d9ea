// Digests of model files: equal where computing is the same, different where it is not.
#include "engine/worker/digest.h"

#include <gguf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

struct file { // what the tests vary
    const char *name, *chat;
    uint32_t heads;
    float freq_base;
    const char *token;
    int64_t width;
    float weight;
    int reversed;
};
static const struct file usual = {.name = "a", .chat = "x", .heads = 2, .freq_base = 1e4f, .token = "t", .width = 8};

static void write_key(struct gguf_context *g, const struct file *f, int i) {
    const char *tokens[] = {"<unk>", f->token};
    switch (i) {
    case 0: gguf_set_val_str(g, "general.architecture", "llama"); break;
    case 1: gguf_set_val_str(g, "general.name", f->name); break;
    case 2: gguf_set_val_str(g, "tokenizer.chat_template", f->chat); break;
    case 3: gguf_set_val_u32(g, "llama.attention.head_count", f->heads); break;
    case 4: gguf_set_val_f32(g, "llama.rope.freq_base", f->freq_base); break;
    default: gguf_set_arr_str(g, "tokenizer.ggml.tokens", tokens, 2); break;
    }
}

static struct digests digests_of(const struct file *f) {
    char path[] = P_tmpdir "/digest_test.XXXXXX";
    struct gguf_context *g = gguf_init_empty();
    struct ggml_context *c = ggml_init((struct ggml_init_params){.mem_size = 1 << 20});
    for (int i = 0; i < 6; i++) write_key(g, f, f->reversed ? 5 - i : i);
    struct ggml_tensor *t = ggml_new_tensor_1d(c, GGML_TYPE_F32, f->width);
    for (int64_t i = 0; i < f->width; i++) ggml_get_data_f32(t)[i] = f->weight + (float)i;
    ggml_set_name(t, "output.weight");
    gguf_add_tensor(g, t);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_true(gguf_write_to_file(g, path, false));
    ggml_free(c);
    gguf_free(g);
    struct err e;
    struct digests out;
    struct digest *d = digest_start(path, 0, &e);
    assert_non_null(d);
    assert_int_equal(digest_finish(d, NULL, NULL, &out, &e), 0);
    assert_int_equal(strlen(out.contract), 64);
    assert_int_equal(strlen(out.weights), 64);
    unlink(path);
    return out;
}

static void compare(const struct file *f, int same_contract, int same_weights) {
    struct digests a = digests_of(&usual), b = digests_of(f);
    assert_int_equal(!strcmp(a.contract, b.contract), same_contract);
    assert_int_equal(!strcmp(a.weights, b.weights), same_weights);
}

static void what_matters(void **state) {
    (void)state;
    struct file f = usual;
    compare(&f, 1, 1);
    f.name = "b";
    f.chat = "y";
    f.reversed = 1;
    compare(&f, 1, 1);
    f.weight = 1;
    compare(&f, 1, 0);
    f = usual;
    f.heads = 4;
    compare(&f, 0, 1);
    f = usual;
    f.freq_base = 1e5f;
    compare(&f, 0, 1);
    f = usual;
    f.token = "u";
    compare(&f, 0, 1);
    f = usual;
    f.width = 16;
    compare(&f, 0, 0);
}

static void bad_files(void **state) {
    (void)state;
    struct err e;
    struct digests out;
    struct digest *d = digest_start("/nonexistent.gguf", 0, &e);
    assert_non_null(d);
    assert_int_equal(digest_finish(d, NULL, NULL, &out, &e), -1);
    assert_non_null(strstr(e.msg, "/nonexistent.gguf"));
    d = digest_start("/nonexistent.gguf", 3, &e); // not named as a part
    assert_non_null(d);
    assert_int_equal(digest_finish(d, NULL, NULL, &out, &e), -1);
    assert_non_null(strstr(e.msg, "3 parts"));
    d = digest_start("/dev/zero", 0, &e); // given up
    assert_non_null(d);
    digest_free(d);
    digest_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_matters),
        cmocka_unit_test(bad_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

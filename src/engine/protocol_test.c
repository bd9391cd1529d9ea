// The wire between daemon and worker: what is encoded comes back the same, and nothing malformed is accepted.
#include "base/json.h"
#include "engine/protocol.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

// Sends a message through a frame, in pieces of `step` bytes; returns what arrives.
static json_t *through_frame(json_t *msg, size_t step) {
    struct buf b;
    struct err e;
    json_t *out = NULL;
    size_t used = 0;
    buf_init(&b, 1 << 20);
    assert_int_equal(frame_append(&b, msg), 0);
    for (size_t n = 0; n < b.len; n += step) assert_int_equal(frame_take(b.data, n, 1 << 20, &out, &used, &e), 0);
    assert_int_equal(frame_take(b.data, b.len, 1 << 20, &out, &used, &e), 1);
    assert_int_equal(used, b.len);
    buf_free(&b);
    json_decref(msg);
    return out;
}

static void frames(void **state) {
    (void)state;
    json_t *out = through_frame(json_pack("{s:s, s:i}", "t", "cancel", "id", 7), 1);
    assert_int_equal(json_integer_value(json_object_get(out, "id")), 7);
    json_decref(out);
    struct err e;
    size_t used;
    assert_int_equal(frame_take("\xFF\xFF\xFF\xFF{}", 6, 100, &out, &used, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    assert_int_equal(frame_take("\x02\0\0\0[]", 6, 100, &out, &used, &e), -1);
    assert_int_equal(frame_take("\x02\0\0\0{x", 6, 100, &out, &used, &e), -1);
    assert_int_equal(frame_take("\0\0\0\0", 4, 100, &out, &used, &e), -1);
    assert_null(out);
}

static void frame_that_does_not_fit_leaves_the_buffer(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    json_t *msg = json_pack("{s:s}", "t", "a long message");
    assert_int_equal(frame_append(&b, msg), -1);
    assert_int_equal(b.len, 0);
    json_decref(msg);
    buf_free(&b);
}

static void requests(void **state) {
    (void)state;
    struct gen_request in, out;
    struct err e = {.code = ERR_NONE};
    uint64_t id = 0;
    gen_request_init(&in);
    in.kind = PROMPT_CHAT;
    in.prompt = json_pack("[{s:s, s:s}]", "role", "user", "content", "gr\u00fc\u00df dich");
    in.template_args = json_pack("{s:b}", "enable_thinking", 0);
    in.max_tokens = 12;
    in.ignore_eos = in.echo_prompt = true;
    in.stop[in.n_stop++] = strdup("\n\n");
    in.sampling.seed = 0xFFFFFFFFFFFFFFFFull;
    in.sampling.temperature = 0.25f;
    in.sampling.penalty_last_n = -1;
    in.sampling.bias[in.sampling.n_bias++] = (struct logit_bias){5, -100};
    json_t *msg = through_frame(gen_encode(1ull << 40, &in), 13);
    assert_int_equal(gen_decode(msg, &id, &out, &e), 0);
    assert_true(id == 1ull << 40);
    assert_int_equal(out.kind, PROMPT_CHAT);
    assert_true(json_equal(in.prompt, out.prompt) && json_equal(in.template_args, out.template_args));
    assert_string_equal(out.stop[0], "\n\n");
    assert_memory_equal(&in.sampling, &out.sampling, sizeof in.sampling);
    assert_true(out.max_tokens == 12 && out.ignore_eos && out.echo_prompt);
    json_decref(msg);
    gen_request_free(&in);
    gen_request_free(&out);
}

static void bad_requests(void **state) {
    (void)state;
    static const char *const bad[] = {
        "{}",
        "{\"id\":0,\"kind\":0,\"prompt\":\"x\"}",
        "{\"id\":1,\"prompt\":\"x\"}",
        "{\"id\":1,\"kind\":3,\"prompt\":\"x\"}",
        "{\"id\":1,\"kind\":0,\"prompt\":[1]}",
        "{\"id\":1,\"kind\":2,\"prompt\":\"x\"}",
        "{\"id\":1,\"kind\":0,\"prompt\":\"x\",\"stop\":[1]}",
        "{\"id\":1,\"kind\":0,\"prompt\":\"x\",\"stop\":[\"\"]}",
        "{\"id\":1,\"kind\":0,\"prompt\":\"x\",\"bias\":[[-1,2]]}",
        "{\"id\":1,\"kind\":0,\"prompt\":\"x\",\"bias\":[7]}",
        "{\"id\":1,\"kind\":0,\"prompt\":\"x\",\"top_k\":1e12}",
        "{\"id\":1,\"kind\":0,\"prompt\":\"x\",\"temperature\":\"hot\"}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct gen_request r;
        struct err e = {.code = ERR_NONE};
        uint64_t id;
        json_t *msg = json_parse(bad[i], strlen(bad[i]), &e);
        assert_non_null(msg);
        if (!gen_decode(msg, &id, &r, &e)) fail_msg("accepted: %s", bad[i]);
        assert_int_equal(e.code, ERR_INVALID);
        gen_request_free(&r);
        json_decref(msg);
    }
}

static const struct kv_shape shape = {.form = KV_ROWS,
                                      .dtype = KV_Q8_0,
                                      .layers = 2,
                                      .unit = 8,
                                      .width = {64, 32},
                                      .head = 16,
                                      .cell = 12,
                                      .middle = 8,
                                      .plane = 12};

static void flat_structs(void **state) {
    (void)state;
    struct err e;
    struct engine_options o = {.model_name = "m",
                               .model_path = "/m.gguf",
                               .ctx = 4096,
                               .gpu_layers = -1,
                               .kv_type = "q8_0"},
                          o2;
    struct worker_info i = {.arch = "llama", .n_params = 1ll << 40, .ctx = 4096, .vocab = 32000, .kv = shape}, i2;
    struct worker_stats s = {.cells_used = 5, .busy_ns = 1ll << 50}, s2;
    json_t *msg = through_frame(load_encode(&o), 50);
    assert_int_equal(load_decode(msg, &o2, &e), 0);
    assert_memory_equal(&o, &o2, sizeof o);
    json_decref(msg);
    msg = through_frame(info_encode(&i), 50);
    assert_int_equal(info_decode(msg, &i2, &e), 0);
    assert_memory_equal(&i, &i2, sizeof i);
    json_object_set_new(msg, "vocab", json_integer(1ll << 40));
    assert_int_equal(info_decode(msg, &i2, &e), -1);
    assert_string_equal(e.param, "vocab");
    json_decref(msg);
    msg = through_frame(stats_encode(&s), 50);
    assert_int_equal(stats_decode(msg, &s2, &e), 0);
    assert_memory_equal(&s, &s2, sizeof s);
    json_decref(msg);
}

static void results_and_errors(void **state) {
    (void)state;
    struct err e, why = {.code = ERR_LIMIT, .param = "messages", .msg = "bad \x01 byte \xFF"}, got;
    struct gen_result r = {.finish = FINISH_STOP, .stop_string = "END", .prompt_tokens = 3, .decode_ns = 99}, r2;
    json_t *msg = through_frame(result_encode(4, &r), 9);
    assert_int_equal(result_decode(msg, &r2, &e), 0);
    assert_string_equal(r2.stop_string, "END");
    assert_true(r2.finish == FINISH_STOP && r2.prompt_tokens == 3 && r2.decode_ns == 99);
    json_decref(msg);
    msg = through_frame(error_encode(4, &why), 9);
    assert_int_equal(error_decode(msg, &got, &e), 0);
    assert_int_equal(got.code, ERR_LIMIT);
    assert_string_equal(got.param, "messages");
    assert_string_equal(got.msg, "bad \\x01 byte \\xFF");
    json_decref(msg);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames),       cmocka_unit_test(frame_that_does_not_fit_leaves_the_buffer),
        cmocka_unit_test(requests),     cmocka_unit_test(bad_requests),
        cmocka_unit_test(flat_structs), cmocka_unit_test(results_and_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

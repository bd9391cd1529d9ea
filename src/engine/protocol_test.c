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
    in.ignore_eos = in.echo_prompt = in.hold = in.show_tokens = true;
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
    assert_true(out.max_tokens == 12 && out.ignore_eos && out.echo_prompt && out.hold && out.show_tokens);
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
                               .kv_type = "q8_0",
                               .emulate = "m3-ultra:2"},
                          o2;
    struct worker_info i = {.arch = "llama",
                            .emulated = "m3-ultra:2",
                            .n_params = 1ll << 40,
                            .ctx = 4096,
                            .vocab = 32000,
                            .kv = shape},
                       i2;
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
    struct worker_pulse p = {.control_ms = 500, .compute_ms = 1ll << 40}, p2;
    msg = through_frame(pulse_encode(&p), 7);
    assert_int_equal(pulse_decode(msg, &p2, &e), 0);
    assert_memory_equal(&p, &p2, sizeof p);
    json_object_set_new(msg, "compute_ms", json_string("long"));
    assert_int_equal(pulse_decode(msg, &p2, &e), -1);
    json_decref(msg);
}

// ---------------------------------------------------------------- sequences that move
static void orders(void **state) {
    (void)state;
    int32_t tokens[] = {1, 2, 300000};
    const struct order all[] = {
        {.kind = ORDER_GO, .generated = tokens, .n = 3, .from = 17},
        {.kind = ORDER_GO, .from = -1},
        {.kind = ORDER_EXPORT, .first = 5, .units = 4, .from = -1},
        {.kind = ORDER_EXPORT, .first = -1, .from = -1},
        {.kind = ORDER_CREDIT, .units = 1, .from = -1},
        {.kind = ORDER_PAUSE, .from = -1},
        {.kind = ORDER_INSTALL, .slot = 3, .offset = 1ll << 33, .first = 7, .count = 8, .from = -1}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const struct order *in = &all[i];
        struct order out;
        struct err e;
        uint64_t id = 0;
        json_t *msg = through_frame(order_encode(9, in), 11);
        assert_int_equal(order_decode(msg, &id, &out, &e), 0);
        assert_int_equal(id, 9);
        assert_true(out.kind == in->kind && out.n == in->n && out.from == in->from && out.first == in->first);
        assert_true(out.units == in->units && out.count == in->count && out.slot == in->slot);
        assert_true(out.offset == in->offset);
        if (in->n) assert_memory_equal(out.generated, in->generated, sizeof tokens);
        order_free(&out);
        json_decref(msg);
    }
}

static json_t *parsed(const char *text) {
    struct err e;
    json_t *v = json_parse(text, strlen(text), &e);
    assert_non_null(v);
    return v;
}

static void bad_orders(void **state) {
    (void)state;
    static const char *const bad[] = {"{\"t\":\"go\",\"from\":-1}",
                                      "{\"t\":\"go\",\"id\":1}",
                                      "{\"t\":\"go\",\"id\":1,\"from\":-2}",
                                      "{\"t\":\"go\",\"id\":1,\"from\":-1,\"generated\":[-1]}",
                                      "{\"t\":\"go\",\"id\":1,\"from\":-1,\"generated\":7}",
                                      "{\"t\":\"export\",\"id\":1,\"first\":0}",
                                      "{\"t\":\"export\",\"id\":1,\"first\":0,\"credits\":-1}",
                                      "{\"t\":\"credit\",\"id\":1,\"units\":1.5}",
                                      "{\"t\":\"pause\",\"id\":0}",
                                      "{\"t\":\"install\",\"id\":1,\"slot\":0,\"offset\":0,\"first\":0,\"count\":0}",
                                      "{\"t\":\"install\",\"id\":1,\"slot\":0,\"offset\":-1,\"first\":0,\"count\":1}",
                                      "{\"t\":\"install\",\"id\":1,\"slot\":0,\"offset\":0,\"count\":1}",
                                      "{\"t\":\"stop\",\"id\":1}",
                                      "{\"id\":1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct order o;
        struct err e;
        uint64_t id;
        json_t *msg = parsed(bad[i]);
        if (!order_decode(msg, &id, &o, &e)) fail_msg("accepted: %s", bad[i]);
        assert_null(o.generated);
        json_decref(msg);
    }
}

static void rows(void **state) {
    (void)state;
    static const char *const bad[] = {"[]",          "[0,0,0,1]",    "[0,0,0,1,2,3]",   "[2,0,0,1,0]",  "[-1,0,0,1,0]",
                                      "[0,2,0,1,0]", "[0,0,-1,1,0]", "[0,0,100,1,0]",   "[0,0,99,2,0]", "[0,0,0,0,0]",
                                      "[0,0,0,9,0]", "[0,0,0,1,-1]", "[0,0,0,1,\"0\"]", "[0,0,0,1e3,0]"};
    const struct kv_rows in[] = {{.layer = 1, .kind = KV_V, .first = 92, .count = 8, .block = 7}, {.count = 1}};
    struct kv_rows out;
    struct err e;
    json_t *msg = through_frame(rows_encode(3, in, 2), 7), *d = json_object_get(msg, "d");
    assert_int_equal(json_array_size(d), 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(rows_decode(json_array_get(d, i), &shape, 100, &out, &e), 0);
        assert_memory_equal(&out, &in[i], sizeof out);
    }
    assert_int_equal(rows_decode(json_array_get(d, 0), &(struct kv_shape){.form = KV_OPAQUE}, 100, &out, &e), -1);
    json_decref(msg);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *item = parsed(bad[i]);
        if (!rows_decode(item, &shape, 100, &out, &e)) fail_msg("accepted: %s", bad[i]);
        json_decref(item);
    }
    // pieces of a state: the first byte, and the length of the whole
    static const char *const wrong[] = {"[0,0,0,1001,0]", "[0,0,0,0,0]",   "[0,0,-64,900,0]",      "[0,0,32,900,0]",
                                        "[1,0,0,900,0]",  "[0,1,0,900,0]", "[0,0,960,960,0]",      "[0,0,1024,1000,0]",
                                        "[0,0,0,900,-1]", "[0,0,0,900]",   "[0,0,64,4294967360,0]"};
    static const struct kv_shape whole = {.form = KV_OPAQUE, .state = 1000};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_t *item = parsed(wrong[i]);
        if (!rows_decode(item, &whole, 100, &out, &e)) fail_msg("accepted: %s", wrong[i]);
        json_decref(item);
    }
    json_t *right = parsed("[0,0,960,1000,3]");
    assert_int_equal(rows_decode(right, &whole, 100, &out, &e), 0);
    assert_true(out.first == 960 && out.count == 1000 && out.block == 3);
    json_decref(right);
    assert_int_equal(rows_decode(NULL, &shape, 100, &out, &e), -1);
}

static void memory_and_positions(void **state) {
    (void)state;
    static const char *const bad[] = {"{}",
                                      "{\"bytes\":0,\"blocks\":1,\"block_bytes\":1}",
                                      "{\"bytes\":100,\"blocks\":3,\"block_bytes\":40}",
                                      "{\"bytes\":100000,\"blocks\":5000,\"block_bytes\":1}",
                                      "{\"bytes\":100,\"blocks\":0,\"block_bytes\":1}",
                                      "{\"bytes\":9e18,\"blocks\":1,\"block_bytes\":1}"};
    struct arena_info in = {.bytes = 1 << 20, .blocks = 4, .block_bytes = 4096}, out;
    struct err e;
    int32_t a = 0, b = 0;
    json_t *msg = through_frame(arena_encode(&in), 7);
    assert_int_equal(arena_decode(msg, &out, &e), 0);
    assert_true(out.bytes == in.bytes && out.blocks == in.blocks && out.block_bytes == in.block_bytes);
    json_decref(msg);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        msg = parsed(bad[i]);
        if (!arena_decode(msg, &out, &e)) fail_msg("accepted: %s", bad[i]);
        assert_int_equal(installed_decode(msg, &a, &b, &e), -1);
        assert_int_equal(paused_decode(msg, &a, &b, &e), -1);
        json_decref(msg);
    }
    msg = through_frame(installed_encode(4, 128, 6), 7);
    assert_int_equal(installed_decode(msg, &a, &b, &e), 0);
    assert_true(a == 128 && b == 6);
    json_decref(msg);
    msg = through_frame(paused_encode(4, 3, 130), 7);
    assert_int_equal(paused_decode(msg, &a, &b, &e), 0);
    assert_true(a == 3 && b == 130);
    json_decref(msg);
}

static void beginnings(void **state) {
    (void)state;
    static const char *const bad[] = {"{\"prompt_tokens\":2,\"tokens\":[1]}", "{\"prompt_tokens\":1,\"tokens\":[-1]}",
                                      "{\"prompt_tokens\":1,\"cached\":2}", "{\"prompt_tokens\":-1}",
                                      "{\"prompt_tokens\":1,\"answer\":-1}"};
    static const int32_t tokens[] = {4, 5};
    struct gen_begin in = {2, 1, 7, "x", tokens}, out;
    int32_t *owned;
    struct err e;
    json_t *msg = through_frame(begin_encode(4, &in), 7);
    assert_int_equal(begin_decode(msg, &out, &owned, &e), 0);
    assert_true(out.prompt_tokens == 2 && out.cached_tokens == 1 && out.answer_tokens == 7 && owned[1] == 5);
    assert_string_equal(out.prompt_text, "x");
    free(owned);
    json_decref(msg);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        msg = parsed(bad[i]);
        if (!begin_decode(msg, &out, &owned, &e)) fail_msg("accepted: %s", bad[i]);
        assert_null(owned);
        json_decref(msg);
    }
}

static void shapes(void **state) {
    (void)state;
    struct kv_shape out;
    struct err e;
    json_t *o = kv_shape_encode(&shape);
    assert_int_equal(kv_shape_decode(o, &out, &e), 0);
    assert_memory_equal(&out, &shape, sizeof out);
    static const char *const members[] = {"layers", "unit", "k_width", "v_width", "head", "cell", "middle", "plane"};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        json_t *less = json_copy(o);
        json_object_del(less, members[i]);
        assert_int_equal(kv_shape_decode(less, &out, &e), -1);
        assert_string_equal(e.param, members[i]);
        json_object_set_new(less, members[i], json_integer(INT32_MAX));
        assert_int_equal(kv_shape_decode(less, &out, &e), -1);
        json_decref(less);
    }
    json_object_set_new(o, "dtype", json_string("f64"));
    assert_int_equal(kv_shape_decode(o, &out, &e), -1);
    json_object_set_new(o, "form", json_string("opaque"));
    assert_int_equal(kv_shape_decode(o, &out, &e), 0);
    assert_int_equal(out.form, KV_OPAQUE);
    assert_int_equal(out.state, 0);
    json_object_set_new(o, "state", json_integer((json_int_t)LIMIT_KV_STATE + 1));
    assert_int_equal(kv_shape_decode(o, &out, &e), -1);
    json_object_set_new(o, "state", json_integer(-1));
    assert_int_equal(kv_shape_decode(o, &out, &e), -1);
    json_decref(o);
    o = kv_shape_encode(&(struct kv_shape){.form = KV_OPAQUE, .state = 12345});
    assert_int_equal(kv_shape_decode(o, &out, &e), 0);
    assert_int_equal(out.form, KV_OPAQUE);
    assert_int_equal(out.state, 12345);
    json_decref(o);
    assert_int_equal(kv_shape_decode(NULL, &out, &e), 0);
    assert_int_equal(out.form, KV_OPAQUE);
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
        cmocka_unit_test(orders),       cmocka_unit_test(bad_orders),
        cmocka_unit_test(rows),         cmocka_unit_test(memory_and_positions),
        cmocka_unit_test(beginnings),   cmocka_unit_test(shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

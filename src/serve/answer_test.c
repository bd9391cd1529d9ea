// The shapes of answers, as a JSON reader and a reader of event streams see them.
#include "base/json.h"
#include "serve/answer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct answer_figures figures = {.finish = FINISH_LENGTH,
                                              .prompt_tokens = 7,
                                              .cached_tokens = 3,
                                              .completion_tokens = 2,
                                              .ttft_ns = 1500000,
                                              .total_ns = 2000000};

static void open_answer(struct answer *a, enum api_kind kind, bool stream, bool include_usage) {
    struct api_request r = {.kind = kind, .stream = stream, .include_usage = include_usage};
    struct err e;
    r.gen.sampling.seed = 42;
    assert_int_equal(answer_init(a, &r, r.kind == API_CHAT ? "chatcmpl-1" : "cmpl-1", "m\"odel", 1234, &e), 0);
}

// The next event of a stream as JSON; NULL for [DONE]. Fails where it is not framed as one.
static json_t *next_event(struct buf *b) {
    char *end = strstr(buf_str(b), "\n\n");
    assert_non_null(end);
    assert_int_equal(strncmp(b->data, "data: ", 6), 0);
    assert_ptr_equal(memchr(b->data, '\n', b->len), end);
    *end = 0;
    json_t *v = NULL;
    struct err e = {.code = ERR_NONE};
    if (strcmp(b->data + 6, "[DONE]") != 0) {
        v = json_parse(b->data + 6, strlen(b->data + 6), &e);
        assert_non_null(v);
    }
    buf_consume(b, (size_t)(end - b->data) + 2);
    return v;
}

static json_t *choice_of(json_t *v) {
    json_t *choices = json_object_get(v, "choices");
    assert_int_equal(json_array_size(choices), 1);
    json_t *choice = json_array_get(choices, 0);
    assert_int_equal(json_integer_value(json_object_get(choice, "index")), 0);
    return choice;
}

static const char *text_of(const json_t *o, const char *name) {
    const char *s = json_string_value(json_object_get(o, name));
    assert_non_null(s);
    return s;
}

static void check_usage(const json_t *v) {
    const json_t *u = json_object_get(v, "usage"), *own = json_object_get(v, "nebulus");
    assert_int_equal(json_integer_value(json_object_get(u, "prompt_tokens")), 7);
    assert_int_equal(json_integer_value(json_object_get(u, "completion_tokens")), 2);
    assert_int_equal(json_integer_value(json_object_get(u, "total_tokens")), 9);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(u, "prompt_tokens_details"), "cached_tokens")),
                     3);
    assert_int_equal(json_integer_value(json_object_get(own, "seed")), 42);
    assert_true(fabs(json_real_value(json_object_get(json_object_get(own, "timings"), "ttft_ms")) - 1.5) < 1e-9);
}

static const char *const awkward = "quote\" back\\ tab\t line\n bell\a del\x7f \xc3\xa9 \xf0\x9f\x98\x80";

static void test_chat_stream(void **state) {
    (void)state;
    struct answer a;
    struct buf out;
    buf_init(&out, 1 << 16);
    open_answer(&a, API_CHAT, true, true);
    assert_int_equal(answer_open(&a, &out) | answer_text(&a, &out, awkward, strlen(awkward)), 0);
    assert_int_equal(answer_close(&a, &out, &figures), 0);
    json_t *v = next_event(&out);
    assert_string_equal(text_of(v, "object"), "chat.completion.chunk");
    assert_string_equal(text_of(v, "model"), "m\"odel");
    assert_string_equal(text_of(v, "id"), a.id);
    assert_int_equal(strncmp(a.id, "chatcmpl-", 9), 0);
    assert_int_equal(json_integer_value(json_object_get(v, "created")), 1234);
    assert_string_equal(text_of(json_object_get(choice_of(v), "delta"), "role"), "assistant");
    json_decref(v);
    v = next_event(&out);
    assert_string_equal(text_of(json_object_get(choice_of(v), "delta"), "content"), awkward);
    assert_true(json_is_null(json_object_get(choice_of(v), "finish_reason")));
    assert_true(json_is_null(json_object_get(v, "usage")));
    json_decref(v);
    v = next_event(&out);
    assert_string_equal(text_of(choice_of(v), "finish_reason"), "length");
    assert_int_equal(json_object_size(json_object_get(choice_of(v), "delta")), 0);
    json_decref(v);
    v = next_event(&out);
    assert_true(json_is_array(json_object_get(v, "choices")));
    assert_int_equal(json_array_size(json_object_get(v, "choices")), 0);
    check_usage(v);
    json_decref(v);
    assert_null(next_event(&out));
    assert_int_equal(out.len, 0);
    answer_free(&a);
    buf_free(&out);
}

static void test_completion_stream_without_usage(void **state) {
    (void)state;
    struct answer a;
    struct buf out;
    buf_init(&out, 1 << 16);
    open_answer(&a, API_COMPLETION, true, false);
    assert_int_equal(answer_open(&a, &out), 0);
    assert_int_equal(out.len, 0); // no role there
    assert_int_equal(answer_text(&a, &out, "x", 1) | answer_close(&a, &out, &figures), 0);
    json_t *v = next_event(&out);
    assert_string_equal(text_of(v, "object"), "text_completion");
    assert_string_equal(text_of(choice_of(v), "text"), "x");
    assert_null(json_object_get(v, "usage"));
    json_decref(v);
    v = next_event(&out);
    assert_string_equal(text_of(choice_of(v), "finish_reason"), "length");
    assert_non_null(json_object_get(v, "nebulus"));
    json_decref(v);
    assert_null(next_event(&out));
    assert_int_equal(out.len, 0);
    answer_free(&a);
    buf_free(&out);
}

static void test_whole_answers(void **state) {
    (void)state;
    for (int kind = API_CHAT; kind <= API_COMPLETION; kind++) {
        struct answer a;
        struct buf out;
        struct err e;
        buf_init(&out, 1 << 16);
        open_answer(&a, (enum api_kind)kind, false, false);
        assert_int_equal(answer_text(&a, &out, "hel", 3) | answer_text(&a, &out, "lo", 2), 0);
        assert_int_equal(out.len, 0);
        assert_int_equal(answer_whole(&a, &out, &figures), 0);
        json_t *v = json_parse(out.data, out.len, &e);
        assert_non_null(v);
        check_usage(v);
        const json_t *choice = choice_of(v);
        assert_string_equal(text_of(choice, "finish_reason"), "length");
        if (kind == API_CHAT) {
            assert_string_equal(text_of(v, "object"), "chat.completion");
            assert_string_equal(text_of(json_object_get(choice, "message"), "role"), "assistant");
            assert_string_equal(text_of(json_object_get(choice, "message"), "content"), "hello");
        } else {
            assert_string_equal(text_of(v, "object"), "text_completion");
            assert_string_equal(text_of(choice, "text"), "hello");
        }
        json_decref(v);
        answer_free(&a);
        buf_free(&out);
    }
}

static void test_error_and_limits(void **state) {
    (void)state;
    struct answer a;
    struct buf out;
    json_t *error = json_pack("{s:{s:s}}", "error", "message", "the worker died");
    buf_init(&out, 1 << 10);
    assert_int_equal(answer_error(&out, error), 0);
    json_t *v = next_event(&out);
    assert_true(json_equal(v, error));
    json_decref(v);
    json_decref(error);
    open_answer(&a, API_CHAT, true, false);
    char long_text[1100];
    memset(long_text, 'x', sizeof long_text);
    assert_int_equal(answer_text(&a, &out, long_text, sizeof long_text), -1);
    answer_free(&a);
    buf_free(&out);
}

static void test_ids(void **state) {
    (void)state;
    char one[ID_SIZE], two[ID_SIZE];
    id_make("req_", one);
    id_make("req_", two);
    assert_int_equal(strlen(one), 36);
    assert_string_not_equal(one, two);
    assert_true(id_seed() < 1ull << 53);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_stream),   cmocka_unit_test(test_completion_stream_without_usage),
        cmocka_unit_test(test_whole_answers), cmocka_unit_test(test_error_and_limits),
        cmocka_unit_test(test_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

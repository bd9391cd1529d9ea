// Bodies of API requests: what they become, and which member is blamed.
#include "serve/api.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CHAT(members) "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]" members "}"
#define TEXT(members) "{\"model\":\"m\",\"prompt\":\"hi\"" members "}"

static void parse(enum api_kind kind, const char *body, struct api_request *r) {
    struct err e = {.code = ERR_NONE};
    int rc = api_parse(kind, body, strlen(body), r, &e);
    if (rc) print_error("%s: %s\n", body, e.msg);
    assert_int_equal(rc, 0);
}

static void test_defaults(void **state) {
    (void)state;
    struct api_request r;
    struct gen_request usual;
    gen_request_init(&usual);
    parse(API_CHAT, CHAT(), &r);
    assert_string_equal(r.model, "m");
    assert_false(r.stream || r.include_usage || r.seed_given);
    assert_int_equal(r.gen.kind, PROMPT_CHAT);
    assert_int_equal(r.gen.max_tokens, -1);
    assert_memory_equal(&r.gen.sampling, &usual.sampling, sizeof usual.sampling);
    api_request_free(&r);
}

static void test_all_members(void **state) {
    (void)state;
    struct api_request r;
    parse(
        API_CHAT,
        CHAT(",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"temperature\":0,\"top_p\":0.5,\"seed\":-7,"
             "\"max_tokens\":5,\"max_completion_tokens\":9,\"stop\":[\"a\",\"\",\"bc\"],\"logit_bias\":{\"17\":-100,"
             "\"3\":2.5},"
             "\"presence_penalty\":-2,\"frequency_penalty\":2,\"top_k\":1,\"min_p\":0.25,\"repeat_penalty\":1.5,"
             "\"repeat_last_n\":-1,\"ignore_eos\":true,\"chat_template_kwargs\":{\"think\":false},\"n\":1,"
             "\"tools\":[],\"logprobs\":false,\"response_format\":{\"type\":\"text\"},\"user\":\"u\",\"metadata\":{"
             "\"a\":1},"
             "\"store\":true,\"something_new\":[1]"),
        &r);
    const struct sampling *s = &r.gen.sampling;
    assert_true(r.stream && r.include_usage && r.seed_given && r.gen.ignore_eos);
    assert_true(s->seed == (uint64_t)-7);
    assert_int_equal(r.gen.max_tokens, 9);
    assert_int_equal(r.gen.n_stop, 2);
    assert_string_equal(r.gen.stop[1], "bc");
    assert_int_equal(s->n_bias, 2);
    assert_int_equal(s->bias[0].token, 17);
    assert_true(fabsf(s->bias[0].bias + 100) < 1e-6f && fabsf(s->bias[1].bias - 2.5f) < 1e-6f);
    assert_true(fabsf(s->temperature) < 1e-6f && fabsf(s->top_p - 0.5f) < 1e-6f && fabsf(s->min_p - 0.25f) < 1e-6f);
    assert_true(fabsf(s->presence_penalty + 2) < 1e-6f && fabsf(s->frequency_penalty - 2) < 1e-6f);
    assert_int_equal(s->top_k, 1);
    assert_int_equal(s->penalty_last_n, -1);
    assert_true(json_is_false(json_object_get(r.gen.template_args, "think")));
    api_request_free(&r);
}

static void test_messages(void **state) {
    (void)state;
    struct api_request r;
    parse(API_CHAT,
          "{\"messages\":[{\"role\":\"developer\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\","
          "\"text\":\"b\"}]},"
          "{\"role\":\"user\",\"name\":\"bob\",\"content\":null},{\"role\":\"assistant\",\"content\":null,\"tool_"
          "calls\":[]}]}",
          &r);
    assert_string_equal(r.model, "");
    const json_t *first = json_array_get(r.gen.prompt, 0), *second = json_array_get(r.gen.prompt, 1);
    assert_string_equal(json_string_value(json_object_get(first, "role")), "system");
    const json_t *parts = json_object_get(first, "content"); // joined by the worker, if at all
    assert_int_equal(json_array_size(parts), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(parts, 1), "text")), "b");
    assert_string_equal(json_string_value(json_object_get(second, "content")), "");
    assert_string_equal(json_string_value(json_object_get(second, "name")), "bob");
    assert_true(json_is_null(json_object_get(json_array_get(r.gen.prompt, 2), "content")));
    api_request_free(&r);
}

static void test_prompts(void **state) {
    (void)state;
    struct api_request r;
    parse(API_COMPLETION, TEXT(",\"echo\":true,\"stop\":\"x\",\"max_tokens\":99999999999,\"seed\":9223372036854775807"),
          &r);
    assert_int_equal(r.gen.kind, PROMPT_TEXT);
    assert_true(r.gen.echo_prompt);
    assert_int_equal(r.gen.max_tokens, INT32_MAX);
    assert_true(r.gen.sampling.seed == INT64_MAX);
    api_request_free(&r);
    parse(API_COMPLETION, "{\"prompt\":[\"only\"]}", &r);
    assert_string_equal(json_string_value(r.gen.prompt), "only");
    api_request_free(&r);
    parse(API_COMPLETION, "{\"prompt\":[1,2,3]}", &r);
    assert_int_equal(r.gen.kind, PROMPT_TOKENS);
    assert_int_equal(json_array_size(r.gen.prompt), 3);
    api_request_free(&r);
    parse(API_COMPLETION, "{\"prompt\":[[4,5]]}", &r);
    assert_int_equal(json_integer_value(json_array_get(r.gen.prompt, 1)), 5);
    api_request_free(&r);
}

static const struct {
    enum api_kind kind;
    const char *body, *param;
} refused[] = {
    {API_CHAT, "", ""},
    {API_CHAT, "[]", ""},
    {API_CHAT, "{\"messages\":", ""},
    {API_CHAT, "{\"model\":\"\xff\"}", ""},
    {API_CHAT, "{\"stop\":1,\"stop\":2}", ""},
    {API_CHAT, "{\"model\":3}", "model"},
    {API_CHAT, "{}", "messages"},
    {API_CHAT, "{\"messages\":[]}", "messages"},
    {API_CHAT, "{\"messages\":{}}", "messages"},
    {API_CHAT, "{\"messages\":[3]}", "messages[0]"},
    {API_CHAT, "{\"messages\":[{\"content\":\"x\"}]}", "messages[0].role"},
    {API_CHAT, "{\"messages\":[{\"role\":5,\"content\":\"x\"}]}", "messages[0].role"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":5}]}", "messages[0].content"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[5]}]}", "messages[0].content"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}", "messages[0].content"},
    {API_CHAT,
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]}]}",
     "messages[0].content"},
    {API_CHAT, CHAT(",\"stream\":1"), "stream"},
    {API_CHAT, CHAT(",\"stream_options\":true"), "stream_options"},
    {API_CHAT, CHAT(",\"temperature\":\"hot\""), "temperature"},
    {API_CHAT, CHAT(",\"temperature\":2.5"), "temperature"},
    {API_CHAT, CHAT(",\"temperature\":-0.1"), "temperature"},
    {API_CHAT, CHAT(",\"top_p\":1.5"), "top_p"},
    {API_CHAT, CHAT(",\"presence_penalty\":3"), "presence_penalty"},
    {API_CHAT, CHAT(",\"frequency_penalty\":-3"), "frequency_penalty"},
    {API_CHAT, CHAT(",\"seed\":1.5"), "seed"},
    {API_CHAT, CHAT(",\"max_tokens\":0"), "max_tokens"},
    {API_CHAT, CHAT(",\"max_completion_tokens\":-1"), "max_completion_tokens"},
    {API_CHAT, CHAT(",\"stop\":5"), "stop"},
    {API_CHAT, CHAT(",\"stop\":[\"a\",5]"), "stop"},
    {API_CHAT,
     CHAT(",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\",\"d\",\"e\",\"f\","
          "\"g\",\"h\"]"),
     "stop"},
    {API_CHAT, CHAT(",\"logit_bias\":[]"), "logit_bias"},
    {API_CHAT, CHAT(",\"logit_bias\":{\"x\":1}"), "logit_bias"},
    {API_CHAT, CHAT(",\"logit_bias\":{\"-1\":1}"), "logit_bias"},
    {API_CHAT, CHAT(",\"logit_bias\":{\"1\":101}"), "logit_bias"},
    {API_CHAT, CHAT(",\"logit_bias\":{\"1\":\"1\"}"), "logit_bias"},
    {API_CHAT, CHAT(",\"n\":2"), "n"},
    {API_CHAT, CHAT(",\"n\":0"), "n"},
    {API_CHAT, CHAT(",\"logprobs\":true"), "logprobs"},
    {API_CHAT, CHAT(",\"top_logprobs\":2"), "top_logprobs"},
    {API_CHAT, CHAT(",\"tools\":[{\"type\":\"function\"}]"), "tools"},
    {API_CHAT, CHAT(",\"functions\":[{}]"), "functions"},
    {API_CHAT, CHAT(",\"response_format\":{\"type\":\"json_object\"}"), "response_format"},
    {API_CHAT, CHAT(",\"audio\":{}"), "audio"},
    {API_CHAT, CHAT(",\"tools\":5"), "tools"},
    {API_CHAT, CHAT(",\"tools\":{}"), "tools"},
    {API_CHAT, CHAT(",\"functions\":\"\""), "functions"},
    {API_CHAT, CHAT(",\"logprobs\":\"x\""), "logprobs"},
    {API_CHAT, CHAT(",\"top_logprobs\":\"0\""), "top_logprobs"},
    {API_CHAT, CHAT(",\"response_format\":3"), "response_format"},
    {API_CHAT, CHAT(",\"response_format\":{\"type\":5}"), "response_format"},
    {API_CHAT, CHAT(",\"audio\":false"), "audio"},
    {API_CHAT, CHAT(",\"n\":\"2\""), "n"},
    {API_COMPLETION, TEXT(",\"best_of\":\"1\""), "best_of"},
    {API_COMPLETION, TEXT(",\"suffix\":0"), "suffix"},
    {API_CHAT, CHAT(",\"chat_template_kwargs\":[]"), "chat_template_kwargs"},
    {API_COMPLETION, "{}", "prompt"},
    {API_COMPLETION, "{\"prompt\":5}", "prompt"},
    {API_COMPLETION, "{\"prompt\":[]}", "prompt"},
    {API_COMPLETION, "{\"prompt\":[\"a\",\"b\"]}", "prompt"},
    {API_COMPLETION, "{\"prompt\":[1,\"b\"]}", "prompt"},
    {API_COMPLETION, "{\"prompt\":[-1]}", "prompt"},
    {API_COMPLETION, "{\"prompt\":[1.5]}", "prompt"},
    {API_COMPLETION, "{\"prompt\":[99999999999]}", "prompt"},
    {API_COMPLETION, "{\"prompt\":{\"a\":1}}", "prompt"},
    {API_COMPLETION, TEXT(",\"echo\":\"yes\""), "echo"},
    {API_COMPLETION, TEXT(",\"best_of\":2"), "best_of"},
    {API_COMPLETION, TEXT(",\"logprobs\":0"), "logprobs"},
    {API_COMPLETION, TEXT(",\"suffix\":\"end\""), "suffix"},
};

static void test_refusals(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct api_request r;
        struct err e = {.code = ERR_NONE};
        if (!api_parse(refused[i].kind, refused[i].body, strlen(refused[i].body), &r, &e))
            fail_msg("accepted: %s", refused[i].body);
        if (strcmp(e.param, refused[i].param) != 0) fail_msg("%s blames '%s': %s", refused[i].body, e.param, e.msg);
        assert_int_equal(e.code, ERR_INVALID);
        api_request_free(&r);
    }
}

// A client that sends nonsense must hear so, not that the member is unsupported.
static void test_wrong_types_of_unsupported_members(void **state) {
    (void)state;
    static const char *const bodies[] = {CHAT(",\"tools\":5"),           CHAT(",\"logprobs\":\"x\""),
                                         CHAT(",\"response_format\":3"), CHAT(",\"audio\":[1]"),
                                         TEXT(",\"best_of\":2.5"),       TEXT(",\"suffix\":[\"x\"]")};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct api_request r;
        struct err e = {.code = ERR_NONE};
        assert_int_equal(api_parse(i < 4 ? API_CHAT : API_COMPLETION, bodies[i], strlen(bodies[i]), &r, &e), -1);
        if (!strstr(e.msg, "must be")) fail_msg("%s: %s", bodies[i], e.msg);
        api_request_free(&r);
    }
}

static void test_model_names(void **state) {
    (void)state;
    struct api_request r;
    struct err e;
    static const char *const bodies[] = {"{\"model\":\"/etc/passwd\"}", "{\"model\":\"../x\"}", "{\"model\":\"-x\"}"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        assert_int_equal(api_parse(API_CHAT, bodies[i], strlen(bodies[i]), &r, &e), -1);
        assert_int_equal(e.code, ERR_NOT_FOUND); // as for any name that no model has
        assert_string_equal(e.param, "model");
        api_request_free(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_all_members),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_model_names),
        cmocka_unit_test(test_wrong_types_of_unsupported_members),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

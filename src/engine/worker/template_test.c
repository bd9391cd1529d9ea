#include "base/json.h"
#include "base/limits.h"
#include "engine/worker/template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CHATML                                                                                                         \
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"                         \
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
#define USER "[{\"role\":\"user\",\"content\":\"hi\"}]"

static const struct chat_template_vars vars = {.bos_token = "<s>", .now = 1735787045, .limit_ms = 60000};

static json_t *parse(const char *text) {
    struct err e;
    json_t *v = text ? json_parse(text, strlen(text), &e) : NULL;
    if (text) assert_non_null(v);
    return v;
}

static struct chat_template *make(const char *source) {
    struct err e = {.msg = ""};
    struct chat_template *t = chat_template_new(source, strlen(source), &vars, &e);
    assert_string_equal(e.msg, "");
    assert_non_null(t);
    return t;
}

static int render(struct chat_template *t, const char *messages, const char *tools, const char *args, struct buf *out,
                  struct err *e) {
    json_t *m = parse(messages), *l = parse(tools), *a = parse(args);
    *e = (struct err){.code = ERR_NONE};
    int rc = chat_template_render(t, m, l, a, true, out, e);
    json_decref(m);
    json_decref(l);
    json_decref(a);
    return rc;
}

static void check_text(struct chat_template *t, const char *messages, const char *tools, const char *args,
                       const char *want) {
    struct err e;
    struct buf out;
    buf_init(&out, 1 << 20);
    int rc = render(t, messages, tools, args, &out, &e);
    assert_string_equal(e.msg, "");
    assert_int_equal(rc, 0);
    assert_string_equal(buf_str(&out), want);
    assert_int_equal(out.len, strlen(want));
    buf_free(&out);
}

// Fails with that code and nothing written; the message goes to e.
static void check_fails(struct chat_template *t, const char *messages, const char *args, enum err_code code,
                        struct err *e) {
    struct buf out;
    buf_init(&out, LIMIT_TEMPLATE_OUTPUT);
    assert_int_equal(buf_puts(&out, "kept"), 0);
    assert_int_equal(render(t, messages, NULL, args, &out, e), -1);
    assert_string_equal(err_name(e->code), err_name(code));
    assert_true(e->msg[0]);
    assert_string_equal(buf_str(&out), "kept");
    buf_free(&out);
}

static void test_builtin_without_template(void **state) {
    (void)state;
    struct err e;
    struct chat_template *t = chat_template_new(NULL, 0, &vars, &e);
    assert_non_null(t);
    assert_string_equal(chat_template_kind(t), "builtin");
    assert_string_equal(chat_template_kind(NULL), "none");
    check_text(t,
               "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
               "\"é\"}]}]",
               NULL, NULL, "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\né<|im_end|>\n<|im_start|>assistant\n");
    struct buf out;
    buf_init(&out, 100);
    assert_int_equal(render(t, USER, "[{\"type\":\"function\"}]", NULL, &out, &e), -1);
    assert_string_equal(e.param, "tools");
    assert_int_equal(out.len, 0);
    buf_free(&out);
    chat_template_free(t);
    chat_template_free(NULL);
}

// What Jinja does not parse, libllama may still recognize.
static void test_builtin_takes_over(void **state) {
    (void)state;
    struct chat_template *t = make("{% unknown_tag %}<|im_start|>");
    assert_string_equal(chat_template_kind(t), "builtin");
    check_text(t, USER, NULL, NULL, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
    chat_template_free(t);
}

static void check_refused(const char *source, size_t len, enum err_code code, const char *part) {
    struct err e = {.code = ERR_NONE};
    assert_null(chat_template_new(source, len, &vars, &e));
    assert_string_equal(err_name(e.code), err_name(code));
    assert_non_null(strstr(e.msg, part));
}

static void test_bad_sources(void **state) {
    (void)state;
    check_refused("a\0b", 3, ERR_INVALID, "UTF-8");
    check_refused("\xff", 1, ERR_INVALID, "UTF-8");
    char *big = malloc(LIMIT_TEMPLATE_BYTES + 1);
    assert_non_null(big);
    memset(big, '(', LIMIT_TEMPLATE_BYTES + 1);
    check_refused(big, LIMIT_TEMPLATE_BYTES + 1, ERR_LIMIT, "bytes");
    free(big);
}

static void check_messages(struct chat_template *t, const char *messages, const char *part) {
    struct err e;
    check_fails(t, messages, NULL, ERR_INVALID, &e);
    assert_string_equal(e.param, "messages");
    assert_non_null(strstr(e.msg, part));
}

static void test_bad_messages(void **state) {
    (void)state;
    struct err e;
    struct chat_template *t = make(CHATML);
    check_messages(t, "[]", "at least one");
    check_messages(t, "{}", "array");
    check_messages(t, "[1]", "not an object");
    check_messages(t, "[{\"content\":\"x\"}]", "role");
    check_messages(t, "[{\"role\":7}]", "role");
    check_messages(t, "[{\"role\":\"user\",\"content\":7}]", "content");
    check_messages(t, "[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", "text");
    check_messages(t, "[{\"role\":\"user\",\"content\":[\"x\"]}]", "type");
    check_messages(t, "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{}}]}]", "only text");
    check_fails(t, USER, "[1]", ERR_INVALID, &e);
    json_t *many = json_array(), *one = parse("{\"role\":\"user\",\"content\":\"x\"}");
    for (unsigned i = 0; i <= LIMIT_MESSAGES; i++) json_array_append(many, one);
    struct buf out;
    buf_init(&out, 100);
    assert_int_equal(chat_template_render(t, many, NULL, NULL, true, &out, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    json_decref(many);
    json_decref(one);
    buf_free(&out);
    chat_template_free(t);
}

#if NEBULUS_HAVE_JINJA
static void test_renders(void **state) {
    (void)state;
    struct chat_template *t = make(CHATML);
    assert_string_equal(chat_template_kind(t), "jinja");
    check_text(t, USER, NULL, NULL, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
    struct err e;
    struct buf out;
    buf_init(&out, 1000);
    assert_int_equal(buf_puts(&out, "before "), 0);
    assert_int_equal(render(t, USER, NULL, "{\"add_generation_prompt\":false}", &out, &e), 0);
    assert_string_equal(buf_str(&out), "before <|im_start|>user\nhi<|im_end|>\n");
    buf_free(&out);
    chat_template_free(t);
}

static void test_variables(void **state) {
    (void)state;
    struct chat_template *t =
        make("{{ bos_token }}|{{ eos_token is defined }}|{{ tools is none }}|{{ documents is none }}|{{ x }}|"
             "{{ strftime_now('%Y-%m') }}|{{ messages[0].content }}");
    check_text(t, USER, NULL, "{\"x\":{\"b\":1.0,\"10\":9007199254740993,\"2\":[null,true,-5,0.1]},\"messages\":[]}",
               "<s>|False|True|True|{'b': 1.0, '10': 9007199254740993, '2': [None, True, -5, 0.1]}|2025-01|hi");
    check_text(t, USER, "[1]", "{\"bos_token\":\"B\",\"tools\":2,\"__proto__\":{\"x\":1}}",
               "B|False|False|True||2025-01|hi");
    chat_template_free(t);
}

static void test_contents(void **state) {
    (void)state;
    const char *messages =
        "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]},"
        "{\"role\":\"assistant\",\"content\":null}]";
    struct chat_template *t = make("{% for m in messages %}[{{ m.content }}]{% endfor %}");
    check_text(t, messages, NULL, NULL, "[a\nb][None]");
    chat_template_free(t);
    t = make("{% for m in messages %}[{{ m.content + '!' }}]{% endfor %}");
    check_text(t, messages, NULL, NULL, "[a\nb!][!]");
    chat_template_free(t);
    t = make("{% for m in messages if m.content is not string and m.content %}{% for p in m.content %}[{{ p.type }}:{{ "
             "p.text }}]"
             "{% endfor %}{% endfor %}");
    check_text(t, messages, NULL, NULL, "[text:a\nb]");
    check_text(t, USER, NULL, NULL, "[text:hi]");
    chat_template_free(t);
}

// Clients send tool arguments as JSON text; most templates want the object, some only the text.
static void test_tool_arguments(void **state) {
    (void)state;
    const char *messages =
        "[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":"
        "{\"name\":\"f\",\"arguments\":\"{\\\"b\\\":1, \\\"a\\\":2.0}\"}}]}]";
    struct chat_template *t = make("{{ messages[0].tool_calls[0].function.arguments | tojson }}");
    check_text(t, messages, NULL, NULL, "{\"b\": 1, \"a\": 2.0}");
    chat_template_free(t);
    t = make("{{ messages[0].content is none }}{{ 'call ' + messages[0].tool_calls[0].function.arguments }}");
    check_text(t, messages, NULL, NULL, "Truecall {\"b\":1, \"a\":2.0}");
    chat_template_free(t);
    t = make("{{ messages[0].content + messages[0].tool_calls[0].function.arguments }}");
    check_text(t, messages, NULL, NULL, "{\"b\":1, \"a\":2.0}");
    check_text(t, "[{\"role\":\"a\",\"content\":null,\"tool_calls\":[{\"function\":{\"arguments\":\"not JSON\"}},7]}]",
               NULL, NULL, "not JSON");
    chat_template_free(t);
}

static void test_raise_exception(void **state) {
    (void)state;
    struct err e;
    struct chat_template *t = make("{{ raise_exception('roles must\\nalternate') if x else 'fine' }}");
    check_fails(t, USER, "{\"x\":1}", ERR_INVALID, &e);
    assert_string_equal(e.msg, "roles must\\x0Aalternate");
    check_text(t, USER, NULL, NULL, "fine");
    chat_template_free(t);
}

static void test_syntax_errors(void **state) {
    (void)state;
    static const char *const sources[] = {"{{",          "{% if x %}",    "{% for %}",   "{{ x | }}",    "{{ 'x }}",
                                          "{# x",        "{% endif %}",   "{{ (1, 2 }}", "{{ [1 }}",     "{{ {1: }}",
                                          "{% macro %}", "{% set %}",     "{% tag %}",   "{{ x is 1 }}", "{{ a.1.b. }}",
                                          "{{ x[ }}",    "{{ f(a=1,2) }}"};
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        check_refused(sources[i], strlen(sources[i]), ERR_INVALID, "does not parse");
}

// A template's faults are told without what the messages say.
static void test_errors_keep_secrets(void **state) {
    (void)state;
    static const char *const sources[] = {"{{ messages[0].content + 1 }}",
                                          "{{ nothing[messages[0].content] }}",
                                          "{{ messages[0].content() }}",
                                          "{{ messages[0].content | nosuch }}",
                                          "{{ messages[0].content.index('z') }}",
                                          "{{ messages[0].content - 1 }}",
                                          "{{ [1] | map(messages[0].content) }}",
                                          "{{ [1] | select(messages[0].content) | list }}",
                                          "{{ {}[messages[0].content].x }}",
                                          "{{ namespace(messages[0].content) }}",
                                          "{% for a, b in messages[0].content %}{% endfor %}",
                                          "{{ dict(x)[messages[0].content].y }}",
                                          "{% set ns = namespace() %}{{ ns[messages[0].content].y }}",
                                          "{{ strftime_now(messages[0].content * 99) }}"};
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        struct err e;
        struct chat_template *t = make(sources[i]);
        check_fails(t, "[{\"role\":\"user\",\"content\":\"secret words\"}]", NULL, ERR_INVALID, &e);
        assert_null(strstr(e.msg, "secret"));
        chat_template_free(t);
    }
}

// `bad` runs only when asked for; afterwards the same object must still work.
static void check_limit(unsigned limit_ms, const char *bad, const char *part) {
    const struct chat_template_vars quick = {.limit_ms = limit_ms};
    struct err e;
    struct buf source;
    buf_init(&source, 1 << 16);
    assert_int_equal(buf_printf(&source, "{%% if bad %%}%s{%% endif %%}ok {{ messages[0].content }}", bad), 0);
    struct chat_template *t = chat_template_new(buf_str(&source), source.len, &quick, &e);
    assert_non_null(t);
    check_text(t, USER, NULL, NULL, "ok hi");
    check_fails(t, USER, "{\"bad\":true}", ERR_LIMIT, &e);
    if (!strstr(e.msg, part)) fail_msg("%s\nfailed with: %s", bad, e.msg);
    check_text(t, USER, NULL, NULL, "ok hi");
    chat_template_free(t);
    buf_free(&source);
}

enum { QUICK = 1000, SLOW = 120000 }; // milliseconds: the limit that is met, and one that must not be

#define MANY "{% for i in range(100000) %}"
#define END  "{% endfor %}"
// s: a text of 2^24 characters
#define LONG_TEXT                                                                                                      \
    "{% set ns = namespace(s='a') %}{% for i in range(24) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{% set s = ns.s "  \
    "%}"

#define DEEP_LIST "{% set ns = namespace(l=[]) %}{% for i in range(9000) %}{% set ns.l = [ns.l] %}{% endfor %}"

static void test_time_limit(void **state) {
    (void)state;
    check_limit(QUICK, MANY MANY END END, "too long");
    check_limit(QUICK, "{% macro m() %}" MANY "x" END "{% endmacro %}" MANY "{% set x = m() %}" END, "too long");
}

// Work inside QuickJS's own functions, where it does not look at the clock.
static void test_time_limit_in_native_code(void **state) {
    (void)state;
    check_limit(QUICK, LONG_TEXT MANY "{% set x = s.upper() %}" END, "too long");
    check_limit(QUICK, LONG_TEXT MANY "{% set x = s ~ 'b' %}" END, "too long");
    check_limit(QUICK, LONG_TEXT "{% set t = s ~ '' %}" MANY "{% set x = s == t %}" END, "too long");
    check_limit(QUICK, LONG_TEXT "{% set n = 'aaaaaaaaaaaaaaaaaaaaaaaab' %}" MANY "{% set x = n in s %}" END,
                "too long");
    check_limit(SLOW, LONG_TEXT "{% set x = (s[:8000000] ~ 'b') in s %}", "very long");
    check_limit(QUICK, LONG_TEXT MANY "{% set x = s | trim | length %}" END, "too long");
}

static void test_memory_limit(void **state) {
    (void)state;
    check_limit(SLOW, "{% set ns = namespace(s='0123456789') %}" MANY "{% set ns.s = ns.s ~ ns.s %}" END,
                "too long a text");
    check_limit(SLOW, "{% set ns = namespace(l=[1]) %}" MANY "{% set ns.l = ns.l + ns.l %}" END, "MiB");
    check_limit(SLOW, LONG_TEXT "{% set x = s | list %}", "MiB");
    check_limit(SLOW, LONG_TEXT "{% set x = s.split('a') %}", "MiB");
    check_limit(SLOW, "{{ 'x' * 1000000000 }}", "too long");
    check_limit(SLOW, "{{ 'x' | indent(1000000000, true) }}", "too long");
    check_limit(SLOW, "{{ range(1000000000) }}", "too long");
}

static void test_stack_limit(void **state) {
    (void)state;
    check_limit(SLOW, "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "deeply");
    check_limit(SLOW, DEEP_LIST "{{ ns.l }}", "deeply");
    check_limit(SLOW, DEEP_LIST "{{ ns.l | tojson }}", "deeply");
    check_limit(SLOW, DEEP_LIST "{% set x = ns.l == [ns.l] %}", "deeply");
    char *deep = malloc(20001);
    assert_non_null(deep);
    memset(deep, '(', 20000);
    memcpy(deep, "{{", 2);
    check_refused(deep, 20000, ERR_LIMIT, "deeply");
    free(deep);
}

static void test_output_limit(void **state) {
    (void)state;
    check_limit(SLOW, "{% set x = 'x' * 1000000 %}{% for i in range(100) %}{{ x }}{% endfor %}", "too long");
    struct err e;
    struct chat_template *t = make("{{ 'x' * 200 }}");
    struct buf out;
    buf_init(&out, 100);
    assert_int_equal(render(t, USER, NULL, NULL, &out, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    assert_int_equal(out.len, 0);
    buf_free(&out);
    chat_template_free(t);
}

// Nothing of JavaScript shows through.
static void test_no_way_out(void **state) {
    (void)state;
    struct chat_template *t =
        make("{{ messages.constructor }}{{ ''.__proto__ }}{{ {}.constructor }}{{ {}['__proto__'] }}{{ globalThis }}"
             "{{ nebulus }}{{ tick }}{{ messages.length }}{{ 'x'.constructor }}{{ range.constructor }}|");
    check_text(t, USER, NULL, NULL, "|");
    chat_template_free(t);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_builtin_without_template),
        cmocka_unit_test(test_builtin_takes_over),
        cmocka_unit_test(test_bad_sources),
        cmocka_unit_test(test_bad_messages),
#if NEBULUS_HAVE_JINJA
        cmocka_unit_test(test_renders),
        cmocka_unit_test(test_variables),
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_tool_arguments),
        cmocka_unit_test(test_raise_exception),
        cmocka_unit_test(test_syntax_errors),
        cmocka_unit_test(test_errors_keep_secrets),
        cmocka_unit_test(test_time_limit),
        cmocka_unit_test(test_time_limit_in_native_code),
        cmocka_unit_test(test_memory_limit),
        cmocka_unit_test(test_stack_limit),
        cmocka_unit_test(test_output_limit),
        cmocka_unit_test(test_no_way_out),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

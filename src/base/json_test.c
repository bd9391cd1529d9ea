#include "base/json.h"
#include "base/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *parsed(const char *text) {
    struct err e;
    json_t *v = json_parse(text, strlen(text), &e);
    if (!v) fail_msg("%s: %s", text, e.msg);
    return v;
}

static void assert_refused(const char *text, size_t n, const char *because) {
    struct err e = {.code = ERR_NONE};
    assert_null(json_parse(text, n, &e));
    assert_int_equal(e.code, ERR_INVALID);
    if (!strstr(e.msg, because)) fail_msg("'%s' does not say '%s'", e.msg, because);
    assert_null(strchr(e.msg, '\n'));
}

static void test_refuses_what_is_not_json(void **state) {
    (void)state;
    static const char *const bad[] = {"",     "{",          "{\"a\":1}x", "{} {}",    "{\"a\":01}", "{'a':1}",
                                      "[1,]", "{\"a\":1,}", "nul",        "\"\xff\"", "\"\n\"",     "\"\\u12\"",
                                      "NaN",  "[1e999]",    "+1",         "// c\n1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_refused(bad[i], strlen(bad[i]), "not valid JSON");
    assert_refused("{\"a\":1}\0", 8, "NUL");
    assert_refused("\0", 1, "NUL");
    assert_refused("{\"a\":1,\"a\":2}", 13, "duplicate");
    assert_refused("\"\\\n\"", 4, "\\x0A"); // the input is quoted, in one line
    assert_refused("[99999999999999999999]", 22, "not valid JSON");
}

// Each is two bytes of text and a hundred bytes of memory.
static void test_values(void **state) {
    (void)state;
    size_t most = LIMIT_JSON_VALUES;
    char *text = malloc(2 * most + 2);
    assert_non_null(text);
    text[0] = '[';
    for (size_t i = 0; i < most; i++) memcpy(text + 1 + 2 * i, "0,", 2);
    text[2 * most - 2] = ']'; // the bracket and most - 2 commas
    struct err e;
    json_t *v = json_parse(text, 2 * most - 1, &e);
    assert_int_equal(json_array_size(v), most - 1);
    json_decref(v);
    memcpy(text + 2 * most - 2, ",0,", 3);
    memcpy(text + 2 * most + 1, "]", 1);
    assert_refused(text, 2 * most + 2, "values");
    free(text);
}

static void test_depth(void **state) {
    (void)state;
    char text[2 * LIMIT_JSON_DEPTH + 3];
    for (size_t depth = LIMIT_JSON_DEPTH; depth <= LIMIT_JSON_DEPTH + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        text[2 * depth] = 0;
        if (depth > LIMIT_JSON_DEPTH)
            assert_refused(text, 2 * depth, "nested");
        else
            json_decref(parsed(text));
    }
    // brackets inside strings and one after another do not nest
    json_decref(parsed("{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"{{{\"}"));
    char flat[4 * 200 + 3] = "[0";
    for (size_t i = 0; i < 200; i++) snprintf(flat + 2 + 3 * i, 4, ",[]");
    snprintf(flat + 2 + 600, 2, "]");
    json_decref(parsed(flat));
    // a backslash as the last byte must not lead beyond the end
    char *exact = malloc(2);
    assert_non_null(exact);
    memcpy(exact, "\"\\", 2);
    assert_refused(exact, 2, "not valid JSON");
    free(exact);
}

static void test_getters_take_what_fits(void **state) {
    (void)state;
    json_t *o = parsed("{\"s\":\"text\",\"b\":true,\"i\":-5,\"w\":16.0,\"r\":0.5,\"a\":[1],\"o\":{},\"n\":null}");
    struct err e;
    const char *s = NULL;
    bool b = false;
    int64_t i = 0;
    double r = 0;
    json_t *part = NULL;
    assert_int_equal(json_get_string(o, "s", &s, &e), 0);
    assert_string_equal(s, "text");
    assert_int_equal(json_get_bool(o, "b", &b, &e), 0);
    assert_true(b);
    assert_int_equal(json_get_int(o, "i", -5, -5, &i, &e), 0);
    assert_int_equal(i, -5);
    assert_int_equal(json_get_int(o, "w", 0, 100, &i, &e), 0); // some clients write whole numbers as reals
    assert_int_equal(i, 16);
    assert_int_equal(json_get_real(o, "r", 0.5, 0.5, &r, &e), 0);
    assert_true(r == 0.5);
    assert_int_equal(json_get_real(o, "i", -10, 0, &r, &e), 0);
    assert_true(r == -5);
    assert_int_equal(json_get_array(o, "a", &part, &e), 0);
    assert_int_equal(json_array_size(part), 1);
    assert_int_equal(json_get_object(o, "o", &part, &e), 0);
    assert_true(json_is_object(part));
    json_decref(o);
}

static void test_missing_and_null_keep_the_default(void **state) {
    (void)state;
    json_t *o = parsed("{\"n\":null}");
    static const char *const names[] = {"n", "missing"};
    for (int k = 0; k < 2; k++) {
        struct err e;
        const char *s = "before";
        bool b = true;
        int64_t i = 3;
        double r = 4;
        json_t *part = NULL;
        assert_int_equal(json_get_string(o, names[k], &s, &e) | json_get_bool(o, names[k], &b, &e) |
                             json_get_int(o, names[k], 0, 1, &i, &e) | json_get_real(o, names[k], 0, 1, &r, &e) |
                             json_get_array(o, names[k], &part, &e) | json_get_object(o, names[k], &part, &e),
                         0);
        assert_string_equal(s, "before");
        assert_true(b && i == 3 && r == 4 && !part);
    }
    json_decref(o);
}

#define ASSERT_DISLIKED(call)                                                                                          \
    do {                                                                                                               \
        struct err e = {.code = ERR_NONE};                                                                             \
        assert_int_equal(call, -1);                                                                                    \
        assert_int_equal(e.code, ERR_INVALID);                                                                         \
        assert_string_equal(e.param, "x");                                                                             \
        assert_non_null(strstr(e.msg, "'x'"));                                                                         \
    } while (0)

static void test_wrong_types_name_the_member(void **state) {
    (void)state;
    static const char *const values[] = {"\"t\"", "true", "7", "0.5", "[]", "{}"};
    for (size_t v = 0; v < 6; v++) {
        char text[32];
        snprintf(text, sizeof text, "{\"x\":%s}", values[v]);
        json_t *o = parsed(text), *part = NULL;
        const char *s = NULL;
        bool b = false;
        int64_t i = 0;
        double r = 0;
        if (v != 0) ASSERT_DISLIKED(json_get_string(o, "x", &s, &e));
        if (v != 1) ASSERT_DISLIKED(json_get_bool(o, "x", &b, &e));
        if (v != 2) ASSERT_DISLIKED(json_get_int(o, "x", 0, 9, &i, &e));
        if (v != 2 && v != 3) ASSERT_DISLIKED(json_get_real(o, "x", 0, 9, &r, &e));
        if (v != 4) ASSERT_DISLIKED(json_get_array(o, "x", &part, &e));
        if (v != 5) ASSERT_DISLIKED(json_get_object(o, "x", &part, &e));
        json_decref(o);
    }
}

static void test_bounds(void **state) {
    (void)state;
    static const char *const outside[] = {"{\"x\":10}", "{\"x\":-1}", "{\"x\":1e300}", "{\"x\":-1e300}", "{\"x\":9.5}"};
    for (size_t k = 0; k < 5; k++) {
        json_t *o = parsed(outside[k]);
        int64_t i = 4;
        double r = 4;
        ASSERT_DISLIKED(json_get_int(o, "x", 0, 9, &i, &e));
        ASSERT_DISLIKED(json_get_real(o, "x", 0, 9, &r, &e));
        assert_true(i == 4 && r == 4);
        json_decref(o);
    }
    json_t *o = parsed("{\"x\":9223372036854775807}");
    int64_t i = 0;
    struct err e;
    assert_int_equal(json_get_int(o, "x", INT64_MIN, INT64_MAX, &i, &e), 0);
    assert_true(i == INT64_MAX);
    json_decref(o);
}

static void test_ints(void **state) {
    (void)state;
    static const char *const wrong[] = {"{\"x\":[1,10]}", "{\"x\":[1,-1]}", "{\"x\":[1.5]}", "{\"x\":[1,2,3,4]}",
                                        "{\"x\":7}"};
    int32_t *v, n;
    for (size_t k = 0; k < 5; k++) {
        json_t *o = parsed(wrong[k]);
        ASSERT_DISLIKED(json_get_ints(o, "x", 0, 9, 3, &v, &n, &e));
        assert_null(v);
        json_decref(o);
    }
    struct err e;
    json_t *o = parsed("{\"x\":[9,0,4],\"none\":[]}");
    assert_int_equal(json_get_ints(o, "x", 0, 9, 3, &v, &n, &e), 0);
    assert_int_equal(n, 3);
    assert_memory_equal(v, ((int32_t[]){9, 0, 4}), 12);
    json_t *back = json_ints(v, n);
    assert_true(json_equal(back, json_object_get(o, "x")));
    json_decref(back);
    free(v);
    assert_int_equal(json_get_ints(o, "none", 0, 9, 3, &v, &n, &e), 0);
    assert_int_equal(n, 0);
    free(v);
    assert_int_equal(json_get_ints(o, "missing", 0, 9, 3, &v, &n, &e), 0);
    assert_null(v);
    json_decref(o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refuses_what_is_not_json),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_getters_take_what_fits),
        cmocka_unit_test(test_missing_and_null_keep_the_default),
        cmocka_unit_test(test_wrong_types_name_the_member),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_ints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "trust/policy_diff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CHANGES = 16 };

static struct policy_change changes[CHANGES];
static long n;

static struct policy *read_rules(const char *rules) {
    struct err e = {.code = ERR_NONE};
    char text[4096];
    snprintf(text, sizeof text, "{\"v\":1,\"rules\":[%s]}", rules);
    struct policy *p = policy_read(text, strlen(text), &e);
    if (!p) fail_msg("%s", e.msg);
    return p;
}

static void keep(void *arg, const struct policy_change *c) {
    size_t *i = arg;
    assert_true(*i < CHANGES);
    changes[(*i)++] = *c;
}

static void compare(const char *old, const char *now) {
    struct err e = {.code = ERR_NONE};
    struct policy *a = read_rules(old), *b = read_rules(now);
    size_t told = 0;
    n = policy_diff(a, b, keep, &told, &e);
    if (n < 0) fail_msg("%s", e.msg);
    assert_int_equal(told, n);
    policy_free(a);
    policy_free(b);
}

static void expect(long i, const char *who, const char *label, const char *where, const char *before, const char *now) {
    assert_true(i < n);
    assert_string_equal(changes[i].who, who);
    assert_string_equal(changes[i].label, label);
    assert_string_equal(changes[i].where, where);
    assert_string_equal(changes[i].before, before);
    assert_string_equal(changes[i].now, now);
}

#define ANN "{\"id\":\"a\",\"effect\":\"permit\",\"agents\":[\"ann\",\"@staff\"],\"models\":[\"m*\"]}"

static void test_texts_alone_change_nothing(void **state) {
    (void)state;
    compare(ANN, ANN);
    assert_int_equal(n, 0);
    compare(ANN, "{\"id\":\"other\",\"note\":\"x\",\"effect\":\"permit\",\"agents\":[\"@staff\",\"ann\",\"ann\"],"
                 "\"models\":[\"m*\"]}");
    assert_int_equal(n, 0);
    compare(ANN, ANN ",{\"id\":\"f\",\"effect\":\"forbid\",\"agents\":[\"bob\"]}"); // nothing permits bob
    assert_int_equal(n, 0);
    compare(ANN ",{\"id\":\"b\",\"effect\":\"permit\",\"agents\":[\"ann\"],\"models\":[\"mini\"]}",
            ANN); // it was permitted
    assert_int_equal(n, 0);
}

static void test_whose_answers_change(void **state) {
    (void)state;
    compare(ANN, ANN
            ",{\"id\":\"f\",\"effect\":\"forbid\",\"phases\":[\"kv\"],\"labels\":[\"private\"],\"dst\":[\"!@home\"]}");
    assert_int_equal(n, 1);
    expect(0, "ann, @staff", "private",
           "kv from @home to another node, @home to a third node, another node to a third node, "
           "a third node to another node",
           "rule a", "rule f forbids it");
    assert_string_equal(changes[0].model, "m");
    assert_string_equal(changes[0].when, "any");
    assert_true(changes[0].was && !changes[0].is);
    compare("", ANN);
    assert_int_equal(n, 1);
    expect(0, "ann, @staff", "any", "prefill on any; decode on any; kv from any to any", "no rule permits it",
           "rule a");
    assert_true(!changes[0].was && changes[0].is);
}

static void test_hours_and_limits(void **state) {
    (void)state;
    compare("{\"id\":\"a\",\"effect\":\"permit\",\"agents\":[\"ann\"],\"hours\":\"Mon 08:00-12:00\"}",
            "{\"id\":\"a\",\"effect\":\"permit\",\"agents\":[\"ann\"],\"hours\":\"Mon 08:00-13:00\"}");
    assert_int_equal(n, 1);
    assert_string_equal(changes[0].when, "Mon 12:00"); // until 13:00
    compare("{\"id\":\"a\",\"effect\":\"permit\",\"agents\":[\"ann\"],\"limits\":{\"rpm\":3}}",
            "{\"id\":\"a\",\"effect\":\"permit\",\"agents\":[\"ann\"],\"limits\":{\"rpm\":5,\"tokens_day\":7}}");
    assert_int_equal(n, 1);
    expect(0, "ann", "any", "prefill on any; decode on any; kv from any to any", "rule a, 3 requests/min",
           "rule a, 7 tokens/day, 5 requests/min");
    assert_true(changes[0].was && changes[0].is);
}

static void test_too_much(void **state) {
    (void)state;
    struct err e = {.code = ERR_NONE};
    char rules[40000] = "";
    size_t told = 0;
    for (int i = 0; i < 400; i++)
        snprintf(rules + strlen(rules), 64, "%s{\"id\":\"r%d\",\"effect\":\"permit\",\"agents\":[\"a%d\"]}",
                 i ? "," : "", i, i);
    char text[41000];
    snprintf(text, sizeof text, "{\"v\":1,\"rules\":[%s]}", rules);
    struct policy *many = policy_read(text, strlen(text), &e), *none = read_rules("");
    assert_non_null(many);
    assert_int_equal(policy_diff(none, many, keep, &told, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    policy_free(many);
    policy_free(none);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts_alone_change_nothing),
                                       cmocka_unit_test(test_whose_answers_change),
                                       cmocka_unit_test(test_hours_and_limits), cmocka_unit_test(test_too_much)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "trust/policy_caps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NAMES(...)                                                                                                     \
    { (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *) }

static const char document[] =
    "{\"v\":1,\"rules\":["
    "{\"id\":\"all\",\"effect\":\"permit\",\"limits\":{\"rpm\":60}},"
    "{\"id\":\"group\",\"effect\":\"permit\",\"agents\":[\"@res*\",\"@other\"],\"limits\":{\"tokens_day\":1000}},"
    "{\"id\":\"name\",\"effect\":\"permit\",\"agents\":[\"ann\",\"b*\"],\"limits\":{\"concurrent\":2}},"
    "{\"id\":\"model\",\"effect\":\"permit\",\"models\":[\"big\"],\"limits\":{\"tokens_day\":7}},"
    "{\"id\":\"free\",\"effect\":\"permit\"},"
    "{\"id\":\"mixed\",\"effect\":\"permit\",\"agents\":[\"@both\",\"bob\"],\"limits\":{\"rpm\":5}}]}";

static const char *const nothing[1];
static const struct policy_names none = {nothing, 0};

// "rule:who" of all, in order; "" = none.
static const char *caps(const struct policy_agent *lineage, size_t n, const char *model, size_t max) {
    static char text[1024];
    struct err why;
    struct policy *p = policy_read(document, sizeof document - 1, &why);
    const struct policy_node here = {"id", "here", none};
    const struct policy_subject who = {.lineage = lineage, .n = n, .labels = none, .model = model, .gateway = "id"};
    struct policy_view v;
    struct policy_spot spot;
    struct policy_decision d;
    struct policy_cap out[16];
    assert_non_null(p);
    policy_view(p, &who, &v);
    policy_view_node(&v, &here, &spot);
    policy_view_decide(&v, POLICY_DECODE, &spot, &d);
    size_t found = policy_caps(&v, &who, &d, out, max), used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < found && i < max; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s:%s%s", i ? " " : "", out[i].rule,
                                 out[i].group ? "@" : "", out[i].who);
    if (found > max) snprintf(text + used, sizeof text - used, " and %zu", found - max);
    policy_free(p);
    return text;
}

static void test_whom_a_rule_counts(void **state) {
    const struct policy_agent ann = {"ann", NAMES("research", "rest", "x"), none}, bob = {"bob", none, none},
                              both = {"bob", NAMES("both"), none}, cy = {"cy", NAMES("other"), none};
    (void)state;
    assert_string_equal(caps(&ann, 1, "small", 16), "all:ann group:@research group:@rest name:ann");
    assert_string_equal(caps(&ann, 1, "big", 16), "all:ann group:@research group:@rest model:ann name:ann");
    assert_string_equal(caps(&bob, 1, "small", 16), "all:bob mixed:bob name:bob");
    assert_string_equal(caps(&both, 1, "small", 16), "all:bob mixed:@both name:bob");
    assert_string_equal(caps(&cy, 1, "small", 16), "all:cy group:@other");
    assert_string_equal(caps(&ann, 1, "small", 2), "all:ann group:@research and 2");
}

static void test_sub_agents_count_for_their_parents(void **state) {
    const struct policy_agent line[] = {
        {"sub", NAMES("rest"), none}, {"sub", NAMES("rest"), none}, {"ann", NAMES("rest", "research"), none}};
    (void)state;
    assert_string_equal(caps(line, 3, "small", 16), "all:sub all:ann group:@rest group:@research name:ann");
}

static void test_limits_of_a_rule(void **state) {
    struct err why;
    struct policy_limits l = {.tokens_day = 0};
    struct policy *p = policy_read(document, sizeof document - 1, &why), *none_of = policy_builtin(&why);
    (void)state;
    assert_int_equal(policy_rule_limits(p, "group", &l), 0);
    assert_int_equal(l.tokens_day, 1000);
    assert_int_equal(l.rpm, 0);
    assert_int_equal(policy_rule_limits(p, "free", &l), -1);
    assert_int_equal(policy_rule_limits(p, "gone", &l), -1);
    assert_true(policy_limits_tokens(p));
    assert_false(policy_limits_tokens(none_of));
    policy_free(p);
    policy_free(none_of);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_whom_a_rule_counts),
                                       cmocka_unit_test(test_sub_agents_count_for_their_parents),
                                       cmocka_unit_test(test_limits_of_a_rule)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

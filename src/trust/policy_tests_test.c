#include "trust/policy_tests.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RULES                                                                                                          \
    "\"rules\":[{\"id\":\"r7\",\"effect\":\"permit\",\"agents\":[\"@research\"],\"models\":[\"llama-*\"],"             \
    "\"nodes\":[\"@office\"],\"hours\":\"Mon-Fri 08:00-20:00\"},"                                                      \
    "{\"id\":\"f1\",\"effect\":\"forbid\",\"phases\":[\"kv\"],\"labels\":[\"private\"],\"dst\":[\"!@home\"]}]"
#define ANN             "\"agent\":\"ann\",\"groups\":[\"research\"],\"model\":\"llama-3\",\"when\":\"Mon 09:00\""
#define AT(name, label) "{\"name\":\"" name "\",\"labels\":[\"" label "\"]}"

static struct policy *with_tests(const char *tests, struct err *e) {
    char text[4096];
    snprintf(text, sizeof text, "{\"v\":1," RULES ",\"tests\":[%s]}", tests);
    return policy_read(text, strlen(text), e);
}

static int outcome(const char *test, char why[512]) {
    struct err e = {.code = ERR_NONE};
    struct policy *p = with_tests(test, &e);
    if (!p) fail_msg("%s: %s", test, e.msg);
    int rc = policy_tests_pass(p, &e);
    snprintf(why, 512, "%s", e.msg);
    policy_free(p);
    return rc;
}

static void passes(const char *test) {
    char why[512];
    if (outcome(test, why)) fail_msg("%s: %s", test, why);
}

static void fails(const char *test, const char *because) {
    char why[512];
    if (!outcome(test, why)) fail_msg("passed: %s", test);
    if (!strstr(why, because)) fail_msg("'%s' does not say '%s'", why, because);
}

static void test_expectations(void **state) {
    (void)state;
    passes("{\"expect\":\"permit\"," ANN ",\"phase\":\"prefill\",\"node\":" AT("prime", "office") "}");
    passes("{\"expect\":\"permit\",\"rules\":[\"r7\"]," ANN ",\"phase\":\"decode\",\"node\":" AT("x", "office") "}");
    passes("{\"expect\":\"deny\",\"rules\":[]," ANN ",\"phase\":\"decode\",\"node\":" AT("x", "home") "}");
    passes("{\"expect\":\"deny\",\"rules\":[\"f1\"]," ANN
           ",\"labels\":[\"private\"],\"phase\":\"kv\",\"src\":" AT("a", "office") ",\"dst\":" AT("b", "office") "}");
    passes(
        "{\"expect\":\"deny\",\"agent\":\"ann\",\"groups\":[\"research\"],\"model\":\"llama-3\",\"phase\":\"decode\","
        "\"node\":" AT("x", "office") "}");                       // when is not known
    passes("{\"expect\":\"deny\"," ANN ",\"phase\":\"decode\"}"); // nor where
    passes("{\"expect\":\"permit\",\"rules\":[\"builtin-owner-local\"],\"agent\":\"owner\",\"model\":\"x\",\"phase\":"
           "\"decode\",\"gateway\":\"i\",\"node\":{\"name\":\"n\",\"id\":\"i\"}}");
    fails("{\"expect\":\"deny\"," ANN ",\"phase\":\"prefill\",\"node\":" AT("prime", "office") "}",
          "tests[0]: rule r7, expected deny");
    fails("{\"expect\":\"permit\"," ANN ",\"phase\":\"prefill\",\"node\":" AT("prime", "home") "}",
          "no rule permits it, expected permit");
    fails("{\"expect\":\"permit\",\"rules\":[\"r8\"]," ANN ",\"phase\":\"prefill\",\"node\":" AT("p", "office") "}",
          "by other rules");
}

static void test_faults_are_named(void **state) {
    (void)state;
    static const struct {
        const char *test, *because;
    } faults[] = {
        {"1", "tests[0] must be an object"},
        {"{\"phase\":\"kv\"}", "needs an 'expect'"},
        {"{\"expect\":\"allow\",\"phase\":\"kv\"}", "needs an 'expect'"},
        {"{\"expect\":\"deny\"}", "needs a 'phase'"},
        {"{\"expect\":\"deny\",\"phase\":\"kv\",\"nod\":1}", "'nod', which is not known"},
        {"{\"expect\":\"deny\",\"phase\":\"kv\",\"node\":{\"name\":\"a\"}}", "of another phase"},
        {"{\"expect\":\"deny\",\"phase\":\"decode\",\"src\":{\"name\":\"a\"}}", "of another phase"},
        {"{\"expect\":\"deny\",\"phase\":\"decode\",\"node\":{}}", "tests[0] node needs a 'name'"},
        {"{\"expect\":\"deny\",\"phase\":\"decode\",\"node\":\"a\"}", "tests[0] node must be an object"},
        {"{\"expect\":\"deny\",\"phase\":\"decode\",\"when\":\"Mon\"}", "'when' must be like"},
        {"{\"expect\":\"deny\",\"phase\":\"decode\",\"groups\":\"a\"}", "'groups' must be a list"},
        {"{\"expect\":\"deny\",\"phase\":\"decode\",\"groups\":[1]}", "'groups' must be a list"},
        {"{\"expect\":\"deny\",\"phase\":\"decode\",\"rules\":[1]}", "'rules' must be a list"},
        {"{\"expect\":\"deny\",\"phase\":\"decode\",\"agent\":null}", "'agent' must be a string"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct err e = {.code = ERR_NONE};
        if (with_tests(faults[i].test, &e)) fail_msg("accepted: %s", faults[i].test);
        if (!strstr(e.msg, faults[i].because)) fail_msg("'%s' does not say '%s'", e.msg, faults[i].because);
    }
}

static void count(void *arg, size_t number, bool passed, const char *what) {
    size_t *seen = arg;
    assert_int_equal(number, *seen);
    assert_int_equal(passed, number != 1);
    assert_true(*what);
    ++*seen;
}

static void test_every_one_is_told(void **state) {
    (void)state;
    struct err e = {.code = ERR_NONE};
    size_t failed, seen = 0;
    struct policy *p =
        with_tests("{\"expect\":\"deny\",\"phase\":\"decode\"},{\"expect\":\"permit\",\"phase\":\"decode\"},"
                   "{\"expect\":\"deny\",\"phase\":\"kv\"}",
                   &e);
    assert_non_null(p);
    assert_int_equal(policy_tests_run(p, count, &seen, &failed), 3);
    assert_int_equal(seen, 3);
    assert_int_equal(failed, 1);
    policy_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_expectations), cmocka_unit_test(test_faults_are_named),
                                       cmocka_unit_test(test_every_one_is_told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

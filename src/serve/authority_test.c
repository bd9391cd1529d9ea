// The policy in force on a node of no cluster: read, kept, asked. What the roster's is, policy_test.py asks real nodes.
#include "serve/authority.h"
#include "serve/serve.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct serve s; // no cluster: this node is "", called "here"
static struct paths paths;
static char file[PATH_SIZE + 16];
static struct err why;

static int setup(void **state) {
    (void)state;
    memset(&s, 0, sizeof s);
    snprintf(paths.state, sizeof paths.state, "/tmp/nebulus-authority-XXXXXX");
    assert_non_null(mkdtemp(paths.state));
    snprintf(file, sizeof file, "%s/policy.json", paths.state);
    s.authority = authority_new(&paths, &why);
    return s.authority ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    authority_free(s.authority);
    unlink(file);
    return rmdir(paths.state);
}

static void reopen(void) {
    authority_free(s.authority);
    assert_non_null(s.authority = authority_new(&paths, &why));
}

static int keep(const char *text) {
    struct policy *p = policy_read(text, strlen(text), &why);
    return p ? authority_keep(&s, p, &why) : -1;
}

static struct policy_subject owner_with(const char *model) {
    struct policy_subject who = authority_owner(&s);
    who.model = model;
    return who;
}

static void expect(const char *model, bool allowed, const char *because) {
    struct policy_subject who = owner_with(model);
    int rc = authority_place(&s, &who, "", "", NULL, &why);
    if (!rc != allowed) fail_msg("%s: %s", model, rc ? why.msg : "allowed");
    if (!rc) return;
    assert_int_equal(why.code, ERR_DENIED);
    if (!strstr(why.msg, because)) fail_msg("'%s' does not say '%s'", why.msg, because);
}

static void test_without_a_document(void **state) {
    (void)state;
    struct policy_subject who = owner_with("m"), nobody = {.n = 0};
    assert_true(authority_is_builtin(&s));
    assert_int_equal(authority_check(&s, &who, POLICY_PREFILL, "", &why), 0);
    assert_int_equal(authority_check(&s, &nobody, POLICY_PREFILL, "", &why), -1);
    assert_int_equal(authority_check(&s, NULL, POLICY_PREFILL, "", &why), -1);
    assert_string_equal(why.msg, "the policy does not let this agent have prompts read on here: no rule permits it");
}

static void test_kept_and_read_back(void **state) {
    (void)state;
    assert_int_equal(
        keep("{\"v\":1,\"rules\":[{\"id\":\"f\",\"effect\":\"forbid\",\"models\":[\"m*\"],\"nodes\":[\"here\"]}]}"), 0);
    expect("m1", false, "rule f forbids it");
    expect("x", true, "");
    assert_int_equal(keep("{\"v\":1,\"rules\":[],\"tests\":[{\"expect\":\"permit\",\"phase\":\"kv\"}]}"), -1);
    assert_non_null(strstr(why.msg, "tests[0]"));
    expect("m1", false, "rule f forbids it"); // the old one stays
    reopen();
    assert_null(authority_trouble(&s));
    expect("m1", false, "rule f forbids it");
    expect("x", true, "");
}

static void test_what_cannot_be_read_permits_nothing(void **state) {
    (void)state;
    assert_int_equal(file_write(file, "{\"v\":1,\"rules\":[]", 17, &why), 0);
    reopen();
    assert_non_null(authority_trouble(&s));
    expect("x", false, "rule unreadable-policy forbids it");
    assert_int_equal(keep("{\"v\":1,\"rules\":[]}"), 0);
    assert_null(authority_trouble(&s));
    expect("x", true, "");
}

static void test_reading_without_writing(void **state) {
    (void)state;
    bool writes_on = true;
    struct policy_subject who = owner_with("x");
    assert_int_equal(keep("{\"v\":1,\"rules\":[{\"id\":\"f\",\"effect\":\"forbid\",\"phases\":[\"decode\"]}]}"), 0);
    assert_int_equal(authority_check(&s, &who, POLICY_PREFILL, "", &why), 0);
    assert_int_equal(authority_place(&s, &who, "", "", &writes_on, &why), -1);
    assert_false(writes_on);
    assert_int_equal(authority_check_kv(&s, &who, "", "other", &why), -1); // a node that is no member is not known
    struct authority_look l;
    struct authority_sight here, other;
    authority_look(&s, &who, &l); // the same, of many nodes
    authority_see(&l, "", &here);
    authority_see(&l, "other", &other);
    assert_true(here.reads && !here.writes && !other.reads && !other.writes);
    assert_false(authority_sends(&l, &here, &other));
    assert_true(authority_sends(&l, &here, &here) == !authority_check_kv(&s, &who, "", "", NULL));
}

static void test_now(void **state) {
    (void)state;
    struct policy_time t = authority_now();
    assert_true(t.known && t.day >= 0 && t.day < 7 && t.minute >= 0 && t.minute < 24 * 60);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_without_a_document), TEST(test_kept_and_read_back),
                                       TEST(test_what_cannot_be_read_permits_nothing),
                                       TEST(test_reading_without_writing), TEST(test_now)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "base/paths.h"
#include "serve/authority.h"
#include "serve/gate.h"
#include "serve/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW   1800000000ll // 2027
#define LOCAL "127.0.0.1:51234"

static char dir[64], file[PATH_SIZE], ann_key[AGENT_SECRET], sub_key[AGENT_SECRET], owner_key[AGENT_SECRET];
static struct agents *all;
static struct err why;
static struct caller who;

static void make(const char *name, const char *group, const char *label, const char *parent, char key[AGENT_SECRET]) {
    struct agent w = {.parent = parent ? agents_find(all, parent) : NULL};
    snprintf(w.name, sizeof w.name, "%s", name);
    if (group) snprintf(w.groups[w.n_groups++], AGENT_NAME, "%s", group);
    if (label) snprintf(w.labels[w.n_labels++], AGENT_NAME, "%s", label);
    assert_non_null(agents_create(all, &w, NOW, key, &why));
}

static int setup(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/nebulus-gate-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(file, sizeof file, "%s/agents.json", dir);
    all = agents_open(dir, &why);
    assert_non_null(all);
    make("ann", "research", NULL, NULL, ann_key);
    make("sub", NULL, "private", "ann", sub_key);
    assert_non_null(agents_rotate(all, "owner", false, NOW, owner_key, &why));
    return 0;
}

static int forget(void **state) {
    (void)state;
    agents_free(all);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(dir), 0);
    return 0;
}

// "" = nobody is let in.
static const char *called(const char *authorization, const char *api_key, const char *peer) {
    const struct gate_asked asked = {.authorization = authorization, .api_key = api_key, .peer = peer};
    return gate_identify(all, &asked, NOW, &who) ? "" : caller_name(&who);
}

static const char *with(const char *scheme, const char *key) {
    static char text[2 * AGENT_SECRET];
    snprintf(text, sizeof text, "%s%s", scheme, key);
    return text;
}

static void test_who_calls(void **state) {
    (void)state;
    static const char *const far[] = {"192.168.0.7:80", "[fe80::1]:80", "10.127.0.1:1", "", "localhost.evil.com:1"};
    static const char *const near[] = {LOCAL, "[::1]:80", "127.9.9.9:1"};
    for (size_t i = 0; i < sizeof near / sizeof *near; i++) {
        assert_string_equal(called(NULL, NULL, near[i]), "owner");
        assert_true(caller_is_owner(&who));
        assert_string_equal(called(with("Bearer ", "neb_x"), NULL, near[i]), ""); // a wrong key is worse than none
    }
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
        assert_string_equal(called(NULL, NULL, far[i]), "");
        assert_string_equal(called(with("Bearer ", ann_key), NULL, far[i]), "ann");
        assert_string_equal(called(NULL, owner_key, far[i]), "owner");
        assert_true(caller_is_owner(&who));
    }
    assert_string_equal(called(NULL, NULL, NULL), "");
    assert_string_equal(called(with("bearer ", sub_key), NULL, LOCAL), "sub");
    assert_false(caller_is_owner(&who));
    assert_string_equal(called(NULL, ann_key, LOCAL), "ann");
}

static void test_malformed_keys(void **state) {
    (void)state;
    assert_string_equal(called("", NULL, LOCAL), "");
    assert_string_equal(called(NULL, "", LOCAL), "");
    assert_string_equal(called("Bearer", NULL, LOCAL), "");
    assert_string_equal(called("Bearer ", NULL, LOCAL), "");
    assert_string_equal(called("Basic b3duZXI6", NULL, LOCAL), "");
    assert_string_equal(called(ann_key, NULL, LOCAL), "");
    assert_string_equal(called(with("Bearer  ", ann_key), NULL, LOCAL), "");
    assert_string_equal(called("Bearer owner", NULL, LOCAL), "");
    assert_string_equal(called(with("Bearer ", ann_key), ann_key, LOCAL), "ann"); // twice the same
    assert_string_equal(called(with("Bearer ", ann_key), sub_key, LOCAL), "");
    assert_string_equal(called("", ann_key, LOCAL), "");
    all = (agents_free(all), NULL); // a daemon without agents knows no keys
    assert_string_equal(called(NULL, ann_key, LOCAL), "");
    assert_string_equal(called(NULL, NULL, LOCAL), "owner");
}

static void test_ended_agents(void **state) {
    (void)state;
    assert_int_equal(agents_revoke(all, "ann", NOW, &why), 0);
    assert_string_equal(called(NULL, ann_key, LOCAL), "");
    assert_string_equal(called(NULL, sub_key, LOCAL), "");
    assert_int_equal(agents_revoke(all, "owner", NOW, &why), 0);
    assert_string_equal(called(NULL, owner_key, LOCAL), "");
    assert_string_equal(called(NULL, NULL, LOCAL), "owner");
}

static void test_what_each_may_call(void **state) {
    (void)state;
    called(NULL, ann_key, LOCAL);
    assert_true(gate_admits(&who, GATE_AGENTS));
    assert_false(gate_admits(&who, GATE_OWNER));
    called(NULL, owner_key, LOCAL);
    assert_true(gate_admits(&who, GATE_AGENTS));
    assert_true(gate_admits(&who, GATE_OWNER));
}

// ---------------------------------------------------------------- labels
static void test_labels_are_only_added(void **state) {
    (void)state;
    static const char *const bad[] = {"", ",", "a,", ",a", "a b", "@a", "!a", "a,\x01", "\xff"};
    called(NULL, sub_key, LOCAL);
    assert_int_equal(gate_label(&who, " internal , private,internal", &why), 0);
    assert_int_equal(who.n_labels, 2);
    assert_string_equal(who.labels[0], "private");
    assert_string_equal(who.labels[1], "internal");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        called(NULL, ann_key, LOCAL);
        if (!gate_label(&who, bad[i], &why)) fail_msg("taken: '%s'", bad[i]);
        assert_string_equal(why.param, "x-nebulus-label");
    }
    char many[GATE_LABELS * 8] = "";
    for (int i = 0; i < GATE_LABELS; i++) snprintf(many + strlen(many), 8, "%sl%d", i ? "," : "", i);
    called(NULL, ann_key, LOCAL);
    assert_int_equal(gate_label(&who, many, &why), 0);
    assert_int_equal(gate_label(&who, "more", &why), -1);
    char text[100];
    memset(text, 'a', sizeof text);
    text[AGENT_NAME] = 0;
    called(NULL, ann_key, LOCAL);
    assert_int_equal(gate_label(&who, text, &why), -1);
    text[AGENT_NAME - 1] = 0;
    assert_int_equal(gate_label(&who, text, &why), 0);
}

// What gate.c asks of other files.
struct policy_subject authority_owner(const struct serve *s) {
    static const char *const none[1];
    static const struct policy_agent owner = {.id = POLICY_OWNER_AGENT, .groups = {none, 0}};
    (void)s;
    return (struct policy_subject){.lineage = &owner, .n = 1, .labels = {none, 0}, .gateway = "self"};
}

static bool may(const char *key, const char *labels, const char *document) {
    struct gate_subject subject;
    struct policy_decision d;
    struct policy *p = policy_read(document, strlen(document), &why);
    assert_non_null(p);
    called(NULL, key, LOCAL);
    if (labels) assert_int_equal(gate_label(&who, labels, &why), 0);
    gate_subject(NULL, &who, &subject);
    subject.subject.model = "m";
    policy_decide(p, &subject.subject, POLICY_PREFILL, NULL, &d);
    policy_free(p);
    return d.allow;
}

#define RULE(more) "{\"v\":1,\"rules\":[{\"id\":\"r\",\"effect\":\"permit\"" more "}]}"

static void test_labels_only_make_stricter(void **state) {
    (void)state;
    assert_true(may(ann_key, NULL, RULE("")));
    assert_true(may(ann_key, "internal", RULE("")));
    assert_false(may(ann_key, "internal", RULE(",\"labels\":[\"internal\"]"))); // it has no such label itself
    assert_false(may(owner_key, "private", RULE(",\"labels\":[\"!private\"]")));
    assert_true(may(sub_key, NULL, RULE(",\"agents\":[\"sub\",\"ann\"]")));
    assert_false(may(sub_key, NULL, RULE(",\"agents\":[\"sub\"]")));       // its parent may not
    assert_false(may(sub_key, NULL, RULE(",\"agents\":[\"@research\"]"))); // nor is it in the group itself
    assert_true(may(ann_key, NULL, RULE(",\"agents\":[\"@research\"]")));
    // the parent is asked by its own labels: a child's label cannot lift it over a rule
    assert_false(may(sub_key, NULL, RULE(",\"labels\":[\"private\"]")));
    assert_false(may(sub_key, "internal", RULE(",\"labels\":[\"!internal\"]")));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, forget)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_who_calls),          TEST(test_malformed_keys),        TEST(test_ended_agents),
        TEST(test_what_each_may_call), TEST(test_labels_are_only_added), TEST(test_labels_only_make_stricter)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

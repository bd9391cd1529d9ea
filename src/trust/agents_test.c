#include "base/paths.h"
#include "trust/agents.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW 1800000000ll // 2027

static char dir[64], file[PATH_SIZE];
static struct agents *all;
static struct err why;
static char secret[AGENT_SECRET];

static void reopen(void) {
    agents_free(all);
    all = agents_open(dir, &why);
}

static int setup(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/nebulus-agents-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(file, sizeof file, "%s/agents.json", dir);
    all = NULL;
    reopen();
    return all ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    agents_free(all);
    unlink(file);
    return rmdir(dir); // nothing else was left there
}

static struct agent wish(const char *name, const char *group, const char *label, const char *parent) {
    struct agent g = {.parent = parent ? agents_find(all, parent) : NULL};
    snprintf(g.name, sizeof g.name, "%s", name);
    if (group) snprintf(g.groups[g.n_groups++], AGENT_NAME, "%s", group);
    if (label) snprintf(g.labels[g.n_labels++], AGENT_NAME, "%s", label);
    return g;
}

static const struct agent *make(struct agent w) {
    const struct agent *g = agents_create(all, &w, NOW, secret, &why);
    if (!g) fail_msg("%s", why.msg);
    return g;
}

static void refused(struct agent w, const char *param) {
    assert_null(agents_create(all, &w, NOW, secret, &why));
    assert_string_equal(why.param, param);
    assert_null(agents_find(all, w.name));
}

static const struct agent *who(const char *key, int64_t now) {
    const struct agent_key *k;
    const struct agent *g = agents_of_key(all, key, now, &k);
    assert_true(!g == !k);
    return g;
}

static char *text_of_file(void) {
    size_t n;
    char *text = NULL;
    assert_int_equal(file_read(file, AGENTS_BYTES, &text, &n, &why), 0);
    return text;
}

static void put_file(const char *text) { assert_int_equal(file_write(file, text, strlen(text), &why), 0); }

static void test_a_key_is_its_agents(void **state) {
    (void)state;
    char second[AGENT_SECRET], text[AGENT_SECRET + 4];
    const struct agent *ann = make(wish("ann", "research", "internal", NULL));
    snprintf(second, sizeof second, "%s", secret);
    const struct agent *bob = make(wish("bob", NULL, NULL, NULL));
    assert_int_equal(strlen(secret), AGENT_SECRET - 1);
    assert_memory_equal(secret, "neb_", 4);
    assert_ptr_equal(who(second, NOW), ann);
    assert_ptr_equal(who(secret, NOW), bob);
    for (size_t i = 0; i < strlen(secret); i++) { // no other text is
        snprintf(text, sizeof text, "%s", secret);
        text[i] ^= 1;
        assert_null(who(text, NOW));
    }
    snprintf(text, sizeof text, "%s ", secret);
    assert_null(who(text, NOW));
    text[strlen(secret) - 1] = 0;
    assert_null(who(text, NOW));
    assert_null(who("", NOW));
    reopen(); // and what is kept knows it again
    ann = who(second, NOW);
    assert_string_equal(ann->name, "ann");
    assert_string_equal(ann->groups[0], "research");
    assert_string_equal(ann->labels[0], "internal");
    assert_string_equal(agents_next(all, NULL)->name, "ann");
    assert_string_equal(agents_next(all, ann)->name, "bob");
    assert_null(agents_next(all, who(secret, NOW)));
}

static void test_keys_are_kept_nowhere(void **state) {
    (void)state;
    struct stat st;
    make(wish("ann", NULL, NULL, NULL));
    char *text = text_of_file();
    assert_null(strstr(text, secret));
    assert_null(strstr(text, secret + 4));
    free(text);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(chmod(file, 0640), 0);
    reopen();
    assert_null(all);
    assert_int_equal(why.code, ERR_DENIED);
}

static void test_names_are_never_used_again(void **state) {
    (void)state;
    make(wish("ann", NULL, NULL, NULL));
    assert_int_equal(agents_revoke(all, "ann", NOW, &why), 0);
    struct agent again = wish("ann", NULL, NULL, NULL);
    assert_null(agents_create(all, &again, NOW, secret, &why));
    assert_int_equal(agents_revoke(all, "ann", NOW, &why), -1);
    assert_int_equal(agents_revoke(all, "nobody", NOW, &why), -1);
    assert_int_equal(why.code, ERR_NOT_FOUND);
    refused(wish("", NULL, NULL, NULL), "name");
    refused(wish("../ann", NULL, NULL, NULL), "name");
    refused(wish("a\nb", NULL, NULL, NULL), "name");
    refused(wish("owner", NULL, NULL, NULL), "name");
    refused(wish("bob", "@x", NULL, NULL), "group");
    refused(wish("bob", NULL, "!x", NULL), "label");
}

static void test_rotate_and_revoke(void **state) {
    (void)state;
    char first[AGENT_SECRET], second[AGENT_SECRET];
    const struct agent *ann = make(wish("ann", NULL, NULL, NULL));
    snprintf(first, sizeof first, "%s", secret);
    assert_ptr_equal(agents_rotate(all, "ann", true, NOW, second, &why), ann);
    assert_ptr_equal(who(first, NOW), ann);
    assert_ptr_equal(who(second, NOW), ann);
    assert_ptr_equal(agents_rotate(all, "ann", false, NOW, secret, &why), ann);
    assert_null(who(first, NOW));
    assert_null(who(second, NOW));
    assert_ptr_equal(who(secret, NOW), ann);
    for (int i = 1; i < AGENT_KEYS; i++) assert_non_null(agents_rotate(all, "ann", true, NOW, first, &why));
    assert_null(agents_rotate(all, "ann", true, NOW, second, &why));
    assert_int_equal(why.code, ERR_LIMIT);
    assert_ptr_equal(who(first, NOW), ann);
    assert_int_equal(agents_revoke(all, "ann", NOW, &why), 0);
    assert_null(who(first, NOW));
    assert_null(agents_rotate(all, "ann", false, NOW, first, &why));
    reopen();
    assert_null(who(secret, NOW));
    assert_int_equal(agent_state(agents_find(all, "ann"), NOW), AGENT_REVOKED);
}

static void test_the_owner_has_keys(void **state) {
    (void)state;
    assert_int_equal(agents_revoke(all, "owner", NOW, &why), -1);
    const struct agent *owner = agents_rotate(all, "owner", false, NOW, secret, &why);
    assert_true(agent_is_owner(owner));
    assert_ptr_equal(who(secret, NOW), owner);
    assert_int_equal(agents_revoke(all, "owner", NOW, &why), 0);
    assert_null(who(secret, NOW));
    reopen();
    assert_non_null(agents_rotate(all, "owner", false, NOW, secret, &why)); // the person is still there
    assert_non_null(who(secret, NOW));
    assert_false(agent_is_owner(make(wish("ann", NULL, NULL, NULL))));
    refused(wish("sub", NULL, NULL, "owner"), "parent");
}

static void test_sub_agents_only_narrow(void **state) {
    (void)state;
    struct agent w = wish("ann", "research", "internal", NULL);
    w.expires = NOW + 100;
    make(w);
    refused(wish("sub", "admins", NULL, "ann"), "group");
    w = wish("sub", NULL, NULL, "ann");
    w.expires = NOW + 101;
    refused(w, "expires");
    w.expires = NOW;
    refused(w, "expires");
    const struct agent *sub = make(wish("sub", "research", "private", "ann"));
    assert_int_equal(sub->expires, NOW + 100);
    assert_int_equal(sub->n_labels, 2);
    assert_string_equal(sub->labels[1], "internal");
    const struct agent *less = make(wish("less", NULL, NULL, "sub")); // in no group
    assert_int_equal(less->n_labels, 2);
    refused(wish("more", "research", NULL, "less"), "group");
    reopen();
    assert_ptr_equal(agents_find(all, "less")->parent, agents_find(all, "sub"));
    assert_ptr_equal(who(secret, NOW), agents_find(all, "less"));
    assert_int_equal(agents_revoke(all, "ann", NOW, &why), 0); // its children end with it
    assert_null(who(secret, NOW));
    assert_int_equal(agent_state(agents_find(all, "less"), NOW), AGENT_REVOKED);
    refused(wish("late", NULL, NULL, "less"), "parent");
}

static void test_expiry_and_clocks(void **state) {
    (void)state;
    struct agent w = wish("ann", NULL, NULL, NULL);
    w.expires = NOW + 100;
    make(w);
    assert_non_null(who(secret, NOW + 99));
    assert_null(who(secret, NOW + 100));
    assert_null(who(secret, 0)); // a clock that was never set
    assert_int_equal(agent_state(agents_find(all, "ann"), 0), AGENT_EXPIRED);
    make(wish("bob", NULL, NULL, NULL));
    assert_non_null(who(secret, 0));
    assert_non_null(who(secret, NOW * 2));
}

static void test_the_depth_is_bounded(void **state) {
    (void)state;
    char name[8], parent[8] = "";
    for (int i = 0; i < AGENT_DEPTH; i++) {
        snprintf(name, sizeof name, "a%d", i);
        make(wish(name, NULL, NULL, i ? parent : NULL));
        snprintf(parent, sizeof parent, "%s", name);
    }
    refused(wish("deeper", NULL, NULL, parent), "parent");
}

static void test_a_damaged_file_is_never_nobody(void **state) {
    (void)state;
    make(wish("ann", "research", "internal", NULL));
    make(wish("sub", "research", NULL, "ann"));
    char *good = text_of_file(), cut[8192];
    size_t n = strlen(good);
    for (size_t len = 0; len + 1 < n; len += 7) { // cut anywhere
        snprintf(cut, sizeof cut, "%.*s", (int)len, good);
        put_file(cut);
        reopen();
        if (all) fail_msg("taken: %s", cut);
        assert_int_equal(why.code, ERR_INVALID);
    }
    free(good);
    static const char *const bad[] = {"",
                                      "[]",
                                      "null",
                                      "{}",
                                      "{\"v\":1}",
                                      "{\"v\":2,\"agents\":[]}",
                                      "{\"v\":1,\"agents\":{}}",
                                      "{\"v\":1,\"agents\":[],\"more\":1}",
                                      "{\"v\":1,\"v\":1,\"agents\":[]}",
                                      "{\"v\":1,\"agents\":[{}]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_file(bad[i]);
        reopen();
        if (all) fail_msg("taken: %s", bad[i]);
    }
}

// The file with one text in it replaced.
static void expect_refused_with(const char *what, const char *by) {
    char *kept = text_of_file(), text[8192], changed[8192];
    snprintf(text, sizeof text, "%s", kept);
    free(kept);
    const char *at = strstr(text, what);
    assert_non_null(at);
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, by, at + strlen(what));
    put_file(changed);
    reopen();
    if (all) fail_msg("taken: %s", changed);
    put_file(text);
    reopen();
    assert_non_null(all);
}

static void test_every_member_counts(void **state) {
    (void)state;
    struct agent w = wish("ann", "research", "internal", NULL);
    w.expires = NOW + 100;
    make(w);
    make(wish("sub", "research", NULL, "ann"));
    expect_refused_with("\"revoked\": 0", "\"revoked\": -1");
    expect_refused_with("\"revoked\": 0", "\"revoked\": false");
    expect_refused_with("\"revoked\": 0", "\"revoke\": 0");
    expect_refused_with("\"revoked\": 0,", "\"revoked\": 0, \"note\": 1,");
    expect_refused_with("\"revoked\": 0,", "");
    expect_refused_with("\"name\": \"sub\"", "\"name\": \"ann\"");
    expect_refused_with("\"name\": \"sub\"", "\"name\": \"owner\"");
    expect_refused_with("\"parent\": \"agt_", "\"parent\": \"xgt_");
    expect_refused_with("\"parent\": \"\"", "\"parent\": \"agt_0\"");
    expect_refused_with("\"internal\"", "\"other\"");   // of the parent: the child lacks it
    expect_refused_with("\"research\"", "\"writers\""); // of the parent: the child has more
    expect_refused_with("\"expires\": 1800000100", "\"expires\": 1800000099");
    expect_refused_with("\"sha256\": \"", "\"sha256\": \"0");
    expect_refused_with("\"id\": \"key_", "\"id\": \"key_too_long_for_an_id_");
}

static void test_what_cannot_be_kept_has_not_happened(void **state) {
    (void)state;
    char kept[AGENT_SECRET];
    make(wish("ann", NULL, NULL, NULL));
    snprintf(kept, sizeof kept, "%s", secret);
    char *text = text_of_file();
    assert_int_equal(unlink(file) || mkdir(file, 0700), 0); // nothing can be renamed onto a folder
    struct agent w = wish("bob", NULL, NULL, NULL);
    assert_null(agents_create(all, &w, NOW, secret, &why));
    assert_null(agents_find(all, "bob"));
    assert_int_equal(agents_revoke(all, "ann", NOW, &why), -1);
    assert_null(agents_rotate(all, "ann", false, NOW, secret, &why));
    assert_non_null(who(kept, NOW));
    assert_int_equal(rmdir(file), 0);
    put_file(text);
    free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_key_is_its_agents),
        TEST(test_keys_are_kept_nowhere),
        TEST(test_names_are_never_used_again),
        TEST(test_rotate_and_revoke),
        TEST(test_the_owner_has_keys),
        TEST(test_sub_agents_only_narrow),
        TEST(test_expiry_and_clocks),
        TEST(test_the_depth_is_bounded),
        TEST(test_a_damaged_file_is_never_nobody),
        TEST(test_every_member_counts),
        TEST(test_what_cannot_be_kept_has_not_happened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

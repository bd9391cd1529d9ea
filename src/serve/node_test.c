// Names and ids of nodes, with a roster and links that the test makes up.
#include "serve/cluster.h"
#include "serve/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct roster_node self = {.id = "aaaa", .name = "prime"};
static struct peer up = {.id = "bbbb", .name = "edge", .up = true}, down = {.id = "cccc", .name = "attic"};
static bool is_member;
static const struct peer *sent_to, *cut;
static struct serve s;

const struct roster_node *cluster_self(const struct cluster *c) {
    assert_null(c);
    return is_member ? &self : NULL;
}

struct peers *cluster_peers(const struct cluster *c) {
    assert_null(c);
    return NULL;
}

const struct peer *cluster_find(const struct cluster *c, const char *id_or_name) {
    const struct peer *const all[] = {&up, &down};
    assert_null(c);
    for (int i = 0; i < 2 && is_member; i++)
        if (!strcmp(id_or_name, all[i]->id) || !strcmp(id_or_name, all[i]->name)) return all[i];
    return NULL;
}

int peers_send(struct peers *p, const struct peer *to, const json_t *msg, struct err *e) {
    assert_null(p);
    assert_true(json_is_object(msg));
    sent_to = to;
    return to->up ? 0 : err_set(e, ERR_UNREACHABLE, "down");
}

void peers_cut(struct peers *p, const struct peer *to, const struct err *why) {
    assert_null(p);
    assert_int_equal(why->code, ERR_INTERNAL);
    cut = to;
}

static int member(void **state) {
    (void)state;
    is_member = true;
    return 0;
}

static int loner(void **state) {
    (void)state;
    is_member = false;
    return 0;
}

static void expect_name(const char *id, const char *wanted) {
    char name[64];
    node_name(&s, id, name, sizeof name);
    assert_string_equal(name, wanted);
}

static void test_without_a_cluster(void **state) {
    (void)state;
    char id[NODE_ID];
    struct err e;
    assert_string_equal(node_self(&s), "");
    assert_true(node_is_self(&s, ""));
    assert_false(node_is_self(&s, "aaaa"));
    expect_name("", "here");
    assert_int_equal(node_find(&s, "x-nebulus-decode", "prime", id, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(e.param, "x-nebulus-decode");
}

static void test_names(void **state) {
    (void)state;
    assert_string_equal(node_self(&s), "aaaa");
    assert_true(node_is_self(&s, "aaaa"));
    assert_false(node_is_self(&s, ""));
    expect_name("aaaa", "prime");
    expect_name("bbbb", "edge");
    expect_name("cccc", "attic");
    expect_name("dddd", "here"); // gone from the roster meanwhile
    char small[4];
    node_name(&s, "cccc", small, sizeof small);
    assert_string_equal(small, "att");
}

static void test_wishes(void **state) {
    (void)state;
    static const char *const found[][2] = {{"prime", "aaaa"}, {"aaaa", "aaaa"}, {"edge", "bbbb"}, {"bbbb", "bbbb"}};
    char id[NODE_ID];
    struct err e;
    for (size_t i = 0; i < sizeof found / sizeof *found; i++) {
        assert_int_equal(node_find(&s, "h", found[i][0], id, &e), 0);
        assert_string_equal(id, found[i][1]);
    }
    assert_int_equal(node_find(&s, "h", "attic", id, &e), -1);
    assert_int_equal(e.code, ERR_UNREACHABLE);
    assert_int_equal(node_find(&s, "h", "\x1b]0;x\n", id, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(e.param, "h");
    assert_null(strpbrk(e.msg, "\x1b\n"));
}

static void test_words_to_others(void **state) {
    (void)state;
    struct err e;
    json_t *msg = json_object();
    assert_int_equal(node_send(&s, "bbbb", msg, &e), 0);
    assert_ptr_equal(sent_to, &up);
    assert_int_equal(node_send(&s, "cccc", msg, &e), -1);
    sent_to = NULL;
    assert_int_equal(node_send(&s, "dddd", msg, &e), -1);
    assert_int_equal(e.code, ERR_UNREACHABLE);
    assert_null(sent_to);
    json_decref(msg);
    err_set(&e, ERR_INTERNAL, "out of memory");
    node_cut(&s, "dddd", &e);
    assert_null(cut);
    node_cut(&s, "bbbb", &e);
    assert_ptr_equal(cut, &up);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_without_a_cluster, loner),
        cmocka_unit_test_setup(test_names, member),
        cmocka_unit_test_setup(test_wishes, member),
        cmocka_unit_test_setup(test_words_to_others, member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Where jobs go, with models and peers that the test makes up.
#include "serve/authority.h"
#include "serve/node.h"
#include "serve/placement.h"
#include "serve/planning.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PEERS = PEERS_MOST, NAMED = 3 }; // the others are up where a test says so

static struct peer others[PEERS] = {
    {.id = "bbbb", .name = "b"}, {.id = "cccc", .name = "c"}, {.id = "dddd", .name = "d"}};
static const char *models_of[PEERS]; // the one that each holds
static const char *here;             // the one that this node holds
static json_t *told;                 // what cluster_models_of lent last
static struct serve s;

// ---------------------------------------------------------------- the world
static struct model *local(const char *name) {
    static struct model m;
    if (!here || (name[0] && strcmp(name, here) != 0)) return NULL;
    snprintf(m.name, sizeof m.name, "%s", here);
    return &m;
}

struct model *models_get(struct models *m, const char *name, struct err *e) {
    assert_null(m);
    struct model *one = local(name);
    if (!one) err_set(e, ERR_NOT_FOUND, "no such model");
    return one;
}

struct model *models_find(const struct models *m, const char *name) {
    assert_null(m);
    return local(name);
}

struct peers *cluster_peers(const struct cluster *c) {
    assert_null(c);
    return (struct peers *)others; // only peers_next looks at it
}

const struct peer *peers_next(const struct peers *p, const struct peer *after) {
    (void)p;
    const struct peer *next = after ? after + 1 : others;
    return next < others + PEERS ? next : NULL;
}

const json_t *cluster_models_of(const struct cluster *c, const struct peer *p) {
    const char *model = models_of[p - others];
    assert_null(c);
    json_decref(told);
    told = model ? json_pack("[{s:i}, {s:s, s:s}]", "name", 5, "name", model, "state", "ready") : NULL;
    return told;
}

const char *node_self(const struct serve *serve) {
    (void)serve;
    return "aaaa";
}
bool node_is_self(const struct serve *serve, const char *id) { return !strcmp(id, node_self(serve)); }

int node_find(const struct serve *serve, const char *header, const char *wish, char out[NODE_ID], struct err *e) {
    (void)serve;
    if (strlen(wish) != 1 || wish[0] > 'd') return err_param(e, header, "no such node");
    snprintf(out, NODE_ID, "%c%c%c%c", *wish, *wish, *wish, *wish);
    return 0;
}

static const struct policy_agent ann = {.id = "ann"};
static const struct policy_subject ann_asks = {.lineage = &ann, .n = 1};

// What the policy of the test does not permit: "p:ID" (reading), "d:ID" (writing), "ID>ID" (rows); "*": all of it.
static const char *denied = "";
static int looks, sights; // at a subject, at a node

static bool is_denied(const char *a, const char *sign, const char *b) {
    char what[40];
    snprintf(what, sizeof what, "%.8s%s%.8s", a, sign, b); // ids here are short
    return denied[0] == '*' || strstr(denied, what);
}

void authority_look(const struct serve *serve, const struct policy_subject *who, struct authority_look *out) {
    assert_string_equal(who->model, "m");
    assert_string_equal(who->lineage->id, "ann");
    out->s = serve;
    looks++;
}

void authority_see(const struct authority_look *l, const char *node, struct authority_sight *out) {
    assert_ptr_equal(l->s, &s);
    snprintf((char *)out->spot.at, sizeof out->spot.at, "%s", node);
    out->reads = !is_denied("p", ":", node);
    out->writes = !is_denied("d", ":", node);
    sights++;
}

bool authority_sends(const struct authority_look *l, const struct authority_sight *src,
                     const struct authority_sight *dst) {
    assert_ptr_equal(l->s, &s);
    return !is_denied((const char *)src->spot.at, ">", (const char *)dst->spot.at);
}

int authority_place(const struct serve *serve, const struct policy_subject *who, const char *prefill,
                    const char *decode, bool *writes_on, struct err *e) {
    struct authority_look l;
    authority_look(serve, who, &l);
    if (writes_on) *writes_on = !is_denied("d", ":", prefill);
    if (!is_denied("p", ":", prefill) && !is_denied("d", ":", decode) && !is_denied(prefill, ">", decode)) return 0;
    return err_set(e, ERR_DENIED, "%s and %s", prefill, decode);
}

static const char *planned; // where the planner would have jobs read; NULL: it knows too little
static bool forbidden;
static int questions;

int planning_place(struct serve *serve, const struct placement_wish *wish, struct course_spec *out, struct err *e) {
    (void)serve;
    questions++;
    if (forbidden) return err_set(e, ERR_DENIED, "no placement is permitted: b may not take part: it is tired");
    if (planned && !wish->prefill) snprintf(out->prefill, NODE_ID, "%s", planned);
    return 0;
}

// ---------------------------------------------------------------- tests
static int setup(void **state) {
    (void)state;
    for (int i = 0; i < PEERS; i++) {
        others[i].up = i < NAMED;
        models_of[i] = NULL;
    }
    here = planned = NULL;
    denied = "";
    forbidden = false;
    questions = looks = sights = 0;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    json_decref(told);
    told = NULL;
    return 0;
}

static char name[LIMIT_MODEL_NAME + 1];
static struct course_spec spec;
static struct err why;

static int choose(const char *model, const char *prefill, const char *decode) {
    const struct placement_wish wish = {.prefill = prefill, .decode = decode, .who = &ann_asks};
    return placement_choose(&s, model, &wish, name, &spec, &why);
}

static void expect(const char *prefill, const char *decode, const char *model) {
    assert_string_equal(spec.prefill, prefill);
    assert_string_equal(spec.decode, decode);
    assert_string_equal(spec.model, model);
    assert_ptr_equal(spec.model, name);
}

static void test_here_first(void **state) {
    (void)state;
    here = models_of[0] = "m";
    assert_int_equal(choose("m", NULL, NULL), 0);
    expect("aaaa", "aaaa", "m");
    assert_int_equal(choose("", NULL, NULL), 0); // the only one gets its name
    expect("aaaa", "aaaa", "m");
    assert_true(spec.zero_stall && !spec.late && !spec.wire[0] && !spec.named);
}

static void test_else_the_first_that_is_up(void **state) {
    (void)state;
    models_of[0] = models_of[2] = "m";
    models_of[1] = "other";
    assert_int_equal(choose("m", NULL, NULL), 0);
    expect("bbbb", "bbbb", "m");
    others[0].up = false;
    assert_int_equal(choose("m", NULL, NULL), 0);
    expect("dddd", "dddd", "m");
    others[2].up = false;
    assert_int_equal(choose("m", NULL, NULL), -1);
    assert_int_equal(why.code, ERR_NOT_FOUND);
    assert_int_equal(choose("", NULL, NULL), -1); // no name: not for others to guess
}

static void test_wishes(void **state) {
    (void)state;
    here = "m";
    assert_int_equal(choose("m", "b", "c"), 0);
    expect("bbbb", "cccc", "m");
    assert_int_equal(choose("m", "b", NULL), 0);
    expect("bbbb", "aaaa", "m");
    assert_int_equal(choose("m", NULL, "b"), 0);
    expect("aaaa", "bbbb", "m");
    assert_true(spec.named);
    assert_int_equal(choose("", "b", "c"), 0); // the name is needed at both
    expect("bbbb", "cccc", "m");
    here = NULL;
    assert_int_equal(choose("m", "b", "c"), 0);
    assert_int_equal(choose("m", "x", "c"), -1);
    assert_string_equal(why.param, "x-nebulus-prefill");
    assert_int_equal(choose("m", "b", "x"), -1);
    assert_string_equal(why.param, "x-nebulus-decode");
    assert_int_equal(choose("m", "b", NULL), -1);
}

static void test_the_planner_chooses_what_is_not_wished(void **state) {
    (void)state;
    here = models_of[0] = "m";
    planned = "bbbb";
    assert_int_equal(choose("m", NULL, NULL), 0);
    expect("bbbb", "aaaa", "m");
    assert_int_equal(choose("m", "c", NULL), 0);
    expect("cccc", "aaaa", "m");
    assert_int_equal(questions, 2);
    assert_int_equal(choose("m", "b", "c"), 0);
    expect("bbbb", "cccc", "m"); // nothing is left to choose, but to predict
    assert_int_equal(choose("", "b", "c"), 0);
    assert_int_equal(questions, 4);
    forbidden = true;
    assert_int_equal(choose("m", NULL, NULL), -1);
    assert_int_equal(why.code, ERR_DENIED);
    assert_non_null(strstr(why.msg, "it is tired"));
}

static void test_what_the_policy_permits(void **state) {
    (void)state;
    here = models_of[0] = models_of[1] = "m";
    denied = "p:aaaa"; // one node that may do all comes before two
    assert_int_equal(choose("m", NULL, NULL), 0);
    expect("bbbb", "bbbb", "m");
    assert_false(spec.reads_only);
    denied = "p:aaaa d:bbbb d:cccc";
    assert_int_equal(choose("m", NULL, NULL), 0);
    expect("bbbb", "aaaa", "m");
    assert_true(spec.reads_only); // b gives the first token, no more
    denied = "p:aaaa d:bbbb d:cccc bbbb>aaaa";
    assert_int_equal(choose("m", NULL, NULL), 0);
    expect("cccc", "aaaa", "m");
    denied = "d:aaaa d:bbbb d:cccc";
    assert_int_equal(choose("m", NULL, NULL), -1);
    assert_int_equal(why.code, ERR_DENIED);
    assert_string_equal(why.msg, "aaaa and aaaa");
    denied = "p:bbbb"; // also what was wished
    assert_int_equal(choose("m", "b", "c"), -1);
    assert_int_equal(why.code, ERR_DENIED);
    assert_int_equal(choose("m", "b", NULL), -1);
    assert_int_equal(choose("m", NULL, "b"), 0);
    expect("aaaa", "bbbb", "m");
    planned = "bbbb"; // and what was planned
    assert_int_equal(choose("m", NULL, NULL), -1);
    assert_int_equal(why.code, ERR_DENIED);
}

// However many nodes there are, and however little is permitted.
static void test_what_the_policy_permits_is_looked_up_once(void **state) {
    (void)state;
    here = "m";
    for (int i = 0; i < PEERS; i++) {
        models_of[i] = "m";
        others[i].up = true;
        if (i >= NAMED) snprintf(others[i].id, NODE_ID, "n%03d", i);
    }
    denied = "*";
    assert_int_equal(choose("m", NULL, NULL), -1);
    assert_int_equal(why.code, ERR_DENIED);
    assert_string_equal(why.msg, "aaaa and aaaa");
    assert_int_equal(sights, PLACEMENT_NODES);
    assert_int_equal(looks, 2); // the other one is for the reason
}

static void test_how(void **state) {
    (void)state;
    static const struct {
        const char *word;
        bool zero_stall, late;
    } ways[] = {{"zero-stall", true, false}, {"wait", false, false}, {"after", false, true}};
    struct placement_wish wish = {.wire = "q8_0", .who = &ann_asks};
    here = "m";
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        wish.handover = ways[i].word;
        assert_int_equal(placement_choose(&s, "m", &wish, name, &spec, &why), 0);
        assert_true(spec.zero_stall == ways[i].zero_stall && spec.late == ways[i].late);
        assert_string_equal(spec.wire, "q8_0");
    }
    wish.wire = NULL; // where the client says nothing, the settings here count, at both nodes
    snprintf(s.settings.kv_wire, sizeof s.settings.kv_wire, "q8_0");
    assert_int_equal(placement_choose(&s, "m", &wish, name, &spec, &why), 0);
    assert_string_equal(spec.wire, "q8_0");
    wish.wire = "f16";
    assert_int_equal(placement_choose(&s, "m", &wish, name, &spec, &why), 0);
    assert_string_equal(spec.wire, "f16");
    s.settings.kv_wire[0] = '\0';
    wish.handover = "later";
    assert_int_equal(placement_choose(&s, "m", &wish, name, &spec, &why), -1);
    assert_string_equal(why.param, "x-nebulus-handover");
    wish = (struct placement_wish){.wire = "q8_0q8_0q8_0"};
    assert_int_equal(placement_choose(&s, "m", &wish, name, &spec, &why), -1);
    assert_string_equal(why.param, "x-nebulus-wire");
}

static void expect_other(const struct placement_past *past, uint64_t now, const char *wanted) {
    char out[NODE_ID];
    const struct policy_subject who = {.lineage = &ann, .n = 1, .model = "m"};
    assert_int_equal(placement_other(&s, &who, past, now, out, &why), wanted ? 0 : -1);
    if (wanted) assert_string_equal(out, wanted);
    if (!wanted) assert_int_equal(why.code, ERR_NOT_FOUND);
}

static void test_another_node(void **state) {
    (void)state;
    struct placement_past past = {.n = 0};
    here = models_of[0] = models_of[1] = "m";
    models_of[2] = "other";
    expect_other(&past, 5, "aaaa"); // this one first
    placement_asked(&past, "aaaa", 3);
    expect_other(&past, 5, "bbbb");
    placement_asked(&past, "bbbb", 2);
    expect_other(&past, 5, "cccc");
    placement_asked(&past, "cccc", 4);
    expect_other(&past, 5, "bbbb"); // asked longest ago
    placement_asked(&past, "bbbb", 5);
    expect_other(&past, 5, "aaaa");
    here = NULL;
    expect_other(&past, 5, "cccc");
    others[1].up = false;
    expect_other(&past, 5, NULL);
    expect_other(&past, 6, "bbbb");
    models_of[0] = NULL;
    expect_other(&past, 6, NULL);
}

static void test_another_node_that_may(void **state) {
    (void)state;
    struct placement_past past = {.n = 0};
    here = models_of[0] = models_of[1] = "m";
    denied = "d:aaaa p:bbbb";
    expect_other(&past, 5, "cccc");
    denied = "d:aaaa p:bbbb p:cccc";
    expect_other(&past, 5, NULL);
}

static void test_more_nodes_than_members(void **state) {
    (void)state;
    struct placement_past past = {.n = 0};
    here = models_of[0] = "m";
    placement_asked(&past, "aaaa", 2);
    placement_asked(&past, "bbbb", 1);
    for (int i = 0; i < PLACEMENT_NODES - 1; i++) {
        char id[NODE_ID];
        snprintf(id, sizeof id, "was%d", i);
        placement_asked(&past, id, 9);
    }
    assert_int_equal(past.n, PLACEMENT_NODES);
    expect_other(&past, 2, "bbbb"); // forgotten
    placement_asked(&past, "bbbb", 2);
    expect_other(&past, 2, "aaaa"); // now this one
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_here_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_else_the_first_that_is_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wishes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_planner_chooses_what_is_not_wished, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_the_policy_permits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_node_that_may, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_the_policy_permits_is_looked_up_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_how, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_node, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_nodes_than_members, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

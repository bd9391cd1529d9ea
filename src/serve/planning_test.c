// What the planner is asked about jobs, with nodes, profiles and links that the test makes up.
#include "serve/authority.h"
#include "serve/links.h"
#include "serve/node.h"
#include "serve/planning.h"
#include "serve/profiles.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NODES = 3 }; // the first one is this

static struct {
    struct peer peer;
    const char *state, *weights, *role;
    struct profiled known;
    bool measured;
    double bytes_s;
    struct kept_marks kept;
} world[NODES];
static struct serve s;
static struct kv_shape shape; // of this node's cache; those of the others are alike
static char usual[NODE_ID];   // today's default
static double between;        // bytes per second of the links between the others, 0 = nobody has told
static json_t *told;

// ---------------------------------------------------------------- the world
static size_t at(const char *id) {
    for (size_t i = 0; i < NODES; i++)
        if (!strcmp(world[i].peer.id, id)) return i;
    return NODES;
}

struct model *models_find(const struct models *m, const char *name) {
    static struct model model;
    (void)m;
    return world[0].state && !strcmp(name, "m") ? &model : NULL;
}

struct model *models_next(const struct models *m, const struct model *after) {
    static struct model model = {.name = "m"};
    (void)m;
    return world[0].state && !after ? &model : NULL;
}

const char *engine_state_name(enum engine_state state) { return state == ENGINE_READY ? "ready" : "another"; }

void engine_get_status(const struct engine *w, struct engine_status *out) {
    (void)w;
    *out = (struct engine_status){.state = ENGINE_READY, .info = {.kv = shape, .chunk = 64}};
    snprintf(out->info.weights, sizeof out->info.weights, "%s", world[0].weights);
}

struct peers *cluster_peers(const struct cluster *c) {
    assert_null(c);
    return (struct peers *)world; // only peers_next looks at it
}

const struct peer *peers_next(const struct peers *p, const struct peer *after) {
    (void)p;
    size_t next = after ? at(after->id) + 1 : 1;
    return next < NODES ? &world[next].peer : NULL;
}

const struct peer *cluster_find(const struct cluster *c, const char *id) {
    assert_null(c);
    return at(id) < NODES ? &world[at(id)].peer : NULL;
}

const char *cluster_role(const struct cluster *c, const char *id) {
    assert_null(c);
    return world[at(id)].role;
}

const json_t *cluster_models_of(const struct cluster *c, const struct peer *p) {
    size_t i = at(p->id);
    assert_null(c);
    json_decref(told);
    told = world[i].state ? json_pack("[{s:i}, {s:s, s:s, s:s}]", "name", 5, "name", "m", "state", world[i].state,
                                      "weights", world[i].weights)
                          : NULL;
    return told;
}

const char *node_self(const struct serve *serve) {
    (void)serve;
    return "aaaa";
}

void node_name(const struct serve *serve, const char *id, char *out, size_t size) {
    (void)serve;
    snprintf(out, size, "%c", *id);
}

bool profiles_known(const struct serve *serve, const char *id, const char *model, struct profiled *out) {
    (void)serve;
    *out = world[at(id)].known;
    if (shape.form == KV_ROWS) out->rows = shape;
    return world[at(id)].measured && !strcmp(model, "m");
}

bool profiles_kept(const struct serve *serve, const char *id, const char *model, struct kept_marks *out) {
    (void)serve, (void)model;
    *out = world[at(id)].kept;
    return true;
}

double profiled_rows_s(const struct profiled *known) { return 512 / prefill_seconds(&known->profile, 512, 0); }

void links_among(const struct serve *serve, const char (*ids)[NODE_ID], size_t n, struct link_cost *out) {
    assert_ptr_equal(serve, &s);
    for (size_t i = 0; i < n * n; i++) {
        size_t from = at(ids[i / n]), to = at(ids[i % n]);
        double with_self = from == to ? 0 : world[from ? from : to].bytes_s;
        out[i] = (struct link_cost){.bytes_s = from && to && from != to ? between : with_self};
    }
}

// The policy of the test; everything is permitted to ann where it is NULL.
static const char *rules;
static struct policy *policy;
static const struct policy_agent ann = {.id = "ann"};
static const struct policy_subject ann_asks = {.lineage = &ann, .n = 1};

void authority_look(const struct serve *serve, const struct policy_subject *who, struct authority_look *out) {
    struct err e = {.code = ERR_NONE};
    char text[512];
    snprintf(text, sizeof text, "{\"v\":1,\"rules\":[{\"id\":\"all\",\"effect\":\"permit\"}%s]}", rules ? rules : "");
    policy_free(policy);
    policy = policy_read(text, strlen(text), &e);
    if (!policy) fail_msg("%s", e.msg);
    assert_string_equal(who->model, "m");
    out->s = serve;
    policy_view(policy, who, &out->view);
}

void authority_spot(const struct authority_look *l, const char *node, struct policy_spot *out) {
    static const char *const none[1];
    const struct policy_node known = {.id = node, .name = node, .labels = {none, 0}};
    policy_view_node(&l->view, &known, out);
}

// This node writes fast, b reads fast, c is as this one.
static int setup(void **state) {
    static const struct profile slow = {.prefill_base = 0.01, .prefill_token = 2e-3, .decode_base = 5e-3},
                                reader = {.prefill_base = 0.3, .prefill_token = 1e-4, .decode_base = 50e-3};
    struct err e;
    (void)state;
    for (size_t i = 0; i < NODES; i++) {
        memset(&world[i], 0, sizeof world[i]);
        memset(world[i].peer.id, (char)('a' + i), 4);
        world[i].peer.up = true;
        world[i].state = "ready";
        world[i].weights = "W";
        world[i].role = "auto";
        world[i].measured = true;
        world[i].bytes_s = 1e9;
        world[i].known = (struct profiled){.profile = i == 1 ? reader : slow, .free_cells = 4096, .error = 0.1};
    }
    shape = (struct kv_shape){.form = KV_ROWS, .dtype = KV_F16, .layers = 4, .unit = 64, .width = {64, 64}};
    between = 0;
    snprintf(usual, sizeof usual, "aaaa");
    settings_defaults(&s.settings);
    s.planner = planner_new(&e);
    return s.planner ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    planner_free(s.planner);
    s.planner = NULL;
    rules = NULL;
    policy_free(policy);
    policy = NULL;
    json_decref(told);
    told = NULL;
    return 0;
}

static struct course_spec spec;
static const char *handover; // as wished
static struct err why;

static int place(size_t prompt, int64_t gen, const char *prefill, const char *decode) {
    struct gen_request r = {.kind = PROMPT_TOKENS, .prompt = json_array(), .max_tokens = gen, .ignore_eos = true};
    struct placement_wish wish = {
        .prefill = prefill, .decode = decode, .handover = handover, .gen = &r, .who = &ann_asks};
    for (size_t i = 0; i < prompt; i++) json_array_append_new(r.prompt, json_integer(1));
    spec = (struct course_spec){.model = "m", .zero_stall = true};
    snprintf(spec.prefill, sizeof spec.prefill, "%s", prefill ? prefill : usual);
    snprintf(spec.decode, sizeof spec.decode, "%s", decode ? decode : usual);
    int rc = planning_place(&s, &wish, &spec, &why);
    json_decref(r.prompt);
    return rc;
}

static void expect(const char *prefill, const char *decode) {
    assert_string_equal(spec.prefill, prefill);
    assert_string_equal(spec.decode, decode);
}

// ---------------------------------------------------------------- tests
static void test_long_prompts_go_over_two_nodes(void **state) {
    (void)state;
    assert_int_equal(place(1000, 50, NULL, NULL), 0);
    expect("bbbb", "aaaa");
    assert_true(spec.plan.made);
    assert_string_equal(spec.plan.mode, "disaggregated");
    assert_string_equal(spec.plan.prefill, "b");
    assert_string_equal(spec.plan.decode, "a");
    assert_true(spec.plan.total_s > 0.4 && spec.plan.total_s < 1);
    assert_non_null(strstr(spec.plan.reason, "b reads in"));
    assert_int_equal(place(20, 50, NULL, NULL), 0);
    expect("aaaa", "aaaa");
    assert_string_equal(spec.plan.mode, "local");
}

// Neither node of the pair is this one, which need not even have the model.
static void test_pairs_of_others(void **state) {
    (void)state;
    static const struct {
        bool here;
        double between;
        const char *rules, *prefill, *decode;
    } cases[] = {
        {false, 1e9, NULL, "bbbb", "cccc"},
        {false, 0, NULL, "cccc", "cccc"}, // nobody knows that link
        {false, 1e9, ",{\"id\":\"f\",\"effect\":\"forbid\",\"phases\":[\"kv\"],\"src\":[\"bbbb\"]}", "cccc", "cccc"},
        {true, 1e9, NULL, "bbbb", "cccc"}, // c writes faster than this one
        {true, 0, NULL, "bbbb", "aaaa"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        teardown(NULL);
        setup(NULL);
        if (!cases[i].here) world[0].state = NULL;
        world[2].known.profile.decode_base /= 4;
        between = cases[i].between;
        rules = cases[i].rules;
        snprintf(usual, sizeof usual, "%s", cases[i].here ? "aaaa" : "bbbb");
        assert_int_equal(place(1000, 50, NULL, NULL), 0);
        expect(cases[i].prefill, cases[i].decode);
        assert_true(spec.plan.made);
    }
    teardown(NULL);
    setup(NULL);
    between = 1e9;
    shape.form = KV_OPAQUE; // a state that travels whole
    assert_int_equal(place(1000, 50, NULL, NULL), 0);
    assert_string_equal(spec.plan.mode, "local");
}

static void test_only_nodes_that_can(void **state) {
    (void)state;
    const struct {
        const char *state, *weights;
        bool up, measured;
        double bytes_s, error;
        bool takes_part;
    } cases[] = {{"ready", "W", true, true, 1e9, 0.1, true},    {"ready", "W", false, true, 1e9, 0.1, false},
                 {"loading", "W", true, true, 1e9, 0.1, false}, {NULL, "W", true, true, 1e9, 0.1, false},
                 {"ready", "V", true, true, 1e9, 0.1, false},   {"ready", "", true, true, 1e9, 0.1, false},
                 {"ready", "W", true, false, 1e9, 0.1, false},  {"ready", "W", true, true, 0, 0.1, false},
                 {"ready", "W", true, true, 1e9, 1, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        teardown(NULL);
        setup(NULL);
        world[1].state = cases[i].state;
        world[1].weights = cases[i].weights;
        world[1].peer.up = cases[i].up;
        world[1].measured = cases[i].measured;
        world[1].bytes_s = cases[i].bytes_s;
        world[1].known.error = cases[i].error;
        assert_int_equal(place(1000, 50, NULL, NULL), 0);
        expect(cases[i].takes_part ? "bbbb" : "aaaa", "aaaa");
    }
}

static void test_only_what_the_policy_permits(void **state) {
    (void)state;
    static const struct {
        const char *rules, *prefill, *decode;
    } cases[] = {
        {",{\"id\":\"f\",\"effect\":\"forbid\",\"phases\":[\"prefill\"],\"nodes\":[\"bbbb\"]}", "aaaa", "aaaa"},
        {",{\"id\":\"f\",\"effect\":\"forbid\",\"phases\":[\"kv\"],\"dst\":[\"!bbbb\"]}", "aaaa", "aaaa"},
        {",{\"id\":\"f\",\"effect\":\"forbid\",\"phases\":[\"decode\"],\"nodes\":[\"bbbb\"]}", "bbbb", "aaaa"},
        {",{\"id\":\"f\",\"effect\":\"forbid\",\"nodes\":[\"aaaa\"]}", "bbbb", "bbbb"},
        {",{\"id\":\"f\",\"effect\":\"forbid\",\"agents\":[\"bob\"]}", "bbbb", "aaaa"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        teardown(NULL);
        setup(NULL);
        world[2].state = NULL;
        rules = cases[i].rules;
        assert_int_equal(place(1000, 50, NULL, NULL), 0);
        expect(cases[i].prefill, cases[i].decode);
    }
    rules = ",{\"id\":\"f7\",\"effect\":\"forbid\",\"phases\":[\"decode\"]}";
    assert_int_equal(place(1000, 50, NULL, NULL), -1);
    assert_int_equal(why.code, ERR_DENIED);
    assert_non_null(strstr(why.msg, "rule f7 forbids it"));
}

static void test_where_nothing_is_known_nothing_is_planned(void **state) {
    (void)state;
    world[0].measured = false;
    assert_int_equal(place(1000, 50, NULL, NULL), 0);
    expect("aaaa", "aaaa");
    assert_false(spec.plan.made);
    world[0].measured = true;
    planner_free(s.planner);
    s.planner = NULL; // plan = off
    assert_int_equal(place(1000, 50, NULL, NULL), 0);
    expect("aaaa", "aaaa");
    assert_false(spec.plan.made);
}

static void refused(const char *model, const char *words) {
    struct planning_question q = {.model = model, .wire = "", .prompt = 10, .generate = 5};
    assert_null(planning_new(&s, &q, &why));
    assert_int_equal(why.code, ERR_NOT_FOUND);
    if (!strstr(why.msg, words)) fail_msg("%s", why.msg);
}

static void test_refusals_list_the_models(void **state) {
    (void)state;
    refused("n", "no node has a model 'n' ready; known: m");
    for (size_t i = 0; i < NODES; i++) world[i].measured = false;
    refused("m", "'m' has not been measured yet");
    for (size_t i = 0; i < NODES; i++) world[i].state = NULL;
    refused("m", "no node has a model 'm' ready; known: none");
    world[2].state = "ready"; // at another one
    refused("n", "known: m");
}

static void test_one_wish_leaves_the_other(void **state) {
    (void)state;
    assert_int_equal(place(1000, 50, NULL, "aaaa"), 0);
    expect("bbbb", "aaaa");
    assert_int_equal(place(1000, 50, "bbbb", NULL), 0);
    expect("bbbb", "aaaa");
    assert_int_equal(place(1000, 50, "aaaa", NULL), 0);
    expect("aaaa", "aaaa");
    assert_int_equal(place(1000, 1, "bbbb", NULL), 0); // nothing more to write
    expect("bbbb", "bbbb");
    world[1].bytes_s = 0; // no rows may go there: it stays as it was wished, beside the default
    assert_int_equal(place(1000, 50, "cccc", NULL), 0);
    assert_string_equal(spec.prefill, "cccc");
}

// Where both are wished, what they take is predicted, and whether the reader stops after its first token: it takes 50
// ms for the next one, in which the rows have long been there.
static void test_two_wishes_are_predicted(void **state) {
    (void)state;
    assert_int_equal(place(1000, 20, "bbbb", "aaaa"), 0);
    expect("bbbb", "aaaa");
    assert_string_equal(spec.plan.mode, "disaggregated");
    assert_true(spec.plan.waits && !spec.zero_stall);
    assert_int_equal(place(1000, 20, "aaaa", "bbbb"), 0); // whatever the planner thinks of it
    expect("aaaa", "bbbb");
    assert_true(spec.plan.made && spec.zero_stall);
    handover = "zero-stall";
    assert_int_equal(place(1000, 20, "bbbb", "aaaa"), 0);
    assert_true(spec.plan.waits && spec.zero_stall);
    handover = NULL;
    assert_int_equal(place(1000, 20, "bbbb", "cccc"), 0); // no link that this node knows of
    expect("bbbb", "cccc");
    assert_false(spec.plan.made);
}

// What this node keeps is told exactly, what others keep, by marks; a longer conversation is worth more than a faster
// node.
static void test_what_is_kept_counts(void **state) {
    int32_t tokens[1000];
    uint64_t hashes[1000];
    (void)state;
    for (int32_t i = 0; i < 1000; i++) tokens[i] = i;
    kept_hashes(tokens, 1000, hashes);
    kept_add(&world[2].kept, hashes, 900);
    struct planning_question q = {.model = "m", .wire = "", .prompt = 1000, .generate = 50, .tokens = tokens};
    struct planning *p = planning_new(&s, &q, &why);
    assert_non_null(p);
    for (size_t i = 0; i < NODES; i++) assert_true(p->nodes[i].cached_tokens == 0); // as the tokens are not known
    free(p);
    q.n_tokens = 1000;
    q.kept = 77;
    p = planning_new(&s, &q, &why);
    assert_non_null(p);
    const double cached[NODES] = {77, 0, 900};
    for (size_t i = 0; i < NODES; i++) assert_true(p->nodes[i].cached_tokens == cached[i]);
    free(p);
}

static void test_states_that_travel_whole_stay(void **state) {
    (void)state;
    shape.form = KV_OPAQUE;
    assert_int_equal(place(1000, 50, NULL, NULL), 0);
    assert_string_equal(spec.plan.mode, "local");
    assert_string_equal(spec.prefill, spec.decode);
}

static void test_no_room_waits_where_it_would(void **state) {
    (void)state;
    for (size_t i = 0; i < NODES; i++) world[i].known.free_cells = 10;
    assert_int_equal(place(1000, 50, NULL, NULL), 0);
    expect("aaaa", "aaaa");
    assert_false(spec.plan.made);
    world[2].known.free_cells = 4096; // there it need not wait
    assert_int_equal(place(1000, 50, NULL, NULL), 0);
    expect("cccc", "cccc");
}

static void test_roles_count(void **state) {
    (void)state;
    world[2].known.profile.prefill_token *= 0.97; // c is slightly faster than this node, in both
    world[2].known.profile.decode_base *= 0.97;
    world[1].measured = false;
    assert_int_equal(place(1000, 50, NULL, NULL), 0);
    expect("cccc", "cccc");
    teardown(NULL);
    setup(NULL);
    world[1].measured = false;
    world[2].known.profile.prefill_token *= 0.97;
    world[2].known.profile.decode_base *= 0.97;
    world[2].role = "edge"; // it had rather not read
    assert_int_equal(place(1000, 50, NULL, NULL), 0);
    expect("aaaa", "aaaa");
}

static void test_small_changes_change_nothing(void **state) {
    (void)state;
    world[1].measured = false;
    assert_int_equal(place(1000, 50, NULL, NULL), 0);
    expect("aaaa", "aaaa");
    world[2].known.profile.prefill_token *= 0.97;
    assert_int_equal(place(1000, 50, NULL, NULL), 0);
    expect("aaaa", "aaaa");
    world[2].known.profile.prefill_token *= 0.5;
    assert_int_equal(place(1000, 50, NULL, NULL), 0);
    expect("cccc", "cccc");
}

static void test_packed_rows_take_less(void **state) {
    (void)state;
    struct planning_question q = {.who = &ann_asks, .model = "m", .wire = "f16", .prompt = 1000, .generate = 50};
    struct planning *exact = planning_new(&s, &q, &why);
    q.wire = "q8_0";
    struct planning *packed = planning_new(&s, &q, &why);
    assert_non_null(exact);
    assert_non_null(packed);
    assert_int_equal(exact->input.n, NODES);
    assert_true(exact->links[1].bytes_s == 1e9);
    assert_true(packed->links[1].bytes_s > 1.88e9 && packed->links[1].bytes_s < 1.89e9);
    assert_true(packed->links[1 * NODES + 2].bytes_s == 0); // between others
    free(exact);
    world[1].known.export_bytes_s = 1e8; // a cache that gives its rows slowly away
    world[0].known.import_bytes_s = 5e7; // or takes them slowly
    q.wire = "f16";
    exact = planning_new(&s, &q, &why);
    assert_non_null(exact);
    assert_true(exact->links[1].bytes_s == 1e9 && exact->links[NODES].bytes_s == 5e7);
    world[0].known.import_bytes_s = 0;
    free(exact);
    exact = planning_new(&s, &q, &why);
    assert_non_null(exact);
    assert_true(exact->links[NODES].bytes_s == 1e8);
    assert_true(exact->input.rows.token_bytes == 4 * 2 * 64 * 2);
    free(exact);
    free(packed);
}

// The client's word, this node's settings, the sender's; where all leave it open, what the link is fast enough for.
static void test_rows_travel_as_planned(void **state) {
    (void)state;
    assert_int_equal(place(1000, 50, NULL, NULL), 0);
    expect("bbbb", "aaaa");
    assert_string_equal(spec.plan.wire, "f16");
    world[1].bytes_s = 1e6; // 4,096 bytes a row, some 1,500 rows a second
    shape.width[KV_K] = shape.width[KV_V] = 256;
    assert_int_equal(place(1000, 50, "bbbb", "aaaa"), 0);
    assert_string_equal(spec.plan.wire, "q8_0");
    snprintf(world[1].known.wire, sizeof world[1].known.wire, "f16"); // b sends nothing else by itself
    assert_int_equal(place(1000, 50, "bbbb", "aaaa"), 0);
    assert_string_equal(spec.plan.wire, "f16");
    double exact_s = spec.plan.total_s;
    snprintf(s.settings.kv_wire, sizeof s.settings.kv_wire, "q8_0"); // but does what it is ordered
    assert_int_equal(place(1000, 50, "bbbb", "aaaa"), 0);
    assert_string_equal(spec.plan.wire, "q8_0");
    assert_true(spec.plan.total_s < exact_s);
    assert_int_equal(place(1000, 50, "aaaa", "aaaa"), 0);
    assert_string_equal(spec.plan.wire, ""); // nothing travels
}

static void test_lengths_are_learnt(void **state) {
    (void)state;
    json_t *chat = json_pack("[{s:s, s:s}, {s:s, s:[{s:s, s:s}]}]", "role", "system", "content", "12345678", "role",
                             "user", "content", "type", "text", "text", "12345678");
    struct gen_request r = {.kind = PROMPT_CHAT, .prompt = chat};
    struct gen_result cut = {.finish = FINISH_LENGTH, .prompt_tokens = 8, .completion_tokens = 500},
                      ended = {.finish = FINISH_STOP, .prompt_tokens = 8, .completion_tokens = 40};
    assert_true(planning_prompt_bytes(&r) == 16);
    assert_true(planning_prompt_tokens(&s, "m", &r) == 4);
    assert_true(planning_answer_tokens(&s, "m", -1, false) == 256);
    planning_learn(&s, "m", 16, &cut);
    assert_true(planning_prompt_tokens(&s, "m", &r) == 8);
    assert_true(planning_answer_tokens(&s, "m", -1, false) == 256);
    planning_learn(&s, "m", 16, &ended);
    assert_true(planning_answer_tokens(&s, "m", -1, false) == 40);
    assert_true(planning_answer_tokens(&s, "m", 100, false) == 40);
    assert_true(planning_answer_tokens(&s, "m", 10, false) == 10);
    assert_true(planning_answer_tokens(&s, "m", 100, true) == 100);
    for (int i = 0; i < 2 * (int)LIMIT_LOADED_MODELS; i++) {
        char name[24];
        snprintf(name, sizeof name, "other%d", i);
        planning_learn(&s, name, 16, &ended);
    }
    assert_true(planning_answer_tokens(&s, "m", -1, false) == 256); // forgotten
    json_decref(chat);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_long_prompts_go_over_two_nodes),
                                       TEST(test_pairs_of_others),
                                       TEST(test_only_nodes_that_can),
                                       TEST(test_only_what_the_policy_permits),
                                       TEST(test_where_nothing_is_known_nothing_is_planned),
                                       TEST(test_refusals_list_the_models),
                                       TEST(test_one_wish_leaves_the_other),
                                       TEST(test_two_wishes_are_predicted),
                                       TEST(test_what_is_kept_counts),
                                       TEST(test_states_that_travel_whole_stay),
                                       TEST(test_no_room_waits_where_it_would),
                                       TEST(test_roles_count),
                                       TEST(test_small_changes_change_nothing),
                                       TEST(test_packed_rows_take_less),
                                       TEST(test_rows_travel_as_planned),
                                       TEST(test_lengths_are_learnt)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

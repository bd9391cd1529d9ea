#include "base/buf.h"
#include "base/json.h"
#include "trust/policy.h"
#include "trust/policy_hours.h"

#include <fnmatch.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TEXT = 16384, IDS = 1024 };

// ---------------------------------------------------------------- a small world to ask about
#define NAMES(...)                                                                                                     \
    { (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *) }
static const char *const nothing[1];
#define NONE                                                                                                           \
    { nothing, 0 }
#define UNKNOWN                                                                                                        \
    { NULL, 0 }

static const struct policy_agent agents[] = {
    {"ann", NAMES("g"), UNKNOWN}, {"bob", NONE, UNKNOWN},    {"cy", NAMES("g", "h"), UNKNOWN},
    {"ann", UNKNOWN, UNKNOWN},    {"owner", NONE, UNKNOWN},  {NULL, NAMES("g"), UNKNOWN},
    {NULL, UNKNOWN, UNKNOWN},     {"bob", NONE, NAMES("p")}, {"ann", NAMES("g"), NONE}};
static const char *const models[] = {"m1", "x1", NULL};
static const struct policy_names labels[] = {NONE, NAMES("p"), NAMES("p", "q"), UNKNOWN};
static const struct policy_time times[] = {{true, 0, 9 * 60}, {true, 6, 3 * 60}, {true, 5, 23 * 60}, {.known = false}};
static const struct policy_node n1 = {"id1", "n1", NAMES("l")}, n2 = {"id2", "n2", NONE}, n3 = {NULL, "n3", UNKNOWN};
static const struct policy_node *const nodes[] = {&n1, &n2, &n3, NULL};
static const char *const gateways[] = {"id1", NULL};

enum { EDGES = 16, PLACES = 8 + EDGES };
#define COUNT(table) (sizeof(table) / sizeof *(table))
#define QUESTIONS    (COUNT(agents) * COUNT(models) * COUNT(labels) * COUNT(times) * COUNT(gateways) * PLACES)

struct question {
    struct policy_subject who;
    enum policy_phase phase;
    const struct policy_node *node, *src, *dst;
};

static size_t part(size_t *number, size_t n) {
    size_t i = *number % n;
    *number /= n;
    return i;
}

static struct question question(size_t number) {
    struct question q = {.phase = POLICY_KV};
    size_t place = part(&number, PLACES);
    q.who.lineage = &agents[part(&number, COUNT(agents))];
    q.who.n = 1;
    q.who.model = models[part(&number, COUNT(models))];
    q.who.labels = labels[part(&number, COUNT(labels))];
    q.who.when = times[part(&number, COUNT(times))];
    q.who.gateway = gateways[part(&number, COUNT(gateways))];
    if (place < EDGES) {
        q.src = nodes[place / 4];
        q.dst = nodes[place % 4];
    } else {
        q.phase = place % 2 ? POLICY_PREFILL : POLICY_DECODE;
        q.node = nodes[(place - EDGES) / 2];
    }
    return q;
}

static struct policy_decision decide(const struct policy *p, const struct question *q) {
    struct policy_decision d;
    if (q->phase == POLICY_KV)
        policy_decide_kv(p, &q->who, q->src, q->dst, &d);
    else
        policy_decide(p, &q->who, q->phase, q->node, &d);
    return d;
}

static void ids_of(const struct policy *p, const struct policy_decision *d, char out[IDS]) {
    const char *ids[POLICY_RULES + 1];
    size_t n = policy_decision_ids(p, d, ids, COUNT(ids));
    out[0] = 0;
    for (size_t i = 0; i < n; i++) snprintf(out + strlen(out), IDS - strlen(out), "%s ", ids[i]);
}

// ---------------------------------------------------------------- the naive evaluator: three-valued, rule by rule
enum truth { NO, MAYBE, YES };

static enum truth is_one_of(const char *pattern, const struct policy_names *names) {
    enum truth t = NO;
    for (size_t i = 0; names->v && i < names->n; i++)
        if (!fnmatch(pattern, names->v[i], FNM_PATHNAME)) t = YES;
    return names->v ? t : MAYBE;
}

// names: what the thing is called; groups: what it belongs to.
static enum truth concerns(const json_t *list, const struct policy_names *names, const struct policy_names *groups) {
    enum truth in = NO, out = NO;
    bool any = false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *item = json_string_value(json_array_get(list, i));
        bool excludes = item[0] == '!';
        if (excludes) item++;
        enum truth t = item[0] == '@' ? is_one_of(item + 1, groups) : is_one_of(item, names);
        enum truth *to = excludes ? &out : &in;
        if (t > *to) *to = t;
        any |= !excludes;
    }
    if (!any) in = YES;
    return in < YES - out ? in : (enum truth)(YES - out);
}

static enum truth node_concerns(const json_t *rule, const char *member, const struct policy_node *n) {
    static const struct policy_names unknown = UNKNOWN;
    const char *own[2] = {n ? n->name : NULL, n ? n->id : NULL};
    struct policy_names names = {.v = n ? own : NULL, .n = n ? (n->id ? 2 : 1) : 0};
    return concerns(json_object_get(rule, member), &names, n ? &n->labels : &unknown);
}

static enum truth less(enum truth a, enum truth b) { return a < b ? a : b; }
static enum truth more(enum truth a, enum truth b) { return a > b ? a : b; }

static enum truth labels_concern(const json_t *rule, const struct policy_names *request, bool forbid) {
    static const char *const absent[] = {"/"}; // that no item matches, not even *
    static const struct policy_names none = NONE;
    const json_t *list = json_object_get(rule, "labels");
    struct policy_names each = *request;
    if (each.v && !each.n) each = (struct policy_names){absent, 1};
    if (!each.v) return concerns(list, &each, &none);
    enum truth t = forbid ? NO : YES;
    for (size_t i = 0; i < each.n; i++) {
        struct policy_names one = {&each.v[i], 1};
        enum truth c = concerns(list, &one, &none);
        t = forbid ? more(t, c) : less(t, c);
    }
    return t;
}

static enum truth place_concerns(const json_t *rule, const struct question *q, bool forbid) {
    if (q->phase != POLICY_KV) return node_concerns(rule, "nodes", q->node);
    enum truth a = node_concerns(rule, "nodes", q->src), b = node_concerns(rule, "nodes", q->dst);
    enum truth ends = less(node_concerns(rule, "src", q->src), node_concerns(rule, "dst", q->dst));
    return less(ends, forbid ? more(a, b) : less(a, b));
}

static enum truth hours_concern(const json_t *rule, const struct policy_time *t) {
    const char *text = json_string_value(json_object_get(rule, "hours"));
    struct policy_hours h;
    if (!text) return YES;
    if (!t->known) return MAYBE;
    assert_int_equal(policy_hours_read(text, &h, NULL), 0); // has tests of its own
    return policy_hours_has(&h, t->day, t->minute) ? YES : NO;
}

static bool has_phase(const json_t *rule, enum policy_phase phase) {
    const json_t *list = json_object_get(rule, "phases");
    bool has = !list;
    for (size_t i = 0; i < json_array_size(list); i++)
        has |= !strcmp(json_string_value(json_array_get(list, i)), policy_phase_name(phase));
    return has;
}

static bool applies(const json_t *rule, const struct question *q) {
    const struct policy_agent *agent = q->who.lineage;
    bool forbid = !strcmp(json_string_value(json_object_get(rule, "effect")), "forbid");
    struct policy_names id = {agent->id ? &agent->id : NULL, 1}, model = {q->who.model ? &q->who.model : NULL, 1};
    static const struct policy_names none = NONE;
    if (!has_phase(rule, q->phase) || (!forbid && !agent->id)) return false;
    enum truth t = less(concerns(json_object_get(rule, "agents"), &id, &agent->groups),
                        concerns(json_object_get(rule, "models"), &model, &none));
    t = less(t, labels_concern(rule, agent->labels.v ? &agent->labels : &q->who.labels, forbid));
    t = less(t, less(place_concerns(rule, q, forbid), hours_concern(rule, &q->who.when)));
    return forbid ? t != NO : t == YES;
}

static bool owner_is_local(const struct question *q) {
    const char *agent = q->who.lineage->id;
    return agent && !strcmp(agent, "owner") && q->phase != POLICY_KV && q->node && q->node->id && q->who.gateway &&
           !strcmp(q->node->id, q->who.gateway);
}

// The document's rules come by their ids; "builtin-owner-local" is before all that the tests use but "a...".
static bool naive(const json_t *document, const struct question *q, char ids[IDS]) {
    const json_t *rules = json_object_get(document, "rules");
    bool forbidden = false, permitted = owner_is_local(q);
    for (size_t i = 0; i < json_array_size(rules); i++) {
        const json_t *rule = json_array_get(rules, i);
        if (!applies(rule, q)) continue;
        bool forbid = !strcmp(json_string_value(json_object_get(rule, "effect")), "forbid");
        forbidden |= forbid;
        permitted |= !forbid;
    }
    snprintf(ids, IDS, "%s", owner_is_local(q) && !forbidden ? "builtin-owner-local " : "");
    for (size_t i = 0; i < json_array_size(rules); i++) {
        const json_t *rule = json_array_get(rules, i);
        bool forbid = !strcmp(json_string_value(json_object_get(rule, "effect")), "forbid");
        if (forbid == forbidden && applies(rule, q))
            snprintf(ids + strlen(ids), IDS - strlen(ids), "%s ", json_string_value(json_object_get(rule, "id")));
    }
    return permitted && !forbidden;
}

// ---------------------------------------------------------------- documents
static struct policy *read_text(const char *text) {
    struct err e = {.code = ERR_NONE};
    struct policy *p = policy_read(text, strlen(text), &e);
    if (!p) fail_msg("%s: %s", e.msg, text);
    return p;
}

static unsigned random_state = 1;
static unsigned below(unsigned n) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

static const char *one_of(const char *const *words, size_t n) { return words[below((unsigned)n)]; }
#define ONE_OF(...)                                                                                                    \
    one_of((const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void random_rule(struct buf *b, const char *id, const char *effect) {
    const char *ends =
        ONE_OF("", "", "", "\"src\":[\"@l\"],", "\"dst\":[\"!@l\"],", "\"src\":[\"n1\"],\"dst\":[\"n?\"],");
    buf_printf(b, "{\"id\":\"%s\",%s", id, ends);
    buf_puts(b,
             ONE_OF("", "", "\"agents\":[\"ann\"],", "\"agents\":[\"@g\"],", "\"agents\":[\"!ann\"],",
                    "\"agents\":[\"@g\",\"!@h\"],", "\"agents\":[\"a*\",\"owner\"],", "\"agents\":[\"bob\",\"@h\"],"));
    buf_puts(b, ONE_OF("", "", "\"models\":[\"m1\"],", "\"models\":[\"m*\"],", "\"models\":[\"!x?\"],"));
    buf_puts(b, ONE_OF("", "", "\"nodes\":[\"@l\"],", "\"nodes\":[\"n2\",\"id1\"],", "\"nodes\":[\"!n1\"],",
                       "\"nodes\":[\"n*\",\"!@l\"],"));
    buf_puts(b, ONE_OF("", "", "\"labels\":[\"p\"],", "\"labels\":[\"!p\"],", "\"labels\":[\"q\",\"r\"],",
                       "\"labels\":[\"p\",\"q\"],", "\"labels\":[\"*\"],"));
    buf_puts(b, ONE_OF("", "", "\"hours\":\"Mon-Fri 08:00-20:00\",", "\"hours\":\"Sat 22:00-04:00\","));
    buf_puts(b, *ends ? "\"phases\":[\"kv\"],"
                      : ONE_OF("", "\"phases\":[\"prefill\"],", "\"phases\":[\"kv\",\"decode\"],"));
    buf_printf(b, "\"effect\":\"%s\"}", effect);
}

// n rules r00.. of a document, in the order that `turn` gives them; more: text of further ones.
static struct policy *random_policy(unsigned seed, unsigned n, unsigned turn, const char *more) {
    struct buf rules[8], all;
    random_state = seed;
    buf_init(&all, TEXT);
    buf_puts(&all, "{\"v\":1,\"rules\":[");
    for (unsigned i = 0; i < n; i++) {
        char id[16];
        buf_init(&rules[i], TEXT);
        snprintf(id, sizeof id, "r%02u", i);
        random_rule(&rules[i], id, below(3) ? "permit" : "forbid");
    }
    for (unsigned i = 0; i < n; i++) buf_printf(&all, "%s%s", i ? "," : "", buf_str(&rules[(i + turn) % n]));
    buf_printf(&all, "%s%s]}", n && *more ? "," : "", more);
    struct policy *p = read_text(buf_str(&all));
    for (unsigned i = 0; i < n; i++) buf_free(&rules[i]);
    buf_free(&all);
    return p;
}

static void compare(const struct policy *p, const struct question *q) {
    char got[IDS], expected[IDS];
    struct policy_decision d = decide(p, q);
    bool allow = naive(policy_document(p), q, expected);
    size_t n;
    ids_of(p, &d, got);
    if (d.allow != allow || strcmp(got, expected) != 0)
        fail_msg("%s by [%s], naively %s by [%s]: %s %s of %s", d.allow ? "allowed" : "denied", got,
                 allow ? "allowed" : "denied", expected, policy_phase_name(q->phase),
                 q->who.lineage->id ? q->who.lineage->id : "?", policy_text(p, &n));
}

static void test_naive_evaluator_agrees(void **state) {
    (void)state;
    size_t allowed = 0;
    for (unsigned seed = 1; seed <= 16; seed++) {
        struct policy *p = random_policy(seed * 7919, 1 + seed % 7, 0, "");
        for (size_t i = 0; i < QUESTIONS; i++) {
            struct question q = question(i);
            compare(p, &q);
            allowed += decide(p, &q).allow;
        }
        policy_free(p);
    }
    assert_in_range(allowed, 1000, 16 * QUESTIONS / 2); // the worlds are not all alike
}

// All pairs of small rules, asked about everything that they speak of.
static void small_rule(struct buf *b, char id, unsigned number) {
    static const char *const who[] = {"", "\"agents\":[\"ann\"],", "\"agents\":[\"!@g\"],"},
                             *const where[] = {"", "\"nodes\":[\"@l\"],", "\"nodes\":[\"!n1\"],"},
                             *const what[] = {"", "\"labels\":[\"p\"],", "\"labels\":[\"!p\"],"};
    buf_printf(b, "{%s%s%s\"id\":\"%c\",\"effect\":\"%s\"}", who[number % 3], where[number / 3 % 3],
               what[number / 9 % 3], id, number / 27 ? "forbid" : "permit");
}

static void test_all_pairs_of_small_rules(void **state) {
    (void)state;
    enum { SMALL = 54 };
    for (unsigned pair = 0; pair < SMALL * SMALL; pair += 1 + pair % 2) {
        struct buf b;
        buf_init(&b, TEXT);
        buf_puts(&b, "{\"v\":1,\"rules\":[");
        small_rule(&b, 'x', pair % SMALL);
        buf_puts(&b, ",");
        small_rule(&b, 'y', pair / SMALL);
        buf_puts(&b, "]}");
        struct policy *p = read_text(buf_str(&b));
        for (size_t i = pair % 61; i < QUESTIONS; i += 61) { // every place and subject is met in turn
            struct question q = question(i);
            compare(p, &q);
        }
        policy_free(p);
        buf_free(&b);
    }
}

// ---------------------------------------------------------------- properties
static void test_order_of_rules_means_nothing(void **state) { // G3
    (void)state;
    for (unsigned seed = 1; seed <= 40; seed++) {
        struct policy *a = random_policy(seed, 6, 0, ""), *b = random_policy(seed, 6, 1 + seed % 5, "");
        assert_memory_equal(policy_digest(a), policy_digest(b), DIGEST_BYTES);
        for (size_t i = seed; i < QUESTIONS; i += 37) {
            struct question q = question(i);
            char one[IDS], other[IDS];
            struct policy_decision x = decide(a, &q), y = decide(b, &q);
            ids_of(a, &x, one);
            ids_of(b, &y, other);
            assert_int_equal(x.allow, y.allow);
            assert_string_equal(one, other);
        }
        policy_free(a);
        policy_free(b);
    }
}

static void with_one_more(const char *effect, bool was, bool may_become) {
    size_t changed = 0;
    for (unsigned seed = 1; seed <= 60; seed++) {
        struct buf more;
        buf_init(&more, TEXT);
        random_state = seed * 31;
        random_rule(&more, "z", effect);
        struct policy *a = random_policy(seed, 4, 0, ""), *b = random_policy(seed, 4, 0, buf_str(&more));
        for (size_t i = seed; i < QUESTIONS; i += 29) {
            struct question q = question(i);
            bool before = decide(a, &q).allow, after = decide(b, &q).allow;
            if (before != after) assert_true(before == was && after == may_become);
            changed += before != after;
        }
        policy_free(a);
        policy_free(b);
        buf_free(&more);
    }
    assert_in_range(changed, 100, 1 << 30);
}

static void test_one_more_forbid_never_allows(void **state) {
    (void)state;
    with_one_more("forbid", true, false);
}

static void test_one_more_permit_never_denies(void **state) {
    (void)state;
    with_one_more("permit", false, true);
}

static void test_what_is_not_known_never_allows(void **state) {
    (void)state;
    for (unsigned seed = 1; seed <= 60; seed++) {
        struct policy *p = random_policy(seed, 6, 0, "");
        for (size_t i = seed; i < QUESTIONS; i += 29) {
            struct question q = question(i), less = q;
            struct policy_agent someone = *q.who.lineage;
            less.who.lineage = &someone;
            switch (below(7)) {
            case 0: someone.id = NULL; break;
            case 1: someone.groups.v = NULL; break;
            case 2: less.who.model = NULL; break;
            case 3: less.who.labels.v = NULL; break;
            case 4: less.who.when.known = false; break;
            case 5: less.who.gateway = NULL; break;
            default: less.node = less.src = less.dst = NULL;
            }
            if (decide(p, &less).allow) assert_true(decide(p, &q).allow);
        }
        policy_free(p);
    }
}

static void test_nothing_is_permitted_by_default(void **state) {
    (void)state;
    struct policy *p = read_text("{\"v\":1,\"rules\":[{\"id\":\"f\",\"effect\":\"forbid\",\"models\":[\"x1\"]}]}");
    for (size_t i = 0; i < QUESTIONS; i++) {
        struct question q = question(i);
        struct policy_decision d = decide(p, &q);
        assert_true(!d.allow || owner_is_local(&q));
        assert_int_equal(d.stopped, d.allow ? -1 : 0);
    }
    policy_free(p);
}

// ---------------------------------------------------------------- the owner
static void test_owner_without_and_with_a_document(void **state) {
    (void)state;
    struct err e = {.code = ERR_NONE};
    struct policy *builtin = policy_builtin(&e), *empty = read_text("{\"v\":1,\"rules\":[]}"),
                  *forbids =
                      read_text("{\"v\":1,\"rules\":[{\"id\":\"f\",\"effect\":\"forbid\",\"phases\":[\"decode\"]}]}");
    static const struct policy_agent owner = {POLICY_OWNER_AGENT, NONE, UNKNOWN}, ann = {"ann", NONE, UNKNOWN};
    struct policy_subject who = {.lineage = &owner, .n = 1, .labels = NONE, .model = "m1", .gateway = "id1"};
    struct policy_decision d;
    char ids[IDS];
    assert_non_null(builtin);
    policy_decide_kv(builtin, &who, &n1, &n2, &d);
    ids_of(builtin, &d, ids);
    assert_true(d.allow);
    assert_string_equal(ids, POLICY_OWNER " ");
    policy_decide(empty, &who, POLICY_PREFILL, &n1, &d);
    ids_of(empty, &d, ids);
    assert_true(d.allow);
    assert_string_equal(ids, POLICY_OWNER_LOCAL " ");
    policy_decide(empty, &who, POLICY_PREFILL, &n2, &d);
    assert_false(d.allow);
    policy_decide_kv(empty, &who, &n1, &n2, &d);
    assert_false(d.allow);
    policy_decide(forbids, &who, POLICY_PREFILL, &n1, &d);
    assert_true(d.allow);
    policy_decide(forbids, &who, POLICY_DECODE, &n1, &d);
    ids_of(forbids, &d, ids);
    assert_false(d.allow);
    assert_string_equal(ids, "f ");
    who.lineage = &ann;
    policy_decide(builtin, &who, POLICY_PREFILL, &n1, &d);
    assert_false(d.allow);
    assert_memory_not_equal(policy_digest(builtin), policy_digest(empty), DIGEST_BYTES);
    policy_free(builtin);
    policy_free(empty);
    policy_free(forbids);
}

// ---------------------------------------------------------------- lineages and limits
static void test_ancestors_must_be_permitted_too(void **state) {
    (void)state;
    struct policy *p =
        read_text("{\"v\":1,\"rules\":[{\"id\":\"a\",\"effect\":\"permit\",\"agents\":[\"ann\"],\"limits\":{\"rpm\":9,"
                  "\"concurrent\":4}},"
                  "{\"id\":\"b\",\"effect\":\"permit\",\"agents\":[\"bob\",\"@g\"],\"limits\":{\"rpm\":5}},"
                  "{\"id\":\"c\",\"effect\":\"forbid\",\"agents\":[\"bob\"],\"models\":[\"x*\"]},"
                  "{\"id\":\"d\",\"effect\":\"permit\",\"agents\":[\"cy\"],\"limits\":{\"tokens_day\":7}}]}");
    const struct policy_agent both[] = {{"ann", NONE, UNKNOWN}, {"bob", NONE, UNKNOWN}},
                              alone[] = {{"bob", NONE, UNKNOWN}, {"dee", NONE, UNKNOWN}};
    struct policy_agent many[POLICY_LINEAGE + 1];
    struct policy_subject who = {.lineage = both, .n = 2, .labels = NONE, .model = "m1"};
    struct policy_decision d;
    char ids[IDS], text[POLICY_IDS];
    policy_decide(p, &who, POLICY_PREFILL, &n1, &d);
    ids_of(p, &d, ids);
    assert_true(d.allow);
    assert_string_equal(ids, "a b ");
    struct policy_limits l = policy_limits(p, &d);
    assert_int_equal(l.rpm, 5);
    assert_int_equal(l.concurrent, 4);
    assert_int_equal(l.tokens_day, 0);
    json_t *o = policy_decision_json(p, &d);
    assert_int_equal(json_array_size(json_object_get(o, "rules")), 2);
    assert_int_equal(json_object_size(json_object_get(o, "limits")), 2);
    json_decref(o);
    who.model = "x1"; // the parent is forbidden
    policy_decide(p, &who, POLICY_PREFILL, &n1, &d);
    ids_of(p, &d, ids);
    assert_false(d.allow);
    assert_string_equal(ids, "c ");
    assert_int_equal(d.stopped, 1);
    policy_decision_text(p, &d, text, sizeof text);
    assert_string_equal(text, "rule c forbids it");
    who.model = "m1";
    who.lineage = alone; // nothing permits the parent
    policy_decide(p, &who, POLICY_PREFILL, &n1, &d);
    assert_false(d.allow);
    assert_int_equal(d.stopped, 1);
    policy_decision_text(p, &d, text, sizeof text);
    assert_string_equal(text, "no rule permits it");
    for (size_t i = 0; i < COUNT(many); i++) many[i] = both[0];
    who = (struct policy_subject){.lineage = many, .n = POLICY_LINEAGE, .labels = NONE, .model = "m1"};
    policy_decide(p, &who, POLICY_PREFILL, &n1, &d);
    assert_true(d.allow);
    who.n++;
    policy_decide(p, &who, POLICY_PREFILL, &n1, &d);
    assert_false(d.allow);
    who.n = 0;
    policy_decide(p, &who, POLICY_PREFILL, &n1, &d);
    assert_false(d.allow);
    policy_free(p);
}

static void test_limits_are_the_least_of_the_permits_that_match(void **state) {
    (void)state;
    struct policy *p =
        read_text("{\"v\":1,\"rules\":["
                  "{\"id\":\"all\",\"effect\":\"permit\",\"limits\":{\"tokens_day\":1000,\"rpm\":60}},"
                  "{\"id\":\"more\",\"effect\":\"permit\",\"agents\":[\"ann\"],\"limits\":{\"tokens_day\":5000}},"
                  "{\"id\":\"free\",\"effect\":\"permit\",\"agents\":[\"ann\"]},"
                  "{\"id\":\"x\",\"effect\":\"permit\",\"models\":[\"x1\"],\"limits\":{\"rpm\":1}}]}");
    const struct policy_agent ann = {"ann", NONE, UNKNOWN};
    struct policy_subject who = {.lineage = &ann, .n = 1, .labels = NONE, .model = "m1"};
    struct policy_decision d, also;
    policy_decide(p, &who, POLICY_PREFILL, &n1, &d);
    struct policy_limits l = policy_limits(p, &d);
    assert_int_equal(l.tokens_day, 1000);
    assert_int_equal(l.rpm, 60);
    assert_int_equal(l.concurrent, 0);
    who.model = "x1";
    policy_decide(p, &who, POLICY_PREFILL, &n1, &also);
    policy_decision_join(&d, &also);
    assert_int_equal(policy_limits(p, &d).rpm, 1);
    policy_free(p);
}

// ---------------------------------------------------------------- the reader
static void refuse(const char *text, const char *because) {
    struct err e = {.code = ERR_NONE};
    struct policy *p = policy_read(text, strlen(text), &e);
    if (p) fail_msg("accepted: %s", text);
    if (!strstr(e.msg, because) || strchr(e.msg, '\n')) fail_msg("'%s' does not say '%s': %s", e.msg, because, text);
}

#define RULE(members) "{\"v\":1,\"rules\":[{\"id\":\"r1\",\"effect\":\"permit\"," members "}]}"

static void test_faults_are_named(void **state) {
    (void)state;
    refuse("", "not valid JSON");
    refuse("[]", "document must be an object");
    refuse("{\"v\":1}", "'rules' must be a list");
    refuse("{\"v\":2,\"rules\":[]}", "'v' must be 1");
    refuse("{\"v\":1,\"rules\":[],\"rule\":[]}", "'rule', which is not known");
    refuse("{\"v\":1,\"rules\":[],\"rules\":[]}", "duplicate");
    refuse("{\"v\":1,\"rules\":[{}]}", "rules[0] needs an 'id'");
    refuse("{\"v\":1,\"rules\":[1]}", "rules[0] must be an object");
    refuse("{\"v\":1,\"rules\":[{\"id\":\"a b\"}]}", "rules[0] needs an 'id'");
    refuse("{\"v\":1,\"rules\":[{\"id\":\"a\"}]}", "rule 'a' needs an 'effect'");
    refuse("{\"v\":1,\"rules\":[{\"id\":\"a\",\"effect\":\"allow\"}]}", "rule 'a' needs an 'effect'");
    refuse("{\"v\":1,\"rules\":[{\"id\":\"a\",\"effect\":1}]}", "rule 'a' 'effect' must be a string");
    refuse("{\"v\":1,\"rules\":[{\"id\":\"builtin-x\",\"effect\":\"permit\"}]}", "begins with 'builtin-'");
    refuse("{\"v\":1,\"rules\":[{\"id\":\"a\",\"effect\":\"permit\"},{\"id\":\"a\",\"effect\":\"forbid\"}]}",
           "rule 'a' is there twice");
    refuse(RULE("\"node\":[\"x\"]"), "rule 'r1' has a member 'node', which is not known");
    refuse(RULE("\"nodes\":\"x\""), "rule 'r1' 'nodes' must be a list");
    refuse(RULE("\"nodes\":[]"), "and not empty");
    refuse(RULE("\"nodes\":[\"x\",\"a b\"]"), "rule 'r1' nodes[1] must be a name");
    refuse(RULE("\"nodes\":[7]"), "rule 'r1' nodes[0] must be a name");
    refuse(RULE("\"nodes\":[\"!\"]"), "rule 'r1' nodes[0] must be a name");
    refuse(RULE("\"nodes\":[\"@!x\"]"), "rule 'r1' nodes[0] must be a name");
    refuse(RULE("\"models\":[\"@x\"]"), "cannot be a group");
    refuse(RULE("\"labels\":[\"!@x\"]"), "cannot be a group");
    refuse(RULE("\"phases\":[]"), "and not empty");
    refuse(RULE("\"phases\":[\"tandem\"]"), "prefill, decode and kv");
    refuse(RULE("\"phases\":[\"kv\",\"kv\"]"), "'kv' twice");
    refuse(RULE("\"dst\":[\"x\"]"), "must be [\"kv\"]");
    refuse(RULE("\"dst\":[\"x\"],\"phases\":[\"kv\",\"decode\"]"), "must be [\"kv\"]");
    refuse(RULE("\"hours\":\"Mon 8:00-20:00\""), "hours are not like");
    refuse(RULE("\"hours\":8"), "'hours' must be a string");
    refuse(RULE("\"limits\":{}"), "'limits' is empty");
    refuse(RULE("\"limits\":{\"rpm\":0}"), "'rpm' must be a whole number");
    refuse(RULE("\"limits\":{\"rpm\":1.5}"), "'rpm' must be a whole number");
    refuse(RULE("\"limits\":{\"rpm\":9007199254740992}"), "'rpm' must be a whole number");
    refuse(RULE("\"limits\":{\"rph\":1}"), "limits has a member 'rph'");
    refuse("{\"v\":1,\"rules\":[{\"id\":\"a\",\"effect\":\"forbid\",\"limits\":{\"rpm\":1}}]}", "can have no 'limits'");
    refuse(RULE("\"note\":[]"), "'note' must be a string");
    refuse(RULE("\"ag\\u001b[31m\":[]"), "'ag\\x1B[31m'");
    refuse(RULE("\"agents\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]"), "nested deeper");
}

static void test_too_many(void **state) {
    (void)state;
    struct buf b;
    struct err e;
    for (int n = POLICY_RULES; n <= POLICY_RULES + 1; n++) {
        buf_init(&b, POLICY_BYTES);
        buf_puts(&b, "{\"v\":1,\"rules\":[");
        for (int i = 0; i < n; i++) buf_printf(&b, "%s{\"id\":\"r%04d\",\"effect\":\"permit\"}", i ? "," : "", n - i);
        buf_puts(&b, "]}");
        struct policy *p = policy_read(buf_str(&b), b.len, &e);
        assert_true((n == POLICY_RULES) == (p != NULL));
        if (p) assert_int_equal(policy_rules(p), POLICY_RULES + 1);
        const struct policy_agent ann = {"ann", NONE, UNKNOWN};
        struct policy_subject who = {.lineage = &ann, .n = 1, .labels = NONE, .model = "m1"};
        struct policy_decision d;
        char text[POLICY_IDS];
        if (p) policy_decide(p, &who, POLICY_KV, &n1, &d);
        if (p) policy_decision_text(p, &d, text, sizeof text);
        if (p) assert_non_null(strstr(text, " more"));
        policy_free(p);
        buf_free(&b);
    }
    buf_init(&b, 2 * POLICY_BYTES);
    while (b.len <= POLICY_BYTES) buf_puts(&b, "                                                            ");
    assert_null(policy_read(buf_str(&b), b.len, &e));
    assert_int_equal(e.code, ERR_LIMIT);
    buf_clear(&b);
    buf_puts(&b, "{\"v\":1,\"rules\":[{\"id\":\"a\",\"effect\":\"permit\",\"agents\":[\"a\"");
    for (int i = 0; i < POLICY_ITEMS; i++) buf_puts(&b, ",\"a\"");
    buf_puts(&b, "]}]}");
    refuse(buf_str(&b), "more than 64 items");
    buf_free(&b);
}

static void test_canonical_document(void **state) {
    (void)state;
    struct err e;
    size_t n;
    struct policy *p = read_text(
        " { \"rules\" : [ {\"id\":\"b\",\"effect\":\"permit\"},{\"effect\":\"forbid\",\"id\":\"a\"}],\n\"v\":1}");
    assert_string_equal(
        policy_text(p, &n),
        "{\"rules\":[{\"effect\":\"forbid\",\"id\":\"a\"},{\"effect\":\"permit\",\"id\":\"b\"}],\"v\":1}");
    assert_int_equal(n, strlen(policy_text(p, &n)));
    uint8_t digest[DIGEST_BYTES];
    digest_of(policy_text(p, &n), n, digest);
    assert_memory_equal(digest, policy_digest(p), DIGEST_BYTES);
    struct policy *copy = policy_copy(p, &e);
    assert_non_null(copy);
    assert_memory_equal(policy_digest(copy), policy_digest(p), DIGEST_BYTES);
    policy_free(copy);
    policy_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_naive_evaluator_agrees),
        cmocka_unit_test(test_all_pairs_of_small_rules),
        cmocka_unit_test(test_order_of_rules_means_nothing),
        cmocka_unit_test(test_one_more_forbid_never_allows),
        cmocka_unit_test(test_one_more_permit_never_denies),
        cmocka_unit_test(test_what_is_not_known_never_allows),
        cmocka_unit_test(test_nothing_is_permitted_by_default),
        cmocka_unit_test(test_owner_without_and_with_a_document),
        cmocka_unit_test(test_ancestors_must_be_permitted_too),
        cmocka_unit_test(test_limits_are_the_least_of_the_permits_that_match),
        cmocka_unit_test(test_faults_are_named),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_canonical_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

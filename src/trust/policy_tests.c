#include "trust/policy_tests.h"
#include "base/buf.h"
#include "trust/policy_internal.h"

#include <stdio.h>
#include <string.h>

enum { PLACE = 64, WHAT = 512 };

struct test { // borrows from the document
    bool permit;
    const json_t *rules; // expected; NULL: any
    enum policy_phase phase;
    struct policy_agent agent;
    struct policy_subject who;
    struct policy_node node[3]; // node, src, dst
    bool has[3];
    const char *groups[POLICY_ITEMS], *labels[POLICY_ITEMS], *of_node[3][POLICY_ITEMS];
};

static const char *const node_names[3] = {"node", "src", "dst"};

// ---------------------------------------------------------------- reading
static int read_strings(const json_t *o, const char *name, const char **out, struct policy_names *names,
                        const char *place, struct err *e) {
    const json_t *list = json_object_get(o, name);
    if (list && (!json_is_array(list) || json_array_size(list) > POLICY_ITEMS))
        return policy_fault(e, place, "'%s' must be a list of at most %d names", name, POLICY_ITEMS);
    *names = (struct policy_names){.v = out, .n = json_array_size(list)};
    for (size_t i = 0; i < names->n; i++)
        if (!(out[i] = json_string_value(json_array_get(list, i))))
            return policy_fault(e, place, "'%s' must be a list of names", name);
    return 0;
}

// NULL where it is not there.
static int read_name(const json_t *o, const char *name, const char **out, const char *place, struct err *e) {
    if (policy_text_member(o, name, POLICY_NAME, out, place, e)) return -1;
    if (!json_object_get(o, name)) *out = NULL;
    return 0;
}

static int read_node(const json_t *o, struct test *t, int i, const char *place, struct err *e) {
    static const char *const known[] = {"id", "name", "labels", NULL};
    const json_t *node = json_object_get(o, node_names[i]);
    char at[PLACE];
    t->has[i] = node;
    if (!node) return 0;
    snprintf(at, sizeof at, "%.30s %s", place, node_names[i]);
    if (policy_members(node, known, at, e) || read_name(node, "name", &t->node[i].name, at, e) ||
        read_name(node, "id", &t->node[i].id, at, e) ||
        read_strings(node, "labels", t->of_node[i], &t->node[i].labels, at, e))
        return -1;
    return t->node[i].name ? 0 : policy_fault(e, at, "needs a 'name'");
}

static int read_expected(const json_t *o, struct test *t, const char *place, struct err *e) {
    const char *expect, *phase;
    if (policy_text_member(o, "expect", 8, &expect, place, e) || policy_text_member(o, "phase", 8, &phase, place, e))
        return -1;
    t->permit = !strcmp(expect, "permit");
    if (!t->permit && strcmp(expect, "deny") != 0)
        return policy_fault(e, place, "needs an 'expect', \"permit\" or \"deny\"");
    int number = policy_phase_of(phase);
    if (number < 0) return policy_fault(e, place, "needs a 'phase', prefill, decode or kv");
    t->phase = (enum policy_phase)number;
    t->rules = json_object_get(o, "rules");
    if (t->rules && !json_is_array(t->rules)) return policy_fault(e, place, "'rules' must be a list of ids");
    for (size_t i = 0; i < json_array_size(t->rules); i++)
        if (!json_is_string(json_array_get(t->rules, i)))
            return policy_fault(e, place, "'rules' must be a list of ids");
    return 0;
}

static int read_when(const json_t *o, struct test *t, const char *place, struct err *e) {
    const char *when;
    if (!json_object_get(o, "when")) return 0;
    if (policy_text_member(o, "when", 16, &when, place, e)) return -1;
    return policy_time_read(when, &t->who.when) ? policy_fault(e, place, "'when' must be like \"Mon 09:30\"") : 0;
}

static int read_test(const json_t *o, struct test *t, const char *place, struct err *e) {
    static const char *const known[] = {"note",  "expect", "rules", "agent", "groups",  "labels", "model",
                                        "phase", "node",   "src",   "dst",   "gateway", "when",   NULL};
    const char *note;
    *t = (struct test){.permit = false};
    t->who.lineage = &t->agent;
    t->who.n = 1;
    if (policy_members(o, known, place, e) || policy_text_member(o, "note", POLICY_NOTE, &note, place, e) ||
        read_expected(o, t, place, e) || read_name(o, "agent", &t->agent.id, place, e) ||
        read_strings(o, "groups", t->groups, &t->agent.groups, place, e) ||
        read_strings(o, "labels", t->labels, &t->who.labels, place, e) ||
        read_name(o, "model", &t->who.model, place, e) || read_name(o, "gateway", &t->who.gateway, place, e) ||
        read_when(o, t, place, e))
        return -1;
    for (int i = 0; i < 3; i++)
        if (read_node(o, t, i, place, e)) return -1;
    if (t->phase == POLICY_KV ? t->has[0] : t->has[1] || t->has[2])
        return policy_fault(e, place, "asks for '%s' with a node of another phase: kv has src and dst, the others node",
                            policy_phase_name(t->phase));
    return 0;
}

int policy_tests_check(const json_t *tests, struct err *e) {
    struct test t;
    char place[PLACE];
    if (tests && !json_is_array(tests)) return policy_fault(e, "'tests'", "must be a list");
    if (json_array_size(tests) > POLICY_TESTS) return policy_fault(e, "'tests'", "are more than %d", POLICY_TESTS);
    for (size_t i = 0; i < json_array_size(tests); i++) {
        snprintf(place, sizeof place, "tests[%zu]", i);
        if (read_test(json_array_get(tests, i), &t, place, e)) return -1;
    }
    return 0;
}

// ---------------------------------------------------------------- running
static bool has_rules(const json_t *expected, const char *const *ids, size_t n) {
    bool all = json_array_size(expected) == n; // an id that is expected twice fails
    for (size_t i = 0; i < n && all; i++) {
        bool found = false;
        for (size_t k = 0; k < n; k++) found |= !strcmp(json_string_value(json_array_get(expected, k)), ids[i]);
        all = found;
    }
    return all;
}

static bool run_test(const struct policy *p, const struct test *t, char what[WHAT]) {
    const char *ids[POLICY_RULES + 1];
    char why[POLICY_IDS];
    struct policy_decision d;
    const struct policy_node *node[3];
    for (int i = 0; i < 3; i++) node[i] = t->has[i] ? &t->node[i] : NULL;
    if (t->phase == POLICY_KV)
        policy_decide_kv(p, &t->who, node[1], node[2], &d);
    else
        policy_decide(p, &t->who, t->phase, node[0], &d);
    size_t n = policy_decision_ids(p, &d, ids, POLICY_RULES + 1);
    policy_decision_text(p, &d, why, sizeof why);
    snprintf(what, WHAT, "%s, expected %s%s", why, t->permit ? "permit" : "deny", t->rules ? " by other rules" : "");
    if (d.allow != t->permit || (t->rules && !has_rules(t->rules, ids, n))) return false;
    snprintf(what, WHAT, "%s", why);
    return true;
}

size_t policy_tests_run(const struct policy *p, policy_test_event each, void *arg, size_t *failed) {
    const json_t *tests = json_object_get(p->document, "tests");
    struct test t;
    struct err unused;
    char what[WHAT];
    *failed = 0;
    for (size_t i = 0; i < json_array_size(tests); i++) {
        const json_t *o = json_array_get(tests, i);
        bool passed = !read_test(o, &t, "", &unused) && run_test(p, &t, what);
        *failed += !passed;
        if (each) each(arg, i, passed, what);
    }
    return json_array_size(tests);
}

struct first_failure {
    bool failed;
    size_t number;
    char what[WHAT];
};

static void note_failure(void *arg, size_t number, bool passed, const char *what) {
    struct first_failure *f = arg;
    if (passed || f->failed) return;
    f->failed = true;
    f->number = number;
    snprintf(f->what, sizeof f->what, "%s", what);
}

int policy_tests_pass(const struct policy *p, struct err *e) {
    struct first_failure f = {.failed = false};
    size_t failed;
    policy_tests_run(p, note_failure, &f, &failed);
    if (!failed) return 0;
    return err_set(e, ERR_INVALID, "%zu of the policy's tests fail, first tests[%zu]: %.300s", failed, f.number,
                   f.what);
}

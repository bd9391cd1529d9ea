// trust/policy, and the questions of can-i, which have an "agent": what is accepted is canonical after one reading,
// holds its bounds, and decides every question: nobody whose name is not known is allowed anything, and what is not
// known never allows more.
#include "base/json.h"
#include "trust/policy.h"
#include "trust/policy_survey.h"
#include "trust/policy_tests.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const words[] = {"a", "research", "private"};
static const struct policy_agent agents[] = {{"ann", {words, 2}, {NULL, 0}},
                                             {"owner", {words, 0}, {NULL, 0}},
                                             {"ann", {NULL, 0}, {words, 1}},
                                             {NULL, {NULL, 0}, {NULL, 0}}};
static const struct policy_node nodes[] = {{"0123456789abcdef0123456789abcdef", "prime", {words, 3}},
                                           {NULL, "edge", {NULL, 0}}};

static bool decide(const struct policy *p, const struct policy_subject *who, int place) {
    const char *ids[POLICY_RULES + 1];
    struct policy_decision d;
    char text[POLICY_IDS];
    const struct policy_node *node = place % 3 < 2 ? &nodes[place % 3] : NULL;
    if (place < 6)
        policy_decide(p, who, place % 2 ? POLICY_PREFILL : POLICY_DECODE, node, &d);
    else
        policy_decide_kv(p, who, node, &nodes[place % 2], &d);
    size_t n = policy_decision_ids(p, &d, ids, POLICY_RULES + 1);
    policy_decision_text(p, &d, text, sizeof text);
    if (n > policy_rules(p) || (d.allow && !n) || d.allow != (d.stopped < 0)) abort();
    for (size_t i = 1; i < n; i++)
        if (strcmp(ids[i - 1], ids[i]) >= 0) abort();
    struct policy_limits l = policy_limits(p, &d);
    if (l.tokens_day < 0 || l.rpm < 0 || l.concurrent < 0 || (!d.allow && l.rpm)) abort();
    return d.allow;
}

static void ask(const struct policy *p) {
    static const struct policy_subject who = {.n = 1, .labels = {words, 3}, .model = "llama-3", .when = {true, 4, 600}};
    for (int place = 0; place < 12; place++)
        for (size_t i = 0; i < sizeof agents / sizeof *agents; i++) {
            struct policy_subject known = who, less = who;
            known.lineage = less.lineage = &agents[i];
            known.gateway = nodes[0].id;
            less.labels.v = NULL;
            less.model = NULL;
            less.when.known = false;
            bool allowed = decide(p, &known, place);
            if (decide(p, &less, place) && !allowed) abort();
            if (allowed && !agents[i].id) abort();
        }
}

static void ask_question(const char *text, size_t n) {
    struct err e = {.code = ERR_NONE};
    struct policy_asked q;
    struct policy *p = policy_builtin(&e);
    json_t *o = json_parse(text, n, &e), *answer;
    if (!p) abort();
    if (json_is_object(o) && !policy_asked_read(o, &q, &e)) {
        q.survey.nodes = nodes;
        q.survey.n = sizeof nodes / sizeof *nodes;
        if (!(answer = policy_survey(p, &q.survey))) abort();
        bool owner = !strcmp(q.agent.id, POLICY_OWNER_AGENT);
        if (json_is_true(json_object_get(answer, "allow")) && !owner) abort();
        json_decref(answer);
    }
    json_decref(o);
    policy_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct err e = {.code = ERR_NONE};
    size_t n, m, failed;
    if (memmem(data, size, "\"agent\"", 7)) ask_question((const char *)data, size);
    struct policy *p = policy_read((const char *)data, size, &e);
    if (!p && (e.code == ERR_NONE || !e.msg[0] || strchr(e.msg, '\n'))) abort();
    if (!p) return 0;
    struct policy *again = policy_read(policy_text(p, &n), strlen(policy_text(p, &n)), &e);
    if (!again || memcmp(policy_digest(p), policy_digest(again), DIGEST_BYTES) != 0) abort();
    if (strcmp(policy_text(p, &n), policy_text(again, &m)) != 0 || n != m) abort();
    ask(p);
    if (policy_tests_run(p, NULL, NULL, &failed) < failed || (failed > 0) != (policy_tests_pass(p, &e) != 0)) abort();
    policy_free(again);
    policy_free(p);
    return 0;
}

#include "trust/policy_survey.h"
#include "base/json.h"
#include "trust/policy_hours.h"

#include <stdlib.h>
#include <string.h>

enum { SURVEY_NODES = 64 };

struct survey {
    const struct policy_survey *q;
    struct policy_view view;
    struct policy_spot spots[SURVEY_NODES];
    size_t n;
    json_t *decisions;
};

static bool is_meant(const struct policy_node *n, const char *name) {
    return !name || !strcmp(n->name, name) || (n->id && !strcmp(n->id, name));
}

static bool tell(struct survey *s, struct policy_decision *d, enum policy_phase phase, const char *member, size_t node,
                 const char *to) {
    json_t *o = policy_decision_json(s->view.policy, d);
    if (o) json_object_del(o, "policy");
    if (o) json_object_set_new(o, "phase", json_string(policy_phase_name(phase)));
    if (o) json_object_set_new(o, member, json_string(s->q->nodes[node].name));
    if (o && to) json_object_set_new(o, "dst", json_string(to));
    json_array_append_new(s->decisions, o);
    return d->allow;
}

static bool ask(struct survey *s, enum policy_phase phase, size_t node) {
    struct policy_decision d;
    policy_view_decide(&s->view, phase, &s->spots[node], &d);
    return tell(s, &d, phase, "node", node, NULL);
}

static bool ask_kv(struct survey *s, size_t src, size_t dst) {
    struct policy_decision d;
    policy_view_decide_kv(&s->view, &s->spots[src], &s->spots[dst], &d);
    return tell(s, &d, POLICY_KV, "src", src, s->q->nodes[dst].name);
}

static bool ask_edges(struct survey *s, const bool *from, const bool *to) {
    bool allow = false;
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; k < s->n; k++)
            if (i != k && from[i] && to[k]) allow |= ask_kv(s, i, k);
    return allow;
}

static bool ask_phase(struct survey *s, enum policy_phase phase) {
    bool allow = false, from[SURVEY_NODES], to[SURVEY_NODES];
    for (size_t i = 0; i < s->n; i++) {
        from[i] = is_meant(&s->q->nodes[i], s->q->node);
        to[i] = is_meant(&s->q->nodes[i], s->q->to);
        if (phase != POLICY_KV && from[i]) allow |= ask(s, phase, i);
    }
    return phase == POLICY_KV ? ask_edges(s, from, to) : allow;
}

static bool ask_job(struct survey *s) {
    bool allow = false, reads[SURVEY_NODES], writes[SURVEY_NODES];
    for (size_t i = 0; i < s->n; i++) {
        bool meant = is_meant(&s->q->nodes[i], s->q->node);
        reads[i] = meant && ask(s, POLICY_PREFILL, i);
        writes[i] = meant && ask(s, POLICY_DECODE, i);
        allow |= reads[i] && writes[i];
    }
    return ask_edges(s, reads, writes) || allow;
}

json_t *policy_survey(const struct policy *p, const struct policy_survey *q) {
    struct survey *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    *s = (struct survey){.q = q, .n = q->n < SURVEY_NODES ? q->n : SURVEY_NODES, .decisions = json_array()};
    policy_view(p, q->who, &s->view);
    for (size_t i = 0; i < s->n; i++) policy_view_node(&s->view, &q->nodes[i], &s->spots[i]);
    bool allow = q->phase < 0 ? ask_job(s) : ask_phase(s, (enum policy_phase)q->phase);
    json_t *o = json_pack("{s:b, s:o, s:o}", "allow", allow, "policy", json_hex(policy_digest(p), DIGEST_BYTES),
                          "decisions", s->decisions);
    free(s);
    return o;
}

// ---------------------------------------------------------------- reading
static int read_names(const json_t *o, const char *name, const char **out, struct policy_names *names, struct err *e) {
    json_t *list = NULL;
    if (json_get_array(o, name, &list, e)) return -1;
    *names = (struct policy_names){.v = out, .n = json_array_size(list)};
    if (names->n > POLICY_ITEMS) return err_param(e, name, "'%s' holds more than %d names", name, POLICY_ITEMS);
    for (size_t i = 0; i < names->n; i++)
        if (!(out[i] = json_string_value(json_array_get(list, i))))
            return err_param(e, name, "'%s' must hold names", name);
    return 0;
}

int policy_asked_read(const json_t *o, struct policy_asked *out, struct err *e) {
    const char *phase = NULL, *when = NULL;
    *out = (struct policy_asked){.survey = {.who = &out->who, .phase = -1}, .who = {.lineage = &out->agent, .n = 1}};
    if (json_get_string(o, "agent", &out->agent.id, e) || json_get_string(o, "model", &out->who.model, e) ||
        json_get_string(o, "node", &out->survey.node, e) || json_get_string(o, "to", &out->survey.to, e) ||
        json_get_string(o, "phase", &phase, e) || json_get_string(o, "when", &when, e) ||
        read_names(o, "groups", out->groups, &out->agent.groups, e) ||
        read_names(o, "labels", out->labels, &out->who.labels, e))
        return -1;
    if (!out->agent.id) return err_param(e, "agent", "'agent' is missing");
    if (!out->who.model) return err_param(e, "model", "'model' is missing");
    if (phase && (out->survey.phase = policy_phase_of(phase)) < 0)
        return err_param(e, "phase", "'phase' must be prefill, decode or kv");
    if (out->survey.to && out->survey.phase != POLICY_KV)
        return err_param(e, "to", "'to' is for the phase kv: where the rows go");
    if (when && policy_time_read(when, &out->who.when))
        return err_param(e, "when", "'when' must be like \"Mon 09:30\"");
    return 0;
}

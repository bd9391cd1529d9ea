// The routes of the policy: show, apply, can-i.
#include "base/json.h"
#include "serve/authority.h"
#include "serve/cluster.h"
#include "serve/node.h"
#include "trust/policy_survey.h"

#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- show
static json_t *text_or_null(const char *text) { return text ? json_string(text) : json_null(); }

static json_t *shown(const struct serve *s) {
    const struct policy *p = authority_policy(s);
    const struct roster *r = cluster_roster(s->cluster);
    const char *from = authority_is_builtin(s) ? "builtin" : r ? "cluster" : "home";
    return json_pack("{s:i, s:s, s:o, s:i, s:o, s:o, s:o}", "v", 1, "from", from, "digest",
                     json_hex(policy_digest(p), DIGEST_BYTES), "rules", (int)policy_rules(p), "epoch",
                     r ? json_integer(r->epoch) : json_null(), "trouble", text_or_null(authority_trouble(s)),
                     "document", json_deep_copy(policy_document(p)));
}

void authority_show(const struct call *c) { call_answer(c, shown(c->s)); }

// ---------------------------------------------------------------- apply
void authority_apply(const struct call *c) {
    struct err why = {.code = ERR_NONE};
    const char *text = NULL;
    struct policy *p = NULL;
    json_t *body = call_body(c, &why);
    int rc = body ? json_get_string(body, "policy", &text, &why) : -1;
    if (!rc && !text)
        err_param(&why, "policy", "'policy' is missing: the text of a policy's document");
    else if (!rc && cluster_roster(c->s->cluster))
        err_set(&why, ERR_INVALID,
                "this node belongs to a cluster, whose policy its root signs: `nebulus policy apply` does");
    else if (!rc)
        p = policy_read(text, strlen(text), &why);
    json_decref(body);
    if (p && !authority_keep(c->s, p, &why))
        call_answer(c, shown(c->s));
    else
        call_fail(c, &why);
}

// ---------------------------------------------------------------- can-i
struct members { // the nodes of the cluster, or this one alone
    struct policy_node nodes[ROSTER_NODES];
    const char *labels[ROSTER_NODES][ROSTER_LABELS];
    size_t n;
};

static struct members *members_new(const struct serve *s) {
    const struct roster *r = cluster_roster(s->cluster);
    struct members *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    if (!r) m->nodes[m->n++] = (struct policy_node){"", cluster_own_name(s->cluster), {m->labels[0], 0}};
    for (; r && m->n < r->n_nodes; m->n++) {
        const struct roster_node *one = &r->nodes[m->n];
        m->nodes[m->n] = (struct policy_node){one->id, one->name, {m->labels[m->n], one->n_labels}};
        for (size_t i = 0; i < one->n_labels; i++) m->labels[m->n][i] = one->labels[i];
    }
    return m;
}

static bool has_node(const struct members *m, const char *name) {
    for (size_t i = 0; name && i < m->n; i++)
        if (!strcmp(m->nodes[i].name, name) || !strcmp(m->nodes[i].id, name)) return true;
    return !name;
}

static json_t *answer(const struct serve *s, struct policy_asked *q, struct err *e) {
    struct members *m = members_new(s);
    json_t *o = NULL;
    if (!m)
        err_set(e, ERR_INTERNAL, "out of memory");
    else if (!has_node(m, q->survey.node) || !has_node(m, q->survey.to))
        err_set(e, ERR_NOT_FOUND, "there is no node '%.64s': see `nebulus nodes`",
                has_node(m, q->survey.node) ? q->survey.to : q->survey.node);
    else {
        q->survey.nodes = m->nodes;
        q->survey.n = m->n;
        q->who.gateway = node_self(s);
        if (!q->who.when.known) q->who.when = authority_now();
        if (!(o = policy_survey(authority_policy(s), &q->survey))) err_set(e, ERR_INTERNAL, "out of memory");
    }
    free(m);
    return o;
}

void authority_can_i(const struct call *c) {
    struct err why = {.code = ERR_NONE};
    struct policy_asked q;
    json_t *body = call_body(c, &why), *o = NULL;
    if (body && !policy_asked_read(body, &q, &why)) o = answer(c->s, &q, &why);
    json_decref(body);
    if (o) json_object_set_new(o, "v", json_integer(1));
    if (o)
        call_answer(c, o);
    else
        call_fail(c, &why);
}

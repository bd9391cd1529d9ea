#include "trust/policy.h"
#include "base/buf.h"
#include "base/json.h"
#include "trust/policy_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const phase_names[POLICY_PHASES] = {"prefill", "decode", "kv"};

const char *policy_phase_name(enum policy_phase p) { return phase_names[p]; }

int policy_phase_of(const char *name) {
    int p = 0;
    while (p < POLICY_PHASES && strcmp(phase_names[p], name) != 0) p++;
    return p < POLICY_PHASES ? p : -1;
}

const char *policy_text(const struct policy *p, size_t *n) {
    *n = p->len;
    return p->text;
}
const json_t *policy_document(const struct policy *p) { return p->document; }
const uint8_t *policy_digest(const struct policy *p) { return p->digest; }
size_t policy_rules(const struct policy *p) { return p->n; }

// ---------------------------------------------------------------- sets of rules
static void keep_only(const struct policy *p, struct policy_rules *s, const struct policy_rules *other) {
    for (size_t w = 0; w < p->words; w++) s->v[w] &= other->v[w];
}

// Asked about several things, a permit must concern all of them, a forbid any.
static void also_concerns(const struct policy *p, struct policy_rules *s, const struct policy_rules *other) {
    for (size_t w = 0; w < p->words; w++)
        s->v[w] = (s->v[w] & other->v[w]) | ((s->v[w] | other->v[w]) & p->forbids.v[w]);
}

// ---------------------------------------------------------------- who asks for what
static void find_all(const struct policy *p, enum policy_attribute a, int kind, const struct policy_names *names,
                     struct policy_hits *hits) {
    if (!names->v) policy_index_doubt(p, a, kind, hits);
    for (size_t i = 0; names->v && i < names->n; i++) policy_index_find(p, a, kind, names->v[i], hits);
}

static void find_one(const struct policy *p, enum policy_attribute a, const char *name, struct policy_hits *hits) {
    if (name)
        policy_index_find(p, a, PLAIN, name, hits);
    else
        policy_index_doubt(p, a, PLAIN, hits);
}

// Nobody is permitted anything whose name is not known, also by rules that name no agent.
static void keep_agent(const struct policy *p, const struct policy_agent *agent, struct policy_rules *s) {
    struct policy_hits hits = {.in = {{0}}};
    struct policy_rules concerned;
    find_one(p, AGENTS, agent->id, &hits);
    find_all(p, AGENTS, AT, &agent->groups, &hits);
    policy_index_settle(p, AGENTS, &hits, &concerned);
    keep_only(p, s, &concerned);
    if (!agent->id) keep_only(p, s, &p->forbids);
}

static void keep_model(const struct policy *p, const char *model, struct policy_rules *s) {
    struct policy_hits hits = {.in = {{0}}};
    struct policy_rules concerned;
    find_one(p, MODELS, model, &hits);
    policy_index_settle(p, MODELS, &hits, &concerned);
    keep_only(p, s, &concerned);
}

static void keep_labels(const struct policy *p, const struct policy_names *labels, struct policy_rules *s) {
    struct policy_hits none = {.in = {{0}}};
    struct policy_rules concerned, one;
    if (!labels->v) policy_index_doubt(p, LABELS, PLAIN, &none);
    if (!labels->v || !labels->n) policy_index_settle(p, LABELS, &none, &concerned);
    for (size_t i = 0; labels->v && i < labels->n; i++) {
        struct policy_hits hits = {.in = {{0}}};
        policy_index_find(p, LABELS, PLAIN, labels->v[i], &hits);
        policy_index_settle(p, LABELS, &hits, i ? &one : &concerned);
        if (i) also_concerns(p, &concerned, &one);
    }
    keep_only(p, s, &concerned);
}

static void keep_hours(const struct policy *p, const struct policy_time *when, struct policy_rules *s) {
    for (size_t w = 0; w < p->words; w++) {
        uint64_t drop = s->v[w] & p->timed.v[w] & (when->known ? ~0ull : p->permits.v[w]);
        for (uint64_t left = drop; when->known && left; left &= left - 1) {
            size_t bit = (size_t)__builtin_ctzll(left);
            if (policy_hours_has(&p->rules[w * 64 + bit].hours, when->day, when->minute)) drop &= ~(1ull << bit);
        }
        s->v[w] &= ~drop;
    }
}

void policy_view(const struct policy *p, const struct policy_subject *who, struct policy_view *out) {
    static const struct policy_agent nobody = {.id = NULL};
    struct policy_rules common = {{0}}, asked;
    out->policy = p;
    out->gateway = who->gateway;
    out->too_many = who->n > POLICY_LINEAGE;
    out->n = out->too_many ? POLICY_LINEAGE : who->n ? who->n : 1;
    for (size_t w = 0; w < p->words; w++) common.v[w] = p->permits.v[w] | p->forbids.v[w];
    keep_model(p, who->model, &common);
    keep_hours(p, &who->when, &common);
    asked = common;
    keep_labels(p, &who->labels, &asked);
    for (size_t i = 0; i < out->n; i++) {
        const struct policy_agent *agent = who->n ? &who->lineage[i] : &nobody;
        struct policy_rules own = agent->labels.v ? common : asked;
        if (agent->labels.v) keep_labels(p, &agent->labels, &own);
        keep_agent(p, agent, &own);
        memcpy(out->rules[i], own.v, sizeof own.v);
    }
}

// ---------------------------------------------------------------- where
static void find_node(const struct policy_view *v, enum policy_attribute a, const struct policy_node *node,
                      uint64_t out[POLICY_WORDS]) {
    struct policy_hits hits = {.in = {{0}}};
    struct policy_rules concerned = {{0}};
    static const struct policy_names unknown = {.v = NULL};
    find_one(v->policy, a, node ? node->name : NULL, &hits);
    if (node && node->id) policy_index_find(v->policy, a, PLAIN, node->id, &hits);
    find_all(v->policy, a, AT, node ? &node->labels : &unknown, &hits);
    policy_index_settle(v->policy, a, &hits, &concerned);
    memcpy(out, concerned.v, sizeof concerned.v);
}

void policy_view_node(const struct policy_view *v, const struct policy_node *node, struct policy_spot *out) {
    bool own = node && node->id && v->gateway && !strcmp(node->id, v->gateway);
    find_node(v, NODES, node, out->at);
    find_node(v, SRC, node, out->src);
    find_node(v, DST, node, out->dst);
    for (size_t w = 0; !own && w < v->policy->words; w++) out->at[w] &= ~v->policy->local.v[w];
}

// ---------------------------------------------------------------- decisions
static void decide_one(const struct policy *p, const uint64_t *rules, const struct policy_rules *where,
                       struct policy_decision *out) {
    uint64_t permits = 0, forbids = 0;
    for (size_t w = 0; w < p->words; w++) {
        out->rules[w] = rules[w] & where->v[w];
        permits |= out->rules[w] & p->permits.v[w];
        forbids |= out->rules[w] & p->forbids.v[w];
    }
    out->allow = permits && !forbids;
    out->stopped = out->allow ? -1 : 0;
    const struct policy_rules *determining = forbids ? &p->forbids : &p->permits;
    for (size_t w = 0; w < p->words; w++) out->rules[w] &= determining->v[w];
}

void policy_decision_join(struct policy_decision *d, const struct policy_decision *also) {
    if (d->allow && !also->allow)
        *d = *also;
    else if (d->allow == also->allow)
        for (size_t w = 0; w < POLICY_WORDS; w++) d->rules[w] |= also->rules[w];
}

// Of every agent of the lineage.
static void decide(const struct policy_view *v, const struct policy_rules *where, struct policy_decision *out) {
    *out = (struct policy_decision){.allow = true, .stopped = -1};
    for (size_t i = 0; i < v->n; i++) {
        struct policy_decision one = {.allow = false};
        decide_one(v->policy, v->rules[i], where, &one);
        if (!one.allow) one.stopped = (int)i;
        policy_decision_join(out, &one);
    }
    if (v->too_many && out->allow) *out = (struct policy_decision){.allow = false, .stopped = POLICY_LINEAGE};
}

void policy_view_decide(const struct policy_view *v, enum policy_phase phase, const struct policy_spot *spot,
                        struct policy_decision *out) {
    struct policy_rules where;
    for (size_t w = 0; w < v->policy->words; w++) where.v[w] = spot->at[w] & v->policy->phases[phase].v[w];
    decide(v, &where, out);
}

void policy_view_decide_kv(const struct policy_view *v, const struct policy_spot *src, const struct policy_spot *dst,
                           struct policy_decision *out) {
    const struct policy *p = v->policy;
    struct policy_rules where;
    for (size_t w = 0; w < p->words; w++) {
        uint64_t both = (src->at[w] & dst->at[w]) | ((src->at[w] | dst->at[w]) & p->forbids.v[w]);
        where.v[w] = both & src->src[w] & dst->dst[w] & p->phases[POLICY_KV].v[w];
    }
    decide(v, &where, out);
}

void policy_decide(const struct policy *p, const struct policy_subject *who, enum policy_phase phase,
                   const struct policy_node *node, struct policy_decision *out) {
    struct policy_view v;
    struct policy_spot spot;
    policy_view(p, who, &v);
    policy_view_node(&v, node, &spot);
    policy_view_decide(&v, phase, &spot, out);
}

void policy_decide_kv(const struct policy *p, const struct policy_subject *who, const struct policy_node *src,
                      const struct policy_node *dst, struct policy_decision *out) {
    struct policy_view v;
    struct policy_spot from, to;
    policy_view(p, who, &v);
    policy_view_node(&v, src, &from);
    policy_view_node(&v, dst, &to);
    policy_view_decide_kv(&v, &from, &to, out);
}

// ---------------------------------------------------------------- what a decision says
size_t policy_decision_ids(const struct policy *p, const struct policy_decision *d, const char **out, size_t max) {
    size_t n = 0;
    for (size_t w = 0; w < p->words; w++)
        for (uint64_t left = d->rules[w]; left; left &= left - 1) {
            if (n < max) out[n] = p->rules[w * 64 + (size_t)__builtin_ctzll(left)].id;
            n++;
        }
    return n;
}

void policy_decision_text(const struct policy *p, const struct policy_decision *d, char *out, size_t size) {
    const char *ids[POLICY_RULES + 1];
    struct buf text;
    size_t n = policy_decision_ids(p, d, ids, POLICY_RULES + 1), shown = 0,
           room = size < POLICY_IDS ? size : POLICY_IDS;
    buf_init(&text, room);
    if (n) buf_puts(&text, n > 1 ? "rules" : "rule");
    for (; shown < n && text.len + POLICY_ID + 40 < room; shown++)
        buf_printf(&text, "%s %s", shown ? "," : "", ids[shown]);
    if (shown < n) buf_printf(&text, " and %zu more", n - shown);
    if (!n) buf_puts(&text, "no rule permits it");
    if (n && !d->allow) buf_puts(&text, n > 1 ? " forbid it" : " forbids it");
    snprintf(out, size, "%s", buf_str(&text));
    buf_free(&text);
}

struct policy_limits policy_limits(const struct policy *p, const struct policy_decision *d) {
    struct policy_limits least = {.tokens_day = 0};
    for (size_t w = 0; d->allow && w < p->words; w++)
        for (uint64_t left = d->rules[w] & p->limited.v[w]; left; left &= left - 1) {
            const struct policy_limits *l = &p->rules[w * 64 + (size_t)__builtin_ctzll(left)].limits;
            if (l->tokens_day && (!least.tokens_day || l->tokens_day < least.tokens_day))
                least.tokens_day = l->tokens_day;
            if (l->rpm && (!least.rpm || l->rpm < least.rpm)) least.rpm = l->rpm;
            if (l->concurrent && (!least.concurrent || l->concurrent < least.concurrent))
                least.concurrent = l->concurrent;
        }
    return least;
}

static void add_limit(json_t *o, const char *name, int64_t value) {
    if (value) json_object_set_new(o, name, json_integer(value));
}

json_t *policy_decision_json(const struct policy *p, const struct policy_decision *d) {
    const char *ids[POLICY_RULES + 1];
    size_t n = policy_decision_ids(p, d, ids, POLICY_RULES + 1);
    struct policy_limits least = policy_limits(p, d);
    json_t *rules = json_array(), *limits = json_object();
    for (size_t i = 0; i < n; i++) json_array_append_new(rules, json_string(ids[i]));
    add_limit(limits, "tokens_day", least.tokens_day);
    add_limit(limits, "rpm", least.rpm);
    add_limit(limits, "concurrent", least.concurrent);
    return json_pack("{s:b, s:o, s:o, s:o}", "allow", d->allow, "rules", rules, "limits", limits, "policy",
                     json_hex(p->digest, DIGEST_BYTES));
}

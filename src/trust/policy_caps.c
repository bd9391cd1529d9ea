#include "trust/policy_caps.h"
#include "trust/policy_internal.h"

#include <string.h>

struct list {
    struct policy_cap *v;
    size_t n, max;
};

static void add(struct list *l, const struct policy_rule *rule, const char *who, bool group) {
    for (size_t i = 0; i < l->n && i < l->max; i++)
        if (l->v[i].rule == rule->id && l->v[i].group == group && !strcmp(l->v[i].who, who)) return;
    if (l->n < l->max)
        l->v[l->n] = (struct policy_cap){.rule = rule->id, .who = who, .group = group, .limits = rule->limits};
    l->n++;
}

static bool names_group(const struct policy *p, size_t rule, const char *group) {
    const struct policy_index *x = &p->index[AGENTS];
    for (size_t i = x->begin[AT]; i < x->end[AT]; i++)
        if (policy_has(&x->items[i].in, rule) && policy_glob(x->items[i].name, group)) return true;
    return false;
}

static void add_agent(struct list *l, const struct policy *p, size_t rule, const struct policy_agent *agent) {
    bool together = false;
    for (size_t g = 0; agent->groups.v && g < agent->groups.n; g++) {
        if (!names_group(p, rule, agent->groups.v[g])) continue;
        add(l, &p->rules[rule], agent->groups.v[g], true);
        together = true;
    }
    if (!together && agent->id) add(l, &p->rules[rule], agent->id, false);
}

size_t policy_caps(const struct policy_view *v, const struct policy_subject *who, const struct policy_decision *d,
                   struct policy_cap *out, size_t max) {
    const struct policy *p = v->policy;
    struct list l = {.v = out, .max = max};
    for (size_t w = 0; d->allow && w < p->words; w++)
        for (uint64_t left = d->rules[w] & p->limited.v[w]; left; left &= left - 1) {
            size_t rule = w * 64 + (size_t)__builtin_ctzll(left);
            for (size_t i = 0; i < who->n && i < v->n; i++)
                if (v->rules[i][w] & left & -left) add_agent(&l, p, rule, &who->lineage[i]);
        }
    return l.n;
}

bool policy_limits_tokens(const struct policy *p) {
    for (size_t i = 0; i < p->n; i++)
        if (p->rules[i].limits.tokens_day) return true;
    return false;
}

int policy_rule_limits(const struct policy *p, const char *rule, struct policy_limits *out) {
    for (size_t i = 0; i < p->n; i++) {
        if (strcmp(p->rules[i].id, rule) != 0 || !policy_has(&p->limited, i)) continue;
        *out = p->rules[i].limits;
        return 0;
    }
    return -1;
}

#include "trust/policy_subject.h"

#include <stdlib.h>
#include <string.h>

// What has been placed so far: first counted, then put into a block that is large enough.
struct placing {
    const char **names; // NULL: only counts
    char *text;
    size_t n_names, n_text;
};

static const char *put(struct placing *p, const char *s) {
    size_t n = s ? strlen(s) + 1 : 0, at = p->n_text;
    p->n_text += n;
    return s && p->names ? memcpy(p->text + at, s, n) : NULL;
}

static struct policy_names put_names(struct placing *p, const struct policy_names *names) {
    struct policy_names out = {.v = NULL};
    if (!names->v) return out;
    if (p->names) out = (struct policy_names){p->names + p->n_names, names->n};
    size_t first = p->n_names;
    p->n_names += names->n;
    for (size_t i = 0; i < names->n; i++) {
        const char *name = put(p, names->v[i]);
        if (p->names) p->names[first + i] = name;
    }
    return out;
}

static void put_subject(struct placing *p, const struct policy_subject *who, struct policy_subject *out,
                        struct policy_agent *lineage) {
    *out = (struct policy_subject){.lineage = lineage, .n = who->n, .when = who->when};
    for (size_t i = 0; i < who->n; i++) {
        struct policy_agent one = {.id = put(p, who->lineage[i].id)};
        one.groups = put_names(p, &who->lineage[i].groups);
        one.labels = put_names(p, &who->lineage[i].labels);
        if (lineage) lineage[i] = one;
    }
    out->labels = put_names(p, &who->labels);
    out->model = put(p, who->model);
    out->gateway = put(p, who->gateway);
}

struct policy_subject *policy_subject_copy(const struct policy_subject *who) {
    struct policy_subject unused, *copy;
    struct placing p = {.names = NULL};
    put_subject(&p, who, &unused, NULL);
    size_t agents = who->n * sizeof(struct policy_agent), names = (p.n_names + 1) * sizeof(char *);
    if (!(copy = malloc(sizeof *copy + agents + names + p.n_text))) return NULL;
    struct policy_agent *lineage = (struct policy_agent *)(copy + 1);
    p = (struct placing){.names = (const char **)(lineage + who->n)};
    p.text = (char *)p.names + names;
    put_subject(&p, who, copy, lineage);
    return copy;
}

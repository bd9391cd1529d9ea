#include "serve/placement.h"
#include "serve/authority.h"
#include "serve/cluster.h"
#include "serve/node.h"
#include "serve/planning.h"
#include "serve/told.h"
#include "serve/wire.h"

#include <string.h>

// The next peer that is up and has the model, loaded or not; NULL begins, and ends, the round.
static const struct peer *next_holder(const struct serve *s, const char *model, const struct peer *after) {
    const struct peers *peers = cluster_peers(s->cluster);
    if (!peers || !model[0]) return NULL;
    const struct peer *p = peers_next(peers, after);
    while (p && !(p->up && told_model(cluster_models_of(s->cluster, p), model))) p = peers_next(peers, p);
    return p;
}

// Nodes that get what was not wished for, the best first.
struct candidates {
    char ids[PLACEMENT_NODES][NODE_ID];
    size_t n;
};

static void find_candidates(const struct serve *s, const char *model, bool here, struct candidates *c) {
    c->n = 0;
    if (here) snprintf(c->ids[c->n++], NODE_ID, "%s", node_self(s));
    for (const struct peer *p = next_holder(s, model, NULL); p && c->n < PLACEMENT_NODES; p = next_holder(s, model, p))
        snprintf(c->ids[c->n++], NODE_ID, "%s", p->id);
}

// The first that the policy permits with what was wished: one node before two. ERR_DENIED: the first one's reason;
// ERR_NOT_FOUND: there is no candidate. Pairs are many: the subject and each node are looked up once.
static int first_permitted(struct serve *s, const struct placement_wish *wish, const struct policy_subject *who,
                           const struct candidates *c, struct course_spec *out, struct err *e) {
    struct authority_look l;
    struct authority_sight seen[PLACEMENT_NODES], wished[2];
    if (!c->n) return err_set(e, ERR_NOT_FOUND, "no node that can be reached has it");
    authority_look(s, who, &l);
    for (size_t i = 0; i < c->n; i++) authority_see(&l, c->ids[i], &seen[i]);
    if (wish->prefill) authority_see(&l, out->prefill, &wished[0]);
    if (wish->decode) authority_see(&l, out->decode, &wished[1]);
    for (size_t i = 0, pairs = c->n * c->n; i < c->n + pairs; i++) { // each alone, then each with each
        size_t reads = i < c->n ? i : (i - c->n) / c->n, writes = i < c->n ? i : (i - c->n) % c->n;
        const struct authority_sight *from = wish->prefill ? &wished[0] : &seen[reads];
        const struct authority_sight *to = wish->decode ? &wished[1] : &seen[writes];
        const char *prefill = wish->prefill ? out->prefill : c->ids[reads];
        const char *decode = wish->decode ? out->decode : c->ids[writes];
        if (!from->reads || !to->writes || (strcmp(prefill, decode) != 0 && !authority_sends(&l, from, to))) continue;
        if (!wish->prefill) snprintf(out->prefill, NODE_ID, "%s", prefill);
        if (!wish->decode) snprintf(out->decode, NODE_ID, "%s", decode);
        return 0;
    }
    return authority_place(s, who, wish->prefill ? out->prefill : c->ids[0], wish->decode ? out->decode : c->ids[0],
                           NULL, e);
}

static bool uses_here(const struct serve *s, const struct course_spec *out) {
    return node_is_self(s, out->prefill) || node_is_self(s, out->decode);
}

// The nodes that get what was not wished for; out->model becomes the model's whole name. No model is loaded here for
// someone who may not use it here.
static int default_nodes(struct serve *s, const struct placement_wish *wish, struct policy_subject *who, char *name,
                         struct course_spec *out, struct err *e) {
    struct err why = {.code = ERR_NONE}, missing = {.code = ERR_NONE};
    struct candidates c;
    const struct model *only = name[0] ? NULL : models_get(s->models, "", &missing); // loads nothing
    if (only) snprintf(name, LIMIT_MODEL_NAME + 1, "%s", only->name);
    who->model = name;
    for (int here = missing.code ? 0 : 1; here >= 0; here--) {
        find_candidates(s, name, here, &c);
        if (first_permitted(s, wish, who, &c, out, &why)) break;
        const struct model *m = here && uses_here(s, out) ? models_get(s->models, name, &missing) : NULL;
        if (m) snprintf(name, LIMIT_MODEL_NAME + 1, "%s", m->name);
        if (m || !here || !uses_here(s, out)) return 0;
    }
    if (e) *e = why.code == ERR_NOT_FOUND && missing.code ? missing : why;
    return -1;
}

static int read_handover(const char *word, struct course_spec *out, struct err *e) {
    out->zero_stall = !strcmp(word, "zero-stall");
    out->late = !strcmp(word, "after");
    if (out->zero_stall || out->late || !strcmp(word, "wait")) return 0;
    return err_param(e, "x-nebulus-handover", "x-nebulus-handover must be zero-stall, wait or after");
}

// Whatever has been chosen, and by whomever.
static int permit(const struct serve *s, struct policy_subject *who, struct course_spec *out, struct err *e) {
    bool writes_on;
    who->model = out->model;
    if (authority_place(s, who, out->prefill, out->decode, &writes_on, e)) return -1;
    out->reads_only = !writes_on;
    return 0;
}

int placement_choose(struct serve *s, const char *model, const struct placement_wish *wish, char *name,
                     struct course_spec *out, struct err *e) {
    static const struct policy_subject nobody = {.n = 0};
    struct policy_subject who = wish->who ? *wish->who : nobody;
    *out = (struct course_spec){.model = name, .who = wish->who, .named = wish->prefill || wish->decode};
    snprintf(name, LIMIT_MODEL_NAME + 1, "%s", model);
    if (read_handover(wish->handover ? wish->handover : "zero-stall", out, e)) return -1;
    if (wish->wire && strcmp(wish->wire, "f16") != 0 && strcmp(wish->wire, "q8_0") != 0)
        return err_param(e, "x-nebulus-wire", "x-nebulus-wire must be f16 or q8_0");
    const char *const words[] = {wish->wire ? wish->wire : "", s->settings.kv_wire};
    snprintf(out->wire, sizeof out->wire, "%s", wire_wish(words, 2));
    if (wish->prefill && node_find(s, "x-nebulus-prefill", wish->prefill, out->prefill, e)) return -1;
    if (wish->decode && node_find(s, "x-nebulus-decode", wish->decode, out->decode, e)) return -1;
    bool placed = wish->prefill && wish->decode && model[0];
    if (!placed && default_nodes(s, wish, &who, name, out, e)) return -1;
    return planning_place(s, wish, out, e) || permit(s, &who, out, e) ? -1 : 0;
}

// ---------------------------------------------------------------- fail-over
static uint64_t when_asked(const struct placement_past *past, const char *node) {
    for (int i = 0; i < past->n; i++)
        if (!strcmp(past->asked[i].node, node)) return past->asked[i].when;
    return 0;
}

void placement_asked(struct placement_past *past, const char *node, uint64_t when) {
    int at = 0, oldest = 0;
    while (at < past->n && strcmp(past->asked[at].node, node) != 0) at++;
    for (int i = 0; i < past->n; i++)
        if (past->asked[i].when < past->asked[oldest].when) oldest = i;
    if (at == PLACEMENT_NODES)
        at = oldest;
    else if (at == past->n)
        past->n++;
    snprintf(past->asked[at].node, sizeof past->asked[at].node, "%s", node);
    past->asked[at].when = when;
}

static bool may_do_all(const struct serve *s, const struct policy_subject *who, const char *node) {
    return !authority_place(s, who, node, node, NULL, NULL);
}

int placement_other(struct serve *s, const struct policy_subject *who, const struct placement_past *past, uint64_t now,
                    char out[NODE_ID], struct err *e) {
    const char *model = who->model, *self = node_self(s);
    const char *best = models_find(s->models, model) && may_do_all(s, who, self) ? self : NULL;
    uint64_t oldest = best ? when_asked(past, best) : now;
    if (oldest >= now) {
        best = NULL;
        oldest = now;
    }
    for (const struct peer *p = next_holder(s, model, NULL); p; p = next_holder(s, model, p)) {
        uint64_t when = when_asked(past, p->id);
        if (when >= oldest || !may_do_all(s, who, p->id)) continue;
        best = p->id;
        oldest = when;
    }
    if (!best)
        return err_set(e, ERR_NOT_FOUND,
                       "no other node that can be reached has '%s' and may compute this: see `nebulus nodes`", model);
    snprintf(out, NODE_ID, "%s", best);
    return 0;
}

#include "serve/placement.h"
#include "serve/cluster.h"
#include "serve/node.h"
#include "serve/planning.h"
#include "serve/told.h"

#include <string.h>

// The next peer that is up and has the model, loaded or not; NULL begins, and ends, the round.
static const struct peer *next_holder(const struct serve *s, const char *model, const struct peer *after) {
    const struct peers *peers = cluster_peers(s->cluster);
    if (!peers || !model[0]) return NULL;
    const struct peer *p = peers_next(peers, after);
    while (p && !(p->up && told_model(cluster_models_of(s->cluster, p), model))) p = peers_next(peers, p);
    return p;
}

// The node that gets what was not wished for; `name` becomes the model's whole name.
static int default_node(struct serve *s, const char *model, char *name, char out[NODE_ID], struct err *e) {
    struct err why = {.code = ERR_NONE};
    const struct model *here = models_get(s->models, model, &why);
    const struct peer *p = here ? NULL : next_holder(s, model, NULL);
    if (here) {
        snprintf(name, LIMIT_MODEL_NAME + 1, "%s", here->name);
        snprintf(out, NODE_ID, "%s", node_self(s));
        return 0;
    }
    if (p) {
        snprintf(out, NODE_ID, "%s", p->id);
        return 0;
    }
    if (e) *e = why;
    return -1;
}

static int read_handover(const char *word, struct course_spec *out, struct err *e) {
    out->zero_stall = !strcmp(word, "zero-stall");
    out->late = !strcmp(word, "after");
    if (out->zero_stall || out->late || !strcmp(word, "wait")) return 0;
    return err_param(e, "x-nebulus-handover", "x-nebulus-handover must be zero-stall, wait or after");
}

int placement_choose(struct serve *s, const char *model, const struct placement_wish *wish, char *name,
                     struct course_spec *out, struct err *e) {
    *out = (struct course_spec){.model = name, .named = wish->prefill || wish->decode};
    snprintf(name, LIMIT_MODEL_NAME + 1, "%s", model);
    if (read_handover(wish->handover ? wish->handover : "zero-stall", out, e)) return -1;
    if (wish->wire && strcmp(wish->wire, "f16") != 0 && strcmp(wish->wire, "q8_0") != 0)
        return err_param(e, "x-nebulus-wire", "x-nebulus-wire must be f16 or q8_0");
    snprintf(out->wire, sizeof out->wire, "%s", wish->wire ? wish->wire : "");
    if (wish->prefill && node_find(s, "x-nebulus-prefill", wish->prefill, out->prefill, e)) return -1;
    if (wish->decode && node_find(s, "x-nebulus-decode", wish->decode, out->decode, e)) return -1;
    char node[NODE_ID];
    if (wish->prefill && wish->decode && model[0]) return planning_place(s, wish, out, e);
    if (default_node(s, model, name, node, e)) return -1;
    if (!wish->prefill) snprintf(out->prefill, NODE_ID, "%s", node);
    if (!wish->decode) snprintf(out->decode, NODE_ID, "%s", node);
    return planning_place(s, wish, out, e);
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

int placement_other(struct serve *s, const char *model, const struct placement_past *past, uint64_t now,
                    char out[NODE_ID], struct err *e) {
    const char *best = models_find(s->models, model) ? node_self(s) : NULL;
    uint64_t oldest = best ? when_asked(past, best) : now;
    if (oldest >= now) {
        best = NULL;
        oldest = now;
    }
    for (const struct peer *p = next_holder(s, model, NULL); p; p = next_holder(s, model, p)) {
        uint64_t when = when_asked(past, p->id);
        if (when >= oldest) continue;
        best = p->id;
        oldest = when;
    }
    if (!best)
        return err_set(e, ERR_NOT_FOUND, "no other node that can be reached has '%s': see `nebulus nodes`", model);
    snprintf(out, NODE_ID, "%s", best);
    return 0;
}

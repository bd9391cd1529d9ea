#include "serve/placement.h"
#include "serve/cluster.h"
#include "serve/node.h"

#include <string.h>

// Whether a peer has told that it holds a model of that name, loaded or not.
static bool peer_has(const struct serve *s, const struct peer *p, const char *model) {
    size_t i;
    const json_t *one;
    json_array_foreach(cluster_models_of(s->cluster, p), i, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && !strcmp(name, model)) return true;
    }
    return false;
}

// The first peer that is up and has the model, but not `left`; NULL: none.
static const struct peer *holder(const struct serve *s, const char *model, const char *left) {
    const struct peers *peers = cluster_peers(s->cluster);
    for (const struct peer *p = peers && model[0] ? peers_next(peers, NULL) : NULL; p; p = peers_next(peers, p))
        if (p->up && strcmp(p->id, left) != 0 && peer_has(s, p, model)) return p;
    return NULL;
}

// The node that gets what was not wished for; `name` becomes the model's whole name.
static int default_node(struct serve *s, const char *model, char *name, char out[NODE_ID], struct err *e) {
    struct err why = {.code = ERR_NONE};
    const struct model *here = models_get(s->models, model, &why);
    const struct peer *p = here ? NULL : holder(s, model, "");
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
    *out = (struct course_spec){.model = name};
    snprintf(name, LIMIT_MODEL_NAME + 1, "%s", model);
    if (read_handover(wish->handover ? wish->handover : "zero-stall", out, e)) return -1;
    if (wish->wire && strcmp(wish->wire, "f16") != 0 && strcmp(wish->wire, "q8_0") != 0)
        return err_param(e, "x-nebulus-wire", "x-nebulus-wire must be f16 or q8_0");
    snprintf(out->wire, sizeof out->wire, "%s", wish->wire ? wish->wire : "");
    if (wish->prefill && node_find(s, "x-nebulus-prefill", wish->prefill, out->prefill, e)) return -1;
    if (wish->decode && node_find(s, "x-nebulus-decode", wish->decode, out->decode, e)) return -1;
    if (wish->prefill && wish->decode && model[0]) return 0;
    char node[NODE_ID];
    if (default_node(s, model, name, node, e)) return -1;
    if (!wish->prefill) snprintf(out->prefill, NODE_ID, "%s", node);
    if (!wish->decode) snprintf(out->decode, NODE_ID, "%s", node);
    return 0;
}

int placement_other(struct serve *s, const char *model, const char *left, char out[NODE_ID], struct err *e) {
    const struct peer *p = NULL;
    if (!node_is_self(s, left) && models_find(s->models, model))
        snprintf(out, NODE_ID, "%s", node_self(s));
    else if ((p = holder(s, model, left)))
        snprintf(out, NODE_ID, "%s", p->id);
    else
        return err_set(e, ERR_NOT_FOUND, "no other node that can be reached has '%s': see `nebulus nodes`", model);
    return 0;
}

// What nodes tell each other of their links, and what follows from it for all links of the cluster.
#include "base/json.h"
#include "serve/links.h"
#include "serve/node.h"

#include <string.h>

static int read_one(const json_t *o, struct link_cost *out, struct err *e) {
    *out = (struct link_cost){.bytes_s = 0};
    if (!json_is_object(o)) return err_set(e, ERR_INVALID, "a link is no object");
    if (json_get_real(o, "bytes_s", 1, LIMIT_LINK_RATE, &out->bytes_s, e)) return -1;
    if (!(out->bytes_s > 0)) return err_param(e, "bytes_s", "a link without a speed");
    return json_get_real(o, "rtt_s", 0, LIMIT_LINK_RTT_SECONDS, &out->rtt_s, e);
}

json_t *links_clean(const json_t *said, struct err *e) {
    json_t *clean = json_is_object(said) ? json_object() : NULL;
    const char *node;
    json_t *one;
    if (!clean) return json_null(); // an older node tells nothing
    json_object_foreach((json_t *)(uintptr_t)said, node, one) {
        struct link_cost l;
        if (strlen(node) >= NODE_ID || json_object_size(clean) == ROSTER_NODES)
            err_set(e, ERR_INVALID, "links to nodes that cannot be");
        else if (!read_one(one, &l, e)) {
            json_object_set_new(clean, node, json_pack("{s:f, s:f}", "bytes_s", l.bytes_s, "rtt_s", l.rtt_s));
            continue;
        }
        json_decref(clean);
        return json_null();
    }
    return clean;
}

// ---------------------------------------------------------------- among all
static void seen_here(const struct serve *s, const char *node, struct link_cost *out) {
    struct links_estimate known;
    const struct peer *p = cluster_find(s->cluster, node);
    if (p && p->up && links_estimate(s->links, node, &known))
        *out = (struct link_cost){.bytes_s = known.bytes_s, .rtt_s = (double)p->rtt_ns / 1e9};
}

void links_among(const struct serve *s, const char (*ids)[NODE_ID], size_t n, struct link_cost *out) {
    struct err why;
    for (size_t from = 0; from < n; from++) {
        bool self = node_is_self(s, ids[from]);
        const struct peer *p = self ? NULL : cluster_find(s->cluster, ids[from]);
        const json_t *told = p && p->up ? cluster_links_of(s->cluster, p) : NULL;
        for (size_t to = 0; to < n; to++) {
            struct link_cost *l = &out[from * n + to];
            *l = (struct link_cost){.bytes_s = 0};
            if (self && to != from) seen_here(s, ids[to], l);
            const json_t *one = to != from ? json_object_get(told, ids[to]) : NULL;
            if (one && read_one(one, l, &why)) l->bytes_s = 0; // it was cleaned: this cannot be
        }
    }
    for (size_t i = 0; i < n * n; i++) {
        const struct link_cost *back = &out[i % n * n + i / n];
        if (!(out[i].bytes_s > 0)) out[i] = *back;
    }
}

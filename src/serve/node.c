#include "serve/node.h"
#include "base/text.h"
#include "serve/cluster.h"

#include <stdio.h>
#include <string.h>

const char *node_self(const struct serve *s) {
    const struct roster_node *self = cluster_self(s->cluster);
    return self ? self->id : "";
}

bool node_is_self(const struct serve *s, const char *id) { return !strcmp(id, node_self(s)); }

void node_name(const struct serve *s, const char *id, char *out, size_t size) {
    const struct roster_node *self = cluster_self(s->cluster);
    const struct peer *p = node_is_self(s, id) ? NULL : cluster_find(s->cluster, id);
    snprintf(out, size, "%s", p ? p->name : self && node_is_self(s, id) ? self->name : "here");
}

int node_find(const struct serve *s, const char *header, const char *wish, char out[NODE_ID], struct err *e) {
    const struct roster_node *self = cluster_self(s->cluster);
    const struct peer *p = cluster_find(s->cluster, wish);
    char shown[128];
    if (self && (!strcmp(wish, self->name) || !strcmp(wish, self->id))) {
        snprintf(out, NODE_ID, "%s", self->id);
        return 0;
    }
    text_escape(shown, sizeof shown, wish);
    if (!p) {
        err_param(e, header, "there is no node '%s' in the cluster: see `nebulus nodes`", shown);
        if (e) e->code = ERR_NOT_FOUND;
        return -1;
    }
    if (!p->up) return err_set(e, ERR_UNREACHABLE, "node '%s' is down: see `nebulus nodes`", shown);
    snprintf(out, NODE_ID, "%s", p->id);
    return 0;
}

void node_cut(const struct serve *s, const char *id, const struct err *why) {
    const struct peer *p = cluster_find(s->cluster, id);
    if (p) peers_cut(cluster_peers(s->cluster), p, why);
}

int node_send(const struct serve *s, const char *id, const json_t *msg, struct err *e) {
    const struct peer *p = cluster_find(s->cluster, id);
    if (!p) return err_set(e, ERR_UNREACHABLE, "node %.8s is no member any more", id);
    return peers_send(cluster_peers(s->cluster), p, msg, e);
}

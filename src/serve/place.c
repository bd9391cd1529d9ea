#include "serve/place.h"
#include "serve/node.h"
#include "serve/place_ops.h"
#include "serve/remote.h"
#include "serve/site.h"

struct place *place_open(struct serve *s, const char *node, const struct place_spec *spec,
                         const struct place_events *ev, void *arg, struct err *e) {
    return node_is_self(s, node) ? site_open(s, spec, ev, arg, e) : remote_open(s, node, spec, ev, arg, e);
}

int place_start(struct place *p, const int32_t *generated, int32_t n, int32_t from, struct err *e) {
    return p->ops->start(p, generated, n, from, e);
}

int place_stream(struct place *p, const struct place_target *to, struct err *e) { return p->ops->stream(p, to, e); }

int place_pause(struct place *p, struct err *e) { return p->ops->pause(p, e); }

int place_permit(struct place *p, json_t *ticket, struct err *e) {
    return p->ops->permit ? p->ops->permit(p, ticket, e) : 0;
}

void place_cut(struct place *p) { p->ops->cut(p); }

bool place_sent(const struct place *p, struct flow_figures *out) { return p->ops->sent && p->ops->sent(p, out); }

void place_drop(struct place *p) {
    if (p) p->ops->drop(p);
}

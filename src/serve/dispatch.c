#include "serve/dispatch.h"
#include "base/log.h"
#include "base/text.h"
#include "serve/links.h"
#include "serve/orders.h"
#include "serve/remote.h"
#include "serve/witness.h"

static void on_up(void *arg, const struct peer *p) {
    const struct serve *s = arg;
    if (s->links) links_up(s->links, p);
    witness_up(s->witness, p);
}

static void on_down(void *arg, const struct peer *p, const struct err *why) {
    const struct serve *s = arg;
    if (s->links) links_down(s->links, p, why);
    // Streams cannot go on without it, as credits travel there; and where it was cut in silence, nothing else tells.
    transfers_drop(cluster_transfers(s->cluster), p->id);
    remote_lost(arg, p, why);
    orders_lost(arg, p);
}

static void on_message(void *arg, const struct peer *p, const json_t *msg) {
    const char *type = json_string_value(json_object_get(msg, "t"));
    const struct serve *s = arg;
    char shown[64];
    if (type && s->links && links_heard(s->links, p, type, msg)) return;
    if (type && witness_heard(s->witness, p, type, msg)) return;
    if (type && (orders_heard(arg, p, type, msg) || remote_heard(arg, p, type, msg))) return;
    text_escape(shown, sizeof shown, type ? type : "");
    log_debug("node %.8s sent a message of unknown type '%s'", p->id, shown);
}

void dispatch_init(struct serve *s) {
    static const struct cluster_events events = {.up = on_up, .down = on_down, .message = on_message};
    cluster_listen(s->cluster, &events, s);
}

void dispatch_end(struct serve *s) { orders_lost(s, NULL); }

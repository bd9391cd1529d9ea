#include "serve/links.h"
#include "base/clock.h"
#include "base/log.h"
#include "serve/node.h"

#include <stdlib.h>
#include <string.h>

// After a link has come up the node with the smaller id measures first. TRIES: where the link is busy.
enum { TICK_MS = 500, FIRST_MS = 400, SECOND_MS = 1600, AGAIN_MS = 3000, TRIES = 5 };
static const double NEWER = 0.5;    // weight of what a stream has just shown
static const double NOTABLE = 1.25; // a change by this factor is told

struct line { // a link
    struct links *of;
    char node[NODE_ID]; // "" = free
    struct links_estimate estimate;
    struct link_cost told; // to the other nodes
    struct linkprobe *probe;
    linkprobe_done done; // of the probe; NULL: nobody asks
    void *arg;
    struct linkhost *host;
    uint64_t due_ns; // of a measurement by itself; 0 = none
    int tries;
};

struct links {
    struct serve *s;
    struct event *tick;
    struct line lines[ROSTER_NODES];
};

static struct line *find(const struct links *l, const char *node) {
    for (size_t i = 0; l && i < ROSTER_NODES; i++)
        if (*node && !strcmp(l->lines[i].node, node)) return (struct line *)(uintptr_t)&l->lines[i];
    return NULL;
}

static void clear(struct line *line) {
    linkprobe_end(line->probe);
    linkhost_end(line->host);
    *line = (struct line){.of = line->of};
}

// The line to a node; a new one takes the place of one to a node that is no member any more.
static struct line *line_of(struct links *l, const char *node) {
    struct line *line = find(l, node);
    for (size_t i = 0; !line && i < ROSTER_NODES; i++) {
        struct line *spare = &l->lines[i];
        if (spare->node[0] && cluster_find(l->s->cluster, spare->node)) continue;
        clear(spare);
        snprintf(spare->node, sizeof spare->node, "%s", node);
        line = spare;
    }
    return line;
}

// ---------------------------------------------------------------- what is known
bool links_estimate(const struct links *l, const char *node, struct links_estimate *out) {
    const struct line *line = find(l, node);
    *out = line ? line->estimate : (struct links_estimate){.source = LINKS_UNKNOWN};
    return out->source != LINKS_UNKNOWN;
}

json_t *links_json(const struct links *l, const char *node) {
    struct links_estimate e;
    if (!links_estimate(l, node, &e)) return json_null();
    return json_pack("{s:f, s:s, s:f}", "gbit_s", e.bytes_s * 8 / 1e9, "source",
                     e.source == LINKS_PROBE ? "probe" : "stream", "age_s", (double)(clock_mono_ns() - e.at_ns) / 1e9);
}

static bool is_notable(double told, double now) { return now > told * NOTABLE || now < told / NOTABLE; }

json_t *links_tell(struct links *l) {
    json_t *all = json_object();
    for (size_t i = 0; l && i < ROSTER_NODES; i++) {
        struct line *line = &l->lines[i];
        const struct peer *p = line->node[0] ? cluster_find(l->s->cluster, line->node) : NULL;
        if (!p || !p->up || line->estimate.source == LINKS_UNKNOWN) continue;
        const struct link_cost now = {.bytes_s = line->estimate.bytes_s, .rtt_s = (double)p->rtt_ns / 1e9};
        if (is_notable(line->told.bytes_s, now.bytes_s) || is_notable(line->told.rtt_s, now.rtt_s)) line->told = now;
        json_object_set_new(all, line->node,
                            json_pack("{s:f, s:f}", "bytes_s", line->told.bytes_s, "rtt_s", line->told.rtt_s));
    }
    return all;
}

static void learn(struct line *line, uint64_t bytes, uint64_t ns, enum links_source source) {
    struct links_estimate *e = &line->estimate;
    double now = (double)bytes * 1e9 / (double)ns;
    bool blend = source == LINKS_STREAM && e->source != LINKS_UNKNOWN;
    e->bytes_s = blend ? e->bytes_s + (now - e->bytes_s) * NEWER : now;
    e->source = source;
    e->at_ns = clock_mono_ns();
}

// ---------------------------------------------------------------- measuring
static void on_done(void *arg, const struct linkprobe_result *r, const struct err *why) {
    struct line *line = arg;
    linkprobe_done done = line->done;
    line->done = NULL;
    if (r) learn(line, r->bytes, r->ns, LINKS_PROBE);
    if (r)
        log_debug("the link to node %.8s: %.3f Gbit/s", line->node, line->estimate.bytes_s * 8 / 1e9);
    else
        log_debug("the link to node %.8s was not measured: %s", line->node, why->msg);
    if (why && why->code == ERR_BUSY && !done && --line->tries > 0)
        line->due_ns = clock_mono_ns() + AGAIN_MS * NS_PER_MS;
    if (done) done(line->arg, r, why);
    linkprobe_end(line->probe); // r was its
    line->probe = NULL;
}

static int measure(struct line *line, uint64_t bytes, unsigned ms, struct err *e) {
    if (line->probe || (line->host && !linkhost_over(line->host)))
        return err_set(e, ERR_BUSY, "the link is being measured just now: try again in a moment");
    line->probe = linkprobe_start(line->of->s, line->node, bytes, ms, on_done, line, e);
    return line->probe ? 0 : -1;
}

int links_measure(struct links *l, const char *node, uint64_t bytes, unsigned ms, linkprobe_done done, void *arg,
                  struct err *e) {
    struct line *line = line_of(l, node);
    if (!line) return err_set(e, ERR_LIMIT, "at most %d links are known", ROSTER_NODES);
    if (measure(line, bytes, ms, e)) return -1;
    line->done = done;
    line->arg = arg;
    line->due_ns = 0; // it need not be done once more
    return 0;
}

void links_forget(struct links *l, const void *arg) {
    for (size_t i = 0; l && i < ROSTER_NODES; i++)
        if (l->lines[i].done && l->lines[i].arg == arg) l->lines[i].done = NULL;
}

static void on_tick(evutil_socket_t fd, short what, void *arg) {
    struct links *l = arg;
    struct transfers *t = cluster_transfers(l->s->cluster);
    uint64_t now = clock_mono_ns(), bytes, ns;
    (void)fd, (void)what;
    for (size_t i = 0; t && i < ROSTER_NODES; i++) {
        struct line *line = &l->lines[i];
        struct err why;
        if (!line->node[0]) continue;
        if (transfers_pace(t, line->node, &bytes, &ns)) learn(line, bytes, ns, LINKS_STREAM);
        if (!line->due_ns || now < line->due_ns) continue;
        line->due_ns = 0;
        if (!measure(line, LINKS_AUTO_BYTES, LINKS_AUTO_MS, &why)) continue;
        log_debug("the link to node %.8s is not measured: %s", line->node, why.msg);
        if (why.code == ERR_BUSY && --line->tries > 0) line->due_ns = now + AGAIN_MS * NS_PER_MS;
    }
}

// ---------------------------------------------------------------- what the cluster tells
static bool is_first(const struct links *l, const char *other) { return strcmp(node_self(l->s), other) < 0; }

void links_up(struct links *l, const struct peer *p) {
    struct line *line = line_of(l, p->id);
    if (!line) return;
    line->due_ns = clock_mono_ns() + (is_first(l, p->id) ? FIRST_MS : SECOND_MS) * NS_PER_MS;
    line->tries = TRIES;
}

void links_down(struct links *l, const struct peer *p, const struct err *why) {
    struct line *line = find(l, p->id);
    if (!line) return;
    line->due_ns = 0;
    if (line->probe) linkprobe_fail(line->probe, why);
    linkhost_end(line->host);
    line->host = NULL;
}

// Where both ask at the same time the smaller id is served first.
static int host(struct line *line, const struct probemsg *m, struct err *e) {
    static const struct err late = {.code = ERR_BUSY, .msg = "the other node measures the link first: try again"};
    struct links *l = line->of;
    if (line->probe && (is_first(l, line->node) || !linkprobe_asks(line->probe)))
        return err_set(e, ERR_BUSY, "the link is being measured just now: try again in a moment");
    if (line->probe) linkprobe_fail(line->probe, &late);
    linkhost_end(line->host);
    line->host = linkhost_start(l->s, line->node, m, e);
    return line->host ? 0 : -1;
}

bool links_heard(struct links *l, const struct peer *p, const char *type, const json_t *msg) {
    struct probemsg m;
    struct err why;
    if (!probemsg_is(type)) return false;
    struct line *line = line_of(l, p->id);
    if (probemsg_read(msg, &m, &why))
        log_info("node %.8s sent a message about the link that makes no sense: %s", p->id, why.msg);
    else if (m.type == PROBEMSG_ASK) {
        if (!line) err_set(&why, ERR_LIMIT, "too many links");
        if (!line || host(line, &m, &why)) linkhost_refuse(l->s, p->id, m.n, &why);
    } else if (m.type == PROBEMSG_SENT) {
        if (line && line->host) linkhost_heard(line->host, &m);
    } else if (line && line->probe)
        linkprobe_heard(line->probe, &m);
    return true;
}

// ---------------------------------------------------------------- life
struct links *links_new(struct serve *s, struct err *e) {
    struct links *l = calloc(1, sizeof *l);
    struct timeval every = {.tv_usec = TICK_MS * 1000};
    if (l) l->tick = event_new(s->base, -1, EV_PERSIST, on_tick, l);
    if (!l || !l->tick || event_add(l->tick, &every)) {
        err_set(e, ERR_INTERNAL, "out of memory");
        links_free(l);
        return NULL;
    }
    l->s = s;
    for (size_t i = 0; i < ROSTER_NODES; i++) l->lines[i].of = l;
    return l;
}

void links_free(struct links *l) {
    if (!l) return;
    for (size_t i = 0; i < ROSTER_NODES; i++) clear(&l->lines[i]);
    if (l->tick) event_free(l->tick);
    free(l);
}

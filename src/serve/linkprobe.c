#include "serve/linkprobe.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "serve/node.h"

#include <stdlib.h>
#include <string.h>

// How long the other node may take to answer, and the last bytes to arrive: on a link of 1 Mbit/s what sockets and
// shapers hold takes seconds.
enum { ANSWER_MS = 5000, TAIL_MS = 10000 };

static int tell(struct serve *s, const char *node, const struct probemsg *m, struct err *e) {
    json_t *msg = probemsg_write(m);
    int rc = msg ? node_send(s, node, msg, e) : err_set(e, ERR_INTERNAL, "out of memory");
    json_decref(msg);
    return rc;
}

static int arm(struct event *deadline, uint64_t ms) {
    struct timeval t = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    return deadline ? event_add(deadline, &t) : -1;
}

// ---------------------------------------------------------------- the sender
struct linkprobe {
    struct serve *s;
    struct burst_spec spec;
    linkprobe_done done;
    void *arg;
    struct event *deadline;
    struct burst *probe; // NULL: not allowed to yet
    uint64_t begun_ns;   // when it was allowed to
    bool sent, told;
    struct burst_figures figures; // of what was sent
    struct linkprobe_result result;
};

// Tells how it ended. The caller touches p no more.
static void finish(struct linkprobe *p, const struct err *why) {
    if (p->told) return;
    p->told = true;
    event_del(p->deadline);
    p->done(p->arg, why ? NULL : &p->result, why);
}

void linkprobe_fail(struct linkprobe *p, const struct err *why) { finish(p, why); }

static void on_deadline(evutil_socket_t fd, short what, void *arg) {
    struct linkprobe *p = arg;
    struct err why;
    (void)fd, (void)what;
    err_set(&why, ERR_UNREACHABLE, "the other node did not %s in time",
            p->sent    ? "report what has arrived"
            : p->probe ? "take what was sent"
                       : "answer");
    finish(p, &why);
}

static void on_sent(void *arg, const struct burst_figures *f, const struct err *why) {
    struct linkprobe *p = arg;
    struct err e;
    struct probemsg m = {.type = PROBEMSG_SENT, .n = p->spec.number, .bytes = f->total};
    p->sent = true;
    p->figures = *f;
    p->result.sent = f->total;
    p->result.cpu_here_ns = f->cpu_ns;
    int rc = tell(p->s, p->spec.node, &m, &e); // also where it failed: the receiver need not wait
    if (why)
        finish(p, why);
    else if (rc || arm(p->deadline, TAIL_MS + ANSWER_MS))
        finish(p, rc ? &e : &(struct err){.code = ERR_INTERNAL, .msg = "out of memory"});
}

static void begin(struct linkprobe *p) {
    struct err why = {.code = ERR_INTERNAL, .msg = "out of memory"};
    if (p->probe) return;
    p->begun_ns = clock_mono_ns();
    p->probe = burst_open(cluster_transfers(p->s->cluster), &p->spec, on_sent, p, &why);
    if (!p->probe || arm(p->deadline, p->spec.ns / NS_PER_MS + LIMIT_KV_CONNECT_MS + TAIL_MS)) finish(p, &why);
}

// The time in which so many bytes were sent.
static uint64_t sent_within(const struct linkprobe *p, uint64_t bytes) {
    return p->figures.bytes ? (uint64_t)((double)p->figures.ns * (double)bytes / (double)p->figures.bytes) : 0;
}

static void take_report(struct linkprobe *p, const struct burst_figures *f) {
    struct err why;
    if (!p->sent || f->total > p->result.sent)
        err_set(&why, ERR_INVALID, "the other node reports bytes that were not sent");
    else if (!f->bytes)
        err_set(&why, ERR_UNREACHABLE, "too little has arrived to say how fast the link is");
    else if (f->ns > clock_mono_ns() - p->begun_ns)
        err_set(&why, ERR_INVALID, "the other node reports a longer time than the measurement took");
    else {
        uint64_t least_ns = sent_within(p, f->bytes) / LINKPROBE_FASTER;
        p->result.bytes = f->bytes;
        p->result.ns = f->ns > least_ns ? f->ns : least_ns;
        p->result.cpu_there_ns = f->cpu_ns;
        finish(p, NULL);
        return;
    }
    finish(p, &why);
}

bool linkprobe_asks(const struct linkprobe *p) { return !p->probe; }

void linkprobe_heard(struct linkprobe *p, const struct probemsg *m) {
    if (m->n != p->spec.number || p->told) return;
    if (m->type == PROBEMSG_READY)
        begin(p);
    else if (m->type == PROBEMSG_REPORT)
        take_report(p, &m->figures);
    else if (m->type == PROBEMSG_REFUSED) {
        struct err why;
        err_set(&why, m->why.code, "the other node: %.400s", m->why.msg);
        finish(p, &why);
    }
}

struct linkprobe *linkprobe_start(struct serve *s, const char *node, uint64_t bytes, unsigned ms, linkprobe_done done,
                                  void *arg, struct err *e) {
    if (transfers_busy(cluster_transfers(s->cluster), node)) {
        err_set(e, ERR_BUSY, "KV rows of running jobs use the link now: try again once they are through");
        return NULL;
    }
    struct linkprobe *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *p = (struct linkprobe){.s = s, .done = done, .arg = arg};
    p->spec = (struct burst_spec){.number = id_seed() | 1, .bytes = bytes, .ns = ms * NS_PER_MS};
    snprintf(p->spec.node, sizeof p->spec.node, "%s", node);
    p->deadline = event_new(s->base, -1, 0, on_deadline, p);
    struct probemsg m = {.type = PROBEMSG_ASK, .n = p->spec.number, .bytes = bytes, .ms = ms};
    if (arm(p->deadline, ANSWER_MS))
        err_set(e, ERR_INTERNAL, "out of memory");
    else if (!tell(s, node, &m, e))
        return p;
    linkprobe_end(p);
    return NULL;
}

void linkprobe_end(struct linkprobe *p) {
    if (!p) return;
    burst_close(p->probe);
    if (p->deadline) event_free(p->deadline);
    free(p);
}

// ---------------------------------------------------------------- the receiver
struct linkhost {
    struct serve *s;
    char node[NODE_ID];
    uint64_t n;
    struct sink *sink;
    struct event *deadline;
    bool over;
};

static void conclude(struct linkhost *h, const struct burst_figures *f, const struct err *why) {
    struct probemsg m = {.type = why ? PROBEMSG_REFUSED : PROBEMSG_REPORT, .n = h->n, .figures = *f};
    struct err e;
    if (h->over) return;
    h->over = true;
    event_del(h->deadline);
    sink_close(h->sink);
    h->sink = NULL;
    if (why) m.why = *why;
    if (tell(h->s, h->node, &m, &e)) log_debug("node %.8s was not told about its measurement: %s", h->node, e.msg);
}

static void on_arrived(void *arg, const struct burst_figures *f, const struct err *why) { conclude(arg, f, why); }

static void on_overdue(evutil_socket_t fd, short what, void *arg) {
    struct linkhost *h = arg;
    struct burst_figures f;
    (void)fd, (void)what;
    sink_figures(h->sink, &f); // what has come says enough
    conclude(h, &f, NULL);
}

struct linkhost *linkhost_start(struct serve *s, const char *node, const struct probemsg *m, struct err *e) {
    struct linkhost *h = calloc(1, sizeof *h);
    if (!h) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *h = (struct linkhost){.s = s, .n = m->n};
    snprintf(h->node, sizeof h->node, "%s", node);
    struct burst_spec spec = {.number = m->n, .bytes = m->bytes, .ns = m->ms * NS_PER_MS};
    memcpy(spec.node, h->node, sizeof spec.node);
    h->deadline = event_new(s->base, -1, 0, on_overdue, h);
    if (arm(h->deadline, m->ms + LIMIT_KV_CONNECT_MS + 2 * TAIL_MS))
        err_set(e, ERR_INTERNAL, "out of memory");
    else if ((h->sink = sink_open(cluster_transfers(s->cluster), &spec, on_arrived, h, e)) &&
             !tell(s, node, &(struct probemsg){.type = PROBEMSG_READY, .n = m->n}, e))
        return h;
    linkhost_end(h);
    return NULL;
}

void linkhost_heard(struct linkhost *h, const struct probemsg *m) {
    if (m->n != h->n || h->over) return;
    if (arm(h->deadline, TAIL_MS)) log_debug("a measurement of node %.8s is not timed", h->node);
    if (m->bytes)
        sink_await(h->sink, m->bytes);
    else
        conclude(h, &(struct burst_figures){.total = 0}, NULL); // nothing was sent
}

bool linkhost_over(const struct linkhost *h) { return h->over; }

void linkhost_end(struct linkhost *h) {
    if (!h) return;
    sink_close(h->sink);
    if (h->deadline) event_free(h->deadline);
    free(h);
}

void linkhost_refuse(struct serve *s, const char *node, uint64_t n, const struct err *why) {
    struct probemsg m = {.type = PROBEMSG_REFUSED, .n = n, .why = *why};
    struct err e;
    if (tell(s, node, &m, &e)) log_debug("node %.8s was not refused: %s", node, e.msg);
}

// The sending half of a measurement: frames for the wires of a link, as long as no rows wait for them.
#include "cluster/transfer_internal.h"

#include "base/clock.h"
#include "cluster/datalink.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { AHEAD_MS = 20, AHEAD_BYTES = 128 << 10 };

// ---------------------------------------------------------------- who else is there
static bool is_busy_held(const struct transfers *t, const char *node) {
    for (const struct outflow *f = t->outflows; f; f = f->next)
        if (f->link && !strcmp(f->spec.to, node)) return true;
    for (const struct inflow *f = t->inflows; f; f = f->next)
        if (!f->failed && !f->closed && !strcmp(f->spec.from, node)) return true;
    return false;
}

bool transfers_busy(struct transfers *t, const char *node) {
    pthread_mutex_lock(&t->lock);
    bool busy = is_busy_held(t, node);
    pthread_mutex_unlock(&t->lock);
    return busy;
}

int burst_check_held(const struct transfers *t, const struct burst_spec *s, struct err *e) {
    if (!memchr(s->node, 0, sizeof s->node) || !s->bytes || s->bytes > LIMIT_PROBE_BYTES || !s->ns ||
        s->ns > LIMIT_PROBE_SECONDS * NS_PER_S)
        return err_set(e, ERR_INVALID, "a link is measured for at most %u s", LIMIT_PROBE_SECONDS);
    if (is_busy_held(t, s->node))
        return err_set(e, ERR_BUSY, "KV rows of running jobs use the link now: try again once they are through");
    for (const struct burst *p = t->bursts; p; p = p->next)
        if (p->link && !strcmp(p->spec.node, s->node))
            return err_set(e, ERR_BUSY, "the link is being measured just now: try again later");
    return 0;
}

// ---------------------------------------------------------------- life
static struct burst *make(struct transfers *t, const struct burst_spec *spec, burst_done done, void *arg) {
    struct burst *p = calloc(1, sizeof *p);
    uint8_t *payload = malloc(LIMIT_KV_PROBE);
    if (!p || !payload) {
        free(p);
        free(payload);
        return NULL;
    }
    uint64_t z = spec->number | 1; // xorshift: nothing on the way is to find it compressible
    for (size_t i = 0; i < LIMIT_KV_PROBE; i++) {
        z ^= z << 13;
        z ^= z >> 7;
        z ^= z << 17;
        payload[i] = (uint8_t)(z >> 32);
    }
    *p = (struct burst){.t = t, .spec = *spec, .done = done, .arg = arg, .payload = payload};
    return p;
}

struct burst *burst_open(struct transfers *t, const struct burst_spec *spec, burst_done done, void *arg,
                         struct err *e) {
    struct link like;
    pthread_mutex_lock(&t->lock);
    int rc = burst_check_held(t, spec, e);
    if (!rc && sink_is_from_held(t, spec->node))
        rc = err_set(e, ERR_BUSY, "the other side is measuring the link just now: try again later");
    pthread_mutex_unlock(&t->lock);
    if (rc || outlet_find(t, spec->node, &like, e)) return NULL;
    struct burst *p = make(t, spec, done, arg);
    if (!p) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    pthread_mutex_lock(&t->lock);
    p->next = t->bursts;
    t->bursts = p;
    struct link *l = p->link = outlet_get_held(t, &like, e);
    if (l) {
        l->flows++;
        pthread_cond_broadcast(&l->work); // all its wires take part
    }
    pthread_mutex_unlock(&t->lock);
    if (l) return p; // it may be over already
    burst_free(p);
    return NULL;
}

static void leave_held(struct burst *p) {
    if (!p->link) return;
    outlet_left_held(p->link);
    p->link = NULL;
    transfers_wake_held(p->t);
}

void burst_close(struct burst *p) {
    if (!p) return;
    pthread_mutex_lock(&p->t->lock);
    p->closed = true;
    leave_held(p);
    transfers_wake_held(p->t);
    pthread_mutex_unlock(&p->t->lock);
}

void burst_free(struct burst *p) {
    struct burst **at = &p->t->bursts;
    pthread_mutex_lock(&p->t->lock);
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    pthread_mutex_unlock(&p->t->lock);
    free(p->payload);
    free(p);
}

// ---------------------------------------------------------------- its end
static void fail_held(struct burst *p, const struct err *why) {
    if (!p->link) return;
    p->failed = true;
    p->why = *why;
    leave_held(p);
}

void burst_break_held(struct link *l, const struct err *why) {
    for (struct burst *p = l->t->bursts; p; p = p->next)
        if (p->link == l) fail_held(p, why);
}

void burst_yield_held(struct transfers *t, const char *node) {
    static const struct err why = {.code = ERR_BUSY, .msg = "KV rows of a job came, and the measurement gave way"};
    for (struct burst *p = t->bursts; p; p = p->next)
        if (p->link && !strcmp(p->spec.node, node)) fail_held(p, &why);
}

void burst_settle(struct burst *p) {
    pthread_mutex_lock(&p->t->lock);
    bool over = !p->link && !p->writers, news = over && !p->closed && !p->told;
    p->told |= news;
    pthread_mutex_unlock(&p->t->lock);
    if (news) p->done(p->arg, &p->figures, p->failed ? &p->why : NULL);
    pthread_mutex_lock(&p->t->lock);
    over = p->closed && !p->writers;
    pthread_mutex_unlock(&p->t->lock);
    if (over) burst_free(p);
}

// ---------------------------------------------------------------- on the wires
static struct burst *of_link_held(const struct link *l) {
    struct burst *p = l->t->bursts;
    while (p && p->link != l) p = p->next;
    return p;
}

struct burst *burst_take_held(struct link *l) {
    struct burst *p = of_link_held(l);
    if (!p) return NULL;
    uint64_t now = clock_mono_ns();
    if (!p->begun_ns) p->begun_ns = now;
    if (now - p->begun_ns >= p->spec.ns || p->spec.bytes - p->taken < LIMIT_KV_PROBE) {
        leave_held(p);
        return NULL;
    }
    p->taken += LIMIT_KV_PROBE;
    p->writers++;
    return p;
}

// No more may wait in the sockets than leaves them soon: rows of a job that comes now would stand behind it.
static bool is_ahead_held(const struct burst *p) {
    uint64_t unsent = pace_unsent_held(p->link), written = p->figures.total;
    uint64_t since = clock_mono_ns() - p->begun_ns, span = AHEAD_MS * NS_PER_MS;
    uint64_t left = written > unsent ? written - unsent : 0;
    uint64_t soon = (uint64_t)((double)left * (double)span / (double)(since > span ? since : span));
    return since < p->spec.ns && unsent > (soon > AHEAD_BYTES ? soon : AHEAD_BYTES);
}

static void keep_pace(struct burst *p, const struct wire *w) {
    const struct timespec nap = {.tv_nsec = NS_PER_MS / 2};
    bool ahead = true;
    while (ahead && !datalink_hung_up(w->fd)) {
        pthread_mutex_lock(&p->t->lock);
        ahead = p->link && is_ahead_held(p);
        pthread_mutex_unlock(&p->t->lock);
        if (ahead) nanosleep(&nap, NULL);
    }
}

int burst_send(struct wire *w, struct burst *p, struct err *e) {
    struct transfers *t = p->t;
    struct kvframe f = {.type = KVFRAME_PROBE, .stream = p->spec.number, .length = LIMIT_KV_PROBE};
    keep_pace(p, w);
    uint64_t before = clock_cpu_ns();
    int rc = outlet_write(w, &f, p->payload, e);
    uint64_t cpu_ns = clock_cpu_ns() - before;
    pthread_mutex_lock(&t->lock);
    p->writers--;
    if (!rc) {
        p->figures.total += f.length;
        p->figures.bytes = p->figures.total;
        p->figures.ns = clock_mono_ns() - p->begun_ns;
        p->figures.cpu_ns += cpu_ns;
    }
    if (!p->link) transfers_wake_held(t);
    pthread_mutex_unlock(&t->lock);
    return rc;
}

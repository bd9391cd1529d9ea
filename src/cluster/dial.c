// The way to a member: a pause, a try, a longer pause... A connection that comes about is control_link.c's.
#include "base/clock.h"
#include "cluster/peers_internal.h"

#include <stdio.h>
#include <string.h>

static int arm(struct dial *d, long ms) {
    struct timeval t = peers_time(ms);
    return event_add(d->timer, &t);
}

static void fail(struct member *m, enum err_code code, const char *why) {
    struct err e;
    err_set(&e, code, "%s: %s", m->pub.address, why);
    if (!m->controls) member_why(m, &e);
    dial_soon(m);
}

// Another key than the member's answers at its address.
static void fail_wrong_key(struct member *m, const uint8_t *shown) {
    char text[256];
    const struct peer *other = peers_of_pin(m->peers, shown);
    if (!memcmp(shown, m->peers->pin, TLS_PIN))
        snprintf(text, sizeof text, "this node itself answers there: correct the address of %s", m->pub.name);
    else if (other)
        snprintf(text, sizeof text, "%s answers there: correct the address of %s", other->name, m->pub.name);
    else
        snprintf(text, sizeof text, "the machine there has another key than %s: it is another one, or was set up anew",
                 m->pub.name);
    fail(m, ERR_DENIED, text);
}

static void on_reached(void *arg, struct bufferevent *bev, const uint8_t *shown, const struct err *why) {
    struct member *m = arg;
    struct peers *p = m->peers;
    peers_enter(p);
    m->dial.reach = NULL;
    if (bev)
        control_open(m, bev, true);
    else if (shown)
        fail_wrong_key(m, shown);
    else
        fail(m, why->code, why->msg);
    peers_leave(p);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    struct member *m = arg;
    struct peers *p = m->peers;
    struct reach_to to = {.address = m->pub.address,
                          .tls = p->o.tls,
                          .use = TLS_CONTROL,
                          .pin = m->pub.pin,
                          .each_ms = p->timing.handshake};
    struct err e;
    (void)fd, (void)what;
    if (m->controls) return;
    m->dial.reach = reach_start(p->base, &to, on_reached, m, &e);
    if (!m->dial.reach) fail(m, e.code, e.msg);
}

static bool wanted(const struct member *m) {
    return !m->peers->freed && !m->removed && *m->pub.address && !m->controls && !m->dial.reach;
}

void dial_soon(struct member *m) {
    struct dial *d = &m->dial;
    if (!wanted(m) || event_pending(d->timer, EV_TIMEOUT, NULL)) return;
    long most = m->peers->timing.pause_most, pause = d->pause_ms;
    d->pause_ms = pause > most / 2 ? most : pause * 2;
    long apart = (long)(clock_mono_ns() % (uint64_t)(pause / 4 + 1)); // of nodes that lost each other at one moment
    if (arm(d, pause + apart)) member_why(m, &(struct err){.code = ERR_INTERNAL, .msg = "out of memory"});
}

void dial_now(struct member *m) {
    m->dial.pause_ms = m->peers->timing.pause_first;
    if (wanted(m) && arm(&m->dial, 0)) dial_soon(m);
}

void dial_stop(struct member *m) {
    reach_cancel(m->dial.reach);
    m->dial.reach = NULL;
    event_del(m->dial.timer);
}

int dial_init(struct member *m) {
    m->dial = (struct dial){.pause_ms = m->peers->timing.pause_first};
    m->dial.timer = event_new(m->peers->base, -1, 0, on_timer, m);
    return m->dial.timer ? 0 : -1;
}

void dial_free(struct member *m) {
    if (!m->dial.timer) return;
    dial_stop(m);
    event_free(m->dial.timer);
    m->dial.timer = NULL;
}

// The way to a member: pause, look its name up, connect, handshake; then control_link.c has the connection.
#include "base/address.h"
#include "base/clock.h"
#include "cluster/peers_internal.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int arm(struct dial *d, long ms) {
    struct timeval t = peers_time(ms);
    return event_add(d->timer, &t);
}

// Gives up what is under way.
static void drop_try(struct dial *d) {
    d->trying = false;
    resolve_cancel(d->lookup);
    d->lookup = NULL;
    if (d->connected) event_free(d->connected);
    d->connected = NULL;
    if (d->fd >= 0) close(d->fd);
    d->fd = -1;
    if (d->bev) {
        bufferevent_setcb(d->bev, NULL, NULL, NULL, NULL);
        bufferevent_free(d->bev);
    }
    d->bev = NULL;
}

static void fail(struct member *m, enum err_code code, const char *why) {
    struct err e;
    drop_try(&m->dial);
    event_del(m->dial.timer);
    err_set(&e, code, "%s: %s", m->pub.address, why);
    if (!m->controls) member_why(m, &e);
    dial_soon(m);
}

// ---------------------------------------------------------------- the handshake
// What was wrong with the key that the machine showed, if that was it.
static const char *wrong_key(const struct member *m, const SSL *ssl, char *text, size_t size) {
    static const uint8_t none[TLS_PIN];
    uint8_t pin[TLS_PIN];
    tls_peer_pin(ssl, pin);
    if (!memcmp(pin, none, TLS_PIN) || !memcmp(pin, m->pub.pin, TLS_PIN)) return NULL;
    const struct peer *other = peers_of_pin(m->peers, pin);
    if (!memcmp(pin, m->peers->pin, TLS_PIN))
        snprintf(text, size, "this node itself answers there: correct the address of %s", m->pub.name);
    else if (other)
        snprintf(text, size, "%s answers there: correct the address of %s", other->name, m->pub.name);
    else
        snprintf(text, size, "the machine there has another key than %s: it is another one, or was set up anew",
                 m->pub.name);
    return text;
}

static void on_shaken(struct bufferevent *bev, short what, void *arg) {
    struct member *m = arg;
    struct peers *p = m->peers;
    struct dial *d = &m->dial;
    char text[256], why[256];
    peers_enter(p);
    if (what & BEV_EVENT_CONNECTED) {
        d->bev = NULL;
        d->trying = false;
        event_del(d->timer);
        control_open(m, bev, true);
    } else if (wrong_key(m, bufferevent_openssl_get_ssl(bev), text, sizeof text))
        fail(m, ERR_DENIED, text);
    else {
        tls_why(bev, why, sizeof why);
        fail(m, ERR_UNREACHABLE, what & BEV_EVENT_ERROR ? why : "it closes the connection");
    }
    peers_leave(p);
}

static void handshake(struct member *m) {
    struct dial *d = &m->dial;
    struct err e;
    SSL *ssl = tls_client(m->peers->o.tls, TLS_CONTROL, m->pub.pin, &e);
    int fd = d->fd;
    if (ssl) {
        d->fd = -1; // the bufferevent's, also where it fails
        d->bev = tls_bufferevent(m->peers->base, fd, ssl, false, &e);
    }
    if (!d->bev)
        fail(m, e.code, e.msg);
    else
        bufferevent_setcb(d->bev, NULL, NULL, on_shaken, m);
}

// ---------------------------------------------------------------- the connection
static void on_connected(evutil_socket_t fd, short what, void *arg) {
    struct member *m = arg;
    struct dial *d = &m->dial;
    int fault = 0;
    socklen_t len = sizeof fault;
    (void)what;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &len)) fault = errno;
    event_free(d->connected);
    d->connected = NULL;
    if (fault)
        fail(m, ERR_UNREACHABLE, strerror(fault));
    else
        handshake(m);
}

static void start_connecting(struct member *m, const struct addrinfo *a) {
    struct dial *d = &m->dial;
    int on = 1;
    d->fd = socket(a->ai_family, SOCK_STREAM, 0);
    if (d->fd < 0 || evutil_make_socket_nonblocking(d->fd) || evutil_make_socket_closeonexec(d->fd) ||
        setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) ||
        (connect(d->fd, a->ai_addr, a->ai_addrlen) && errno != EINPROGRESS)) {
        fail(m, ERR_UNREACHABLE, strerror(errno));
        return;
    }
    d->connected = event_new(m->peers->base, d->fd, EV_WRITE, on_connected, m);
    if (!d->connected || event_add(d->connected, NULL)) fail(m, ERR_INTERNAL, "out of memory");
}

static void on_found(void *arg, const struct addrinfo *found, const struct err *why) {
    struct member *m = arg;
    struct dial *d = &m->dial;
    d->lookup = NULL;
    if (!found) {
        fail(m, why->code, why->msg);
        return;
    }
    unsigned count = 0;
    for (const struct addrinfo *a = found; a; a = a->ai_next) count++;
    for (unsigned turn = d->turn++ % count; turn; turn--) found = found->ai_next;
    start_connecting(m, found);
}

// ---------------------------------------------------------------- when
static void try(struct member *m) {
    struct dial *d = &m->dial;
    char host[SETTING_SIZE];
    long port;
    struct err e;
    d->trying = true;
    if (arm(d, m->peers->timing.handshake) || address_split(m->pub.address, host, &port)) {
        fail(m, ERR_INTERNAL, "it cannot be dialled");
        return;
    }
    d->lookup = resolve_start(m->peers->base, host, (uint16_t)port, on_found, m, &e);
    if (!d->lookup) fail(m, e.code, e.msg);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    struct member *m = arg;
    (void)fd, (void)what;
    if (m->dial.trying)
        fail(m, ERR_UNREACHABLE, "no answer");
    else if (!m->controls)
        try(m);
}

static bool wanted(const struct member *m) {
    const struct dial *d = &m->dial;
    return !m->peers->freed && !m->removed && *m->pub.address && !m->controls && !d->trying;
}

void dial_soon(struct member *m) {
    struct dial *d = &m->dial;
    if (!wanted(m) || event_pending(d->timer, EV_TIMEOUT, NULL)) return;
    long most = m->peers->timing.pause_most, pause = d->pause_ms;
    d->pause_ms = pause > most / 2 ? most : pause * 2;
    long apart = (long)(clock_mono_ns() % (uint64_t)(pause / 4 + 1)); // of nodes that lost each other at one moment
    if (arm(d, pause + apart)) fail(m, ERR_INTERNAL, "out of memory");
}

void dial_now(struct member *m) {
    m->dial.pause_ms = m->peers->timing.pause_first;
    m->dial.turn = 0;
    if (wanted(m) && arm(&m->dial, 0)) dial_soon(m);
}

void dial_stop(struct member *m) {
    drop_try(&m->dial);
    event_del(m->dial.timer);
}

int dial_init(struct member *m) {
    m->dial = (struct dial){.fd = -1, .pause_ms = m->peers->timing.pause_first};
    m->dial.timer = event_new(m->peers->base, -1, 0, on_timer, m);
    return m->dial.timer ? 0 : -1;
}

void dial_free(struct member *m) {
    if (!m->dial.timer) return;
    dial_stop(m);
    event_free(m->dial.timer);
    m->dial.timer = NULL;
}

#include "cluster/reach.h"
#include "base/address.h"
#include "cluster/resolve.h"

#include <errno.h>
#include <event2/bufferevent_ssl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ADDRESSES = 8 }; // of one name

struct reach {
    struct event_base *base;
    struct reach_to to;
    uint8_t pin[TLS_PIN], shown[TLS_PIN];
    bool other_key; // `shown` and why are from a machine with another key than pin
    reach_done *done;
    void *arg;
    struct resolve *lookup;
    struct sockaddr_storage found[ADDRESSES];
    socklen_t lengths[ADDRESSES];
    size_t n, next;
    int fd; // being connected, or -1
    struct event *connected, *timer;
    struct bufferevent *bev; // shaking hands
    struct err why;          // of the newest failure, or of the one with another key
};

static void drop_try(struct reach *r) {
    if (r->connected) event_free(r->connected);
    r->connected = NULL;
    if (r->fd >= 0) close(r->fd);
    r->fd = -1;
    if (r->bev) {
        bufferevent_setcb(r->bev, NULL, NULL, NULL, NULL);
        bufferevent_free(r->bev);
    }
    r->bev = NULL;
}

void reach_cancel(struct reach *r) {
    if (!r) return;
    drop_try(r);
    resolve_cancel(r->lookup);
    if (r->timer) event_free(r->timer);
    free(r);
}

static void finish(struct reach *r, struct bufferevent *bev) {
    r->bev = NULL;
    event_del(r->timer);
    if (bev) bufferevent_setcb(bev, NULL, NULL, NULL, NULL);
    r->done(r->arg, bev, r->other_key ? r->shown : NULL, bev ? NULL : &r->why);
    reach_cancel(r);
}

static void try_next(struct reach *r);

static void try_failed(struct reach *r, enum err_code code, const char *why) {
    if (!r->other_key) err_set(&r->why, code, "%s", why);
    drop_try(r);
    try_next(r);
}

// ---------------------------------------------------------------- one address
static void note_key(struct reach *r, const SSL *ssl) {
    static const uint8_t none[TLS_PIN];
    uint8_t pin[TLS_PIN];
    tls_peer_pin(ssl, pin);
    if (r->other_key || !r->to.pin || !memcmp(pin, none, TLS_PIN) || !memcmp(pin, r->pin, TLS_PIN)) return;
    memcpy(r->shown, pin, TLS_PIN);
    err_set(&r->why, ERR_DENIED, "the machine there has another key");
    r->other_key = true;
}

static void on_shaken(struct bufferevent *bev, short what, void *arg) {
    struct reach *r = arg;
    char why[256] = "it closed the connection";
    if (what & BEV_EVENT_CONNECTED) {
        finish(r, bev);
        return;
    }
    note_key(r, bufferevent_openssl_get_ssl(bev));
    if (what & BEV_EVENT_ERROR) tls_why(bev, why, sizeof why);
    try_failed(r, ERR_UNREACHABLE, why);
}

static void on_connected(evutil_socket_t fd, short what, void *arg) {
    struct reach *r = arg;
    int fault = 0;
    socklen_t len = sizeof fault;
    struct err e = {.code = ERR_NONE};
    (void)what;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &len)) fault = errno;
    if (fault) {
        try_failed(r, ERR_UNREACHABLE, strerror(fault));
        return;
    }
    event_free(r->connected);
    r->connected = NULL;
    SSL *ssl = tls_client(r->to.tls, r->to.use, r->to.pin, &e);
    if (ssl) {
        r->fd = -1; // the bufferevent's, also where it fails
        r->bev = tls_bufferevent(r->base, fd, ssl, false, &e);
    }
    if (r->bev)
        bufferevent_setcb(r->bev, NULL, NULL, on_shaken, r);
    else
        try_failed(r, e.code, e.msg);
}

static void on_late(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    try_failed(arg, ERR_UNREACHABLE, "no answer");
}

static int start_connecting(struct reach *r, const struct sockaddr *to, socklen_t len) {
    int on = 1;
    r->fd = socket(to->sa_family, SOCK_STREAM, 0);
    if (r->fd < 0 || evutil_make_socket_nonblocking(r->fd) || evutil_make_socket_closeonexec(r->fd) ||
        setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on))
        return -1;
    return connect(r->fd, to, len) && errno != EINPROGRESS ? -1 : 0;
}

static void try_next(struct reach *r) {
    struct timeval limit = {.tv_sec = r->to.each_ms / 1000, .tv_usec = r->to.each_ms % 1000 * 1000};
    if (r->next == r->n) {
        finish(r, NULL);
        return;
    }
    size_t i = r->next++;
    if (start_connecting(r, (const struct sockaddr *)&r->found[i], r->lengths[i])) {
        try_failed(r, ERR_UNREACHABLE, strerror(errno));
        return;
    }
    r->connected = event_new(r->base, r->fd, EV_WRITE, on_connected, r);
    if (!r->connected || event_add(r->connected, NULL) || event_add(r->timer, &limit))
        try_failed(r, ERR_INTERNAL, "out of memory");
}

// ---------------------------------------------------------------- the whole
static void on_found(void *arg, const struct addrinfo *found, const struct err *why) {
    struct reach *r = arg;
    r->lookup = NULL;
    if (!found) r->why = *why;
    for (const struct addrinfo *a = found; a && r->n < ADDRESSES; a = a->ai_next) {
        if (a->ai_addrlen > sizeof r->found[0]) continue;
        memcpy(&r->found[r->n], a->ai_addr, a->ai_addrlen);
        r->lengths[r->n++] = a->ai_addrlen;
    }
    try_next(r);
}

struct reach *reach_start(struct event_base *base, const struct reach_to *to, reach_done *done, void *arg,
                          struct err *e) {
    char host[SETTING_SIZE];
    long port;
    if (address_split(to->address, host, &port) || port < 1) {
        err_set(e, ERR_INVALID, "'%.100s' is not of the form HOST:PORT", to->address);
        return NULL;
    }
    struct reach *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *r = (struct reach){.base = base, .to = *to, .done = done, .arg = arg, .fd = -1};
    if (to->pin) memcpy(r->pin, to->pin, TLS_PIN);
    r->to.pin = to->pin ? r->pin : NULL;
    r->to.address = NULL; // not kept
    err_set(&r->why, ERR_UNREACHABLE, "it has no address that can be used");
    if (!(r->timer = event_new(base, -1, 0, on_late, r)))
        err_set(e, ERR_INTERNAL, "out of memory");
    else if ((r->lookup = resolve_start(base, host, (uint16_t)port, on_found, r, e)))
        return r;
    reach_cancel(r);
    return NULL;
}

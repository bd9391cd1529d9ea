#include "serve/pair_dial.h"
#include "base/address.h"
#include "base/limits.h"
#include "cluster/resolve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ADDRESSES = 8, TRY_SECONDS = 4 }; // of one name; time for one of them

struct pair_dial {
    struct event_base *base;
    struct tls *tls;
    pair_dialled *done;
    void *arg;
    struct resolve *lookup;
    struct sockaddr_storage found[ADDRESSES];
    socklen_t lengths[ADDRESSES];
    size_t n, next;
    int fd; // being connected, or -1
    struct event *connected, *timer;
    struct bufferevent *bev; // shaking hands
    struct err why;          // of the newest failure
};

static void drop_try(struct pair_dial *d) {
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

void pair_dial_cancel(struct pair_dial *d) {
    if (!d) return;
    drop_try(d);
    resolve_cancel(d->lookup);
    if (d->timer) event_free(d->timer);
    free(d);
}

static void finish(struct pair_dial *d, struct bufferevent *bev) {
    d->bev = NULL;
    d->done(d->arg, bev, bev ? NULL : &d->why);
    pair_dial_cancel(d);
}

static void try_next(struct pair_dial *d);

static void try_failed(struct pair_dial *d, const char *why) {
    err_set(&d->why, ERR_UNREACHABLE, "%s", why);
    drop_try(d);
    try_next(d);
}

static void on_shaken(struct bufferevent *bev, short what, void *arg) {
    struct pair_dial *d = arg;
    char why[256] = "it closed the connection";
    if (what & BEV_EVENT_CONNECTED) {
        bufferevent_setcb(bev, NULL, NULL, NULL, NULL);
        finish(d, bev);
        return;
    }
    if (what & BEV_EVENT_ERROR) tls_why(bev, why, sizeof why);
    try_failed(d, why);
}

static void on_connected(evutil_socket_t fd, short what, void *arg) {
    struct pair_dial *d = arg;
    int fault = 0;
    socklen_t len = sizeof fault;
    struct err e = {.code = ERR_NONE};
    (void)what;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &len)) fault = errno;
    if (fault) {
        try_failed(d, strerror(fault));
        return;
    }
    event_free(d->connected);
    d->connected = NULL;
    SSL *ssl = tls_client(d->tls, TLS_PAIR, NULL, &e);
    if (ssl) d->fd = -1; // the bufferevent's, also where it fails
    if (ssl) d->bev = tls_bufferevent(d->base, fd, ssl, false, &e);
    if (d->bev)
        bufferevent_setcb(d->bev, NULL, NULL, on_shaken, d);
    else
        try_failed(d, e.msg);
}

static void on_late(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    try_failed(arg, "no answer");
}

static void try_next(struct pair_dial *d) {
    struct timeval limit = {.tv_sec = TRY_SECONDS};
    if (d->next == d->n) {
        finish(d, NULL);
        return;
    }
    const struct sockaddr *to = (const struct sockaddr *)&d->found[d->next];
    socklen_t len = d->lengths[d->next++];
    d->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (d->fd < 0 || (connect(d->fd, to, len) && errno != EINPROGRESS)) {
        try_failed(d, strerror(errno));
        return;
    }
    d->connected = event_new(d->base, d->fd, EV_WRITE, on_connected, d);
    if (!d->connected || event_add(d->connected, NULL) || event_add(d->timer, &limit)) try_failed(d, "out of memory");
}

static void on_found(void *arg, const struct addrinfo *found, const struct err *why) {
    struct pair_dial *d = arg;
    d->lookup = NULL;
    if (why && !found) d->why = *why;
    for (const struct addrinfo *a = found; a && d->n < ADDRESSES; a = a->ai_next) {
        memcpy(&d->found[d->n], a->ai_addr, a->ai_addrlen);
        d->lengths[d->n++] = a->ai_addrlen;
    }
    try_next(d);
}

struct pair_dial *pair_dial_start(struct event_base *base, struct tls *tls, const char *address, pair_dialled *done,
                                  void *arg, struct err *e) {
    char host[SETTING_SIZE];
    long port;
    if (address_split(address, host, &port) || port < 1) {
        err_set(e, ERR_INVALID, "'%.100s' is not of the form HOST:PORT", address);
        return NULL;
    }
    struct pair_dial *d = calloc(1, sizeof *d);
    if (!d) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *d = (struct pair_dial){.base = base, .tls = tls, .done = done, .arg = arg, .fd = -1};
    if (!(d->timer = event_new(base, -1, 0, on_late, d)))
        err_set(e, ERR_INTERNAL, "out of memory");
    else if ((d->lookup = resolve_start(base, host, (uint16_t)port, on_found, d, e)))
        return d;
    pair_dial_cancel(d);
    return NULL;
}

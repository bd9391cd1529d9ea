#include "serve/pair_link.h"
#include "base/limits.h"
#include "engine/protocol.h"
#include "net/tls.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

_Static_assert((int)TLS_PIN == (int)IDENTITY_PIN, "a pin is a pin");

struct pair_link {
    struct bufferevent *bev;
    struct event *deadline;
    struct pair_link_events ev;
    void *arg;
    size_t message_max;
    bool handling, closed, freed; // freed: pair_link_free was called while handling
    struct pair_links *lingering; // where it is, once it only finishes
    TAILQ_ENTRY(pair_link) next;
};

static void destroy(struct pair_link *l) {
    if (l->lingering) TAILQ_REMOVE(l->lingering, l, next);
    if (l->deadline) event_free(l->deadline);
    if (l->bev) {
        bufferevent_setcb(l->bev, NULL, NULL, NULL, NULL);
        bufferevent_free(l->bev);
    }
    free(l);
}

void pair_link_free(struct pair_link *l) {
    if (!l) return;
    l->closed = l->freed = true;
    if (!l->handling) destroy(l);
}

void pair_links_free(struct pair_links *all) {
    for (struct pair_link *l = TAILQ_FIRST(all), *next; l; l = next) {
        next = TAILQ_NEXT(l, next);
        pair_link_free(l);
    }
}

static void end(struct pair_link *l, const struct err *why) {
    if (l->closed) return;
    l->closed = true;
    event_del(l->deadline);
    bufferevent_disable(l->bev, EV_READ | EV_WRITE);
    l->ev.closed(l->arg, why);
}

// Around everything the loop calls.
static void leave(struct pair_link *l) {
    l->handling = false;
    if (l->freed) destroy(l);
}

static void handle_frames(struct pair_link *l) {
    struct evbuffer *in = bufferevent_get_input(l->bev);
    struct err why = {.code = ERR_NONE};
    while (!l->closed) {
        json_t *msg;
        size_t used, n = evbuffer_get_length(in);
        const char *data = (const char *)evbuffer_pullup(in, -1);
        int rc = n && data ? frame_take(data, n, l->message_max, &msg, &used, &why) : 0;
        if (!rc) return;
        if (rc > 0) {
            evbuffer_drain(in, used);
            rc = l->ev.message(l->arg, msg, &why);
            json_decref(msg);
        }
        if (rc < 0) end(l, &why);
    }
}

static void on_read(struct bufferevent *bev, void *arg) {
    struct pair_link *l = arg;
    (void)bev;
    l->handling = true;
    handle_frames(l);
    leave(l);
}

// Once it only lingers: everything has left.
static void on_written(struct bufferevent *bev, void *arg) {
    struct pair_link *l = arg;
    (void)bev;
    if (l->lingering) destroy(l);
}

static void on_event(struct bufferevent *bev, short what, void *arg) {
    struct pair_link *l = arg;
    struct err why;
    char text[256] = "it closed the connection";
    if (l->lingering) {
        destroy(l);
        return;
    }
    if (what & BEV_EVENT_ERROR) tls_why(bev, text, sizeof text);
    err_set(&why, ERR_UNREACHABLE, "%s", text);
    l->handling = true;
    handle_frames(l); // its last words
    end(l, &why);
    leave(l);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg) {
    struct pair_link *l = arg;
    struct err why;
    (void)fd, (void)what;
    if (l->lingering) {
        destroy(l);
        return;
    }
    err_set(&why, ERR_UNREACHABLE, "it did not answer in time");
    l->handling = true;
    end(l, &why);
    leave(l);
}

void pair_link_wait(struct pair_link *l, unsigned seconds) {
    struct timeval limit = {.tv_sec = (time_t)seconds};
    if (event_add(l->deadline, &limit)) bufferevent_trigger_event(l->bev, BEV_EVENT_ERROR, BEV_OPT_DEFER_CALLBACKS);
}

struct pair_link *pair_link_new(struct event_base *base, struct bufferevent *bev, size_t message_max,
                                const struct pair_link_events *ev, void *arg, struct err *e) {
    struct pair_link *l = calloc(1, sizeof *l);
    if (!l) {
        bufferevent_free(bev);
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *l = (struct pair_link){.bev = bev, .ev = *ev, .arg = arg, .message_max = message_max};
    l->deadline = event_new(base, -1, 0, on_deadline, l);
    if (!l->deadline || bufferevent_enable(bev, EV_READ | EV_WRITE)) {
        err_set(e, ERR_INTERNAL, "out of memory");
        destroy(l);
        return NULL;
    }
    bufferevent_setwatermark(bev, EV_READ, 0, FRAME_HEAD + message_max); // reads no more than one message ahead
    bufferevent_setcb(bev, on_read, on_written, on_event, l);
    pair_link_wait(l, LIMIT_PAIR_SECONDS);
    // what came with the end of the handshake is there already
    bufferevent_trigger(bev, EV_READ, BEV_OPT_DEFER_CALLBACKS);
    return l;
}

void pair_link_finish(struct pair_link *l, struct pair_links *lingering) {
    if (!l) return;
    if (l->closed || !evbuffer_get_length(bufferevent_get_output(l->bev))) {
        pair_link_free(l);
        return;
    }
    l->closed = true;
    l->lingering = lingering;
    TAILQ_INSERT_TAIL(lingering, l, next);
    pair_link_wait(l, LIMIT_PAIR_SECONDS);
}

int pair_link_send(struct pair_link *l, json_t *msg, struct err *e) {
    struct buf frame;
    buf_init(&frame, LIMIT_ROSTER_MESSAGE + FRAME_HEAD);
    int bad = !msg || frame_append(&frame, msg) || bufferevent_write(l->bev, frame.data, frame.len);
    buf_free(&frame);
    json_decref(msg);
    return bad ? err_set(e, ERR_INTERNAL, "a message cannot be sent: out of memory") : 0;
}

int pair_link_facts(const struct pair_link *l, const uint8_t own_pin[IDENTITY_PIN], bool inviter,
                    struct pairing_link *out, struct err *e) {
    SSL *ssl = bufferevent_openssl_get_ssl(l->bev);
    memcpy(inviter ? out->inviter : out->joiner, own_pin, IDENTITY_PIN);
    tls_peer_pin(ssl, inviter ? out->joiner : out->inviter);
    return tls_exporter(ssl, out->exporter, e);
}

int pair_link_host(const struct pair_link *l, char *out, size_t size) {
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    char text[INET6_ADDRSTRLEN];
    if (getsockname(bufferevent_getfd(l->bev), (struct sockaddr *)&a, &len)) return -1;
    bool six = a.ss_family == AF_INET6;
    const void *where = six ? (const void *)&((const struct sockaddr_in6 *)(const void *)&a)->sin6_addr
                            : (const void *)&((const struct sockaddr_in *)(const void *)&a)->sin_addr;
    if (!inet_ntop(a.ss_family, where, text, sizeof text)) return -1;
    return snprintf(out, size, six ? "[%s]" : "%s", text) < (int)size ? 0 : -1;
}

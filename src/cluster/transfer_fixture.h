// For tests and benches: nodes in one process that stream KV rows to each other over loopback.
#pragma once

#include "cluster/transfer.h"
#include "net/tls_fixture.h"

#include <arpa/inet.h>
#include <event2/listener.h>
#include <stdio.h>
#include <unistd.h>

enum { SIDES = 2 };

struct side {
    struct side *sides; // both
    struct fixture_node key;
    char id[NODE_ID];
    struct event_base *base;
    struct evconnlistener *listener;
    uint16_t port;
    struct transfers *t;
    struct arena *arena;
    int accepted;
    bool deaf;         // accepts connections and never says a word
    const char *guise; // the node that all connections to it are taken to come from; NULL = the real one
    unsigned frame_ms; // of transfers_options
};

static inline bool side_trusts(void *arg, const uint8_t pin[TLS_PIN]) {
    const struct side *s = arg;
    for (int i = 0; i < SIDES; i++)
        if (!memcmp(s->sides[i].key.pin, pin, TLS_PIN)) return true;
    return false;
}

static inline int side_find(void *arg, const char *node, char *host, size_t size, uint16_t *port,
                            uint8_t pin[TLS_PIN]) {
    const struct side *s = arg;
    for (int i = 0; i < SIDES; i++) {
        if (strcmp(s->sides[i].id, node)) continue;
        snprintf(host, size, "127.0.0.1");
        *port = s->sides[i].port;
        memcpy(pin, s->sides[i].key.pin, TLS_PIN);
        return 0;
    }
    return -1;
}

static inline void side_shaken(struct bufferevent *bev, short what, void *arg) {
    struct side *s = arg;
    uint8_t pin[TLS_PIN];
    if (!(what & BEV_EVENT_CONNECTED)) {
        bufferevent_free(bev);
        return;
    }
    int fd;
    SSL *ssl = tls_detach(bev, &fd);
    tls_peer_pin(ssl, pin);
    s->accepted++;
    for (int i = 0; i < SIDES; i++)
        if (!memcmp(s->sides[i].key.pin, pin, TLS_PIN))
            transfers_accept(s->t, s->guise ? s->guise : s->sides[i].id, ssl, fd);
}

static inline void side_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *a, int n, void *arg) {
    struct side *s = arg;
    struct err e;
    (void)l, (void)a, (void)n;
    if (s->deaf) return; // the descriptor goes with the process
    SSL *ssl = tls_server(s->key.tls, &e);
    struct bufferevent *bev = ssl ? tls_bufferevent(s->base, fd, ssl, true, &e) : NULL;
    if (!bev) abort();
    bufferevent_setcb(bev, NULL, NULL, side_shaken, s);
    if (bufferevent_enable(bev, EV_READ | EV_WRITE)) abort();
}

static inline void side_start(struct side *s, int connections, uint64_t rekey_bytes) {
    struct transfers_options o = {
        .connections = connections, .rekey_bytes = rekey_bytes, .frame_ms = s->frame_ms, .find = side_find, .arg = s};
    struct err e;
    s->t = transfers_new(s->base, s->key.tls, &o, &e);
    if (!s->t) abort();
}

static inline void side_init(struct side *s, struct side *both, int index, struct event_base *base, int connections,
                             uint64_t rekey_bytes) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    *s = (struct side){.sides = both, .base = base};
    fixture_node_init(&s->key);
    tls_trust(s->key.tls, side_trusts, s);
    snprintf(s->id, sizeof s->id, "%032d", index + 1);
    s->listener = evconnlistener_new_bind(base, side_accept, s, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 16,
                                          (struct sockaddr *)&at, sizeof at);
    if (!s->listener || getsockname(evconnlistener_get_fd(s->listener), (struct sockaddr *)&at, &size)) abort();
    s->port = ntohs(at.sin_port);
    side_start(s, connections, rekey_bytes);
}

static inline void side_share(struct side *s, const struct kv_shape *shape, size_t bytes) {
    struct err e;
    s->arena = arena_new(&e);
    if (!s->arena || arena_size(s->arena, shape, bytes, &e)) abort();
}

static inline void side_close(struct side *s) {
    transfers_free(s->t);
    if (s->listener) evconnlistener_free(s->listener);
    arena_unref(s->arena);
    fixture_node_close(&s->key);
}

// Both sides, the alarm against hanging tests, and the loop.
static inline int sides_end(struct side *both, struct event *hang, struct event_base *base) {
    for (int i = 0; i < SIDES; i++) side_close(&both[i]);
    event_free(hang);
    if (event_base_loop(base, EVLOOP_NONBLOCK) < 0) return -1;
    event_base_free(base);
    return 0;
}

// For tests: a node that counts what it is told.
#pragma once

#include "base/address.h"
#include "base/clock.h"
#include "cluster/peers_internal.h"
#include "engine/protocol.h"
#include "net/tls_fixture.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>

struct node {
    struct fixture_node key;
    struct peers *p;
    char id[NODE_ID], name[PEERS_NAME], address[PEERS_ADDRESS];
    uint16_t port;
    bool calling; // inside one of the test's calls: nothing may be told
    unsigned ups, downs, messages, datas, pairs;
    struct err why;  // of the latest down
    json_int_t last; // number of the latest message
    size_t longest;  // text of a message
    bool disordered; // a message came that did not follow the one before
    bool echo;       // messages are sent back
    char down_id[NODE_ID];
    SSL *ssl; // of the latest data connection
    int fd;
    struct bufferevent *pair;
    void (*react)(struct node *n, const struct peer *p); // in every callback
};

static inline void fixture_told(struct node *n, const struct peer *p) {
    assert_false(n->calling);
    if (n->react) n->react(n, p);
}

static inline void fixture_up(void *arg, const struct peer *p) {
    struct node *n = arg;
    assert_true(p->up);
    assert_non_null(p->hello);
    assert_non_null(json_object_get(p->hello, "is"));
    n->ups++;
    n->last = 0;
    fixture_told(n, p);
}

static inline void fixture_down(void *arg, const struct peer *p, const struct err *why) {
    struct node *n = arg;
    assert_false(p->up);
    n->downs++;
    n->why = *why;
    snprintf(n->down_id, sizeof n->down_id, "%s", p->id);
    fixture_told(n, p);
}

static inline void fixture_message(void *arg, const struct peer *p, const json_t *msg) {
    struct node *n = arg;
    json_int_t number = json_integer_value(json_object_get(msg, "n"));
    const char *text = json_string_value(json_object_get(msg, "text"));
    assert_true(p->up);
    n->messages++;
    if (number != n->last + 1) n->disordered = true;
    n->last = number;
    if (text && strlen(text) > n->longest) n->longest = strlen(text);
    if (n->echo) assert_int_equal(peers_send(n->p, p, msg, NULL), 0);
    fixture_told(n, p);
}

static inline void fixture_data(void *arg, const struct peer *p, SSL *ssl, int fd) {
    struct node *n = arg;
    n->datas++;
    n->ssl = ssl;
    n->fd = fd;
    fixture_told(n, p);
}

static inline void fixture_pair(void *arg, struct bufferevent *bev) {
    struct node *n = arg;
    n->pairs++;
    n->pair = bev;
    fixture_told(n, NULL);
}

static inline json_t *fixture_hello(void *arg) {
    const struct node *n = arg;
    return json_pack("{s:s}", "is", n->name);
}

// 10 ms to 80 ms between tries; no silence, so that a busy machine does no harm.
static const struct peers_timing fixture_timing = {
    .pause_first = 10, .pause_most = 80, .beat = 20, .silent = 60000, .handshake = 10000, .frame = 10000};

static inline void fixture_open(struct event_base *base, struct node *n, uint16_t port) {
    static const struct peers_events ev = {
        .up = fixture_up, .down = fixture_down, .message = fixture_message, .data = fixture_data, .pair = fixture_pair};
    struct peers_options o = {.tls = n->key.tls, .hello = fixture_hello, .arg = n};
    struct err e = {.code = ERR_NONE};
    snprintf(o.id, sizeof o.id, "%s", n->id);
    snprintf(o.name, sizeof o.name, "%s", n->name);
    n->p = peers_new(base, &o, &ev, &e);
    if (!n->p || peers_listen(n->p, "127.0.0.1", port, &n->port, &e)) fail_msg("%s", e.msg);
    peers_set_timing(n->p, &fixture_timing);
    snprintf(n->address, sizeof n->address, "127.0.0.1:%u", n->port);
}

static inline void fixture_add(struct node *n, const struct node *other, const char *address) {
    struct err e;
    n->calling = true;
    if (peers_add(n->p, other->id, other->name, other->key.pin, address, &e)) fail_msg("%s", e.msg);
    n->calling = false;
}

static inline bool fixture_is_up(const struct node *n, const struct node *other) {
    const struct peer *p = peers_find(n->p, other->id);
    return p && p->up;
}

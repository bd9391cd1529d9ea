// A TLS connection to HOST:PORT: the name is looked up, its addresses are tried one after another, hands are shaken.
// Threads: the event-loop thread.
#pragma once

#include "net/tls.h"
#include <event2/event.h>

struct reach;
struct reach_to {
    const char *address; // HOST:PORT
    struct tls *tls;
    enum tls_use use;
    const uint8_t *pin; // the only key accepted; NULL, with TLS_PAIR only: any
    long each_ms;       // time for one of the name's addresses
};

// Called once, from the loop: with a handshaken bufferevent, the callee's now and without callbacks, or with NULL and
// why; `shown` is then the pin of a machine that answers there with another key, NULL where none did. The handle is
// gone afterwards.
typedef void reach_done(void *arg, struct bufferevent *bev, const uint8_t *shown, const struct err *why);
struct reach *reach_start(struct event_base *base, const struct reach_to *to, reach_done *done, void *arg,
                          struct err *e) MUST_USE; // what `to` points to is copied, but for tls
void reach_cancel(struct reach *r);                // `done` is not called; NULL is fine

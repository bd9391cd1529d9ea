// The way to a machine whose key is not known: a name looked up, its addresses tried one after another, TLS shaken
// hands as TLS_PAIR. Threads: the event-loop thread.
#pragma once

#include "net/tls.h"
#include <event2/event.h>

struct pair_dial;

// Called once, from the loop: with a handshaken bufferevent (the callee's now), or with NULL and why. The handle is
// gone then.
typedef void pair_dialled(void *arg, struct bufferevent *bev, const struct err *why);

struct pair_dial *pair_dial_start(struct event_base *base, struct tls *tls, const char *address, pair_dialled *done,
                                  void *arg, struct err *e) MUST_USE;
void pair_dial_cancel(struct pair_dial *d); // `done` is not called; NULL is fine

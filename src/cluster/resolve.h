// Host names to addresses without holding up the event loop: by getaddrinfo, which alone knows the hosts file, DNS and
// the local network's names (mDNS through nsswitch), on a thread that lives as long as the question. Numeric addresses
// need no thread. Threads: the event-loop thread.
#pragma once

#include "base/err.h"
#include <event2/event.h>
#include <netdb.h>
#include <stdint.h>

struct resolve;

// `done` is called once, from the loop: with TCP addresses, which are freed when it returns, or with NULL and why. The
// handle is gone then. ERR_BUSY where LIMIT_PEER_LOOKUPS threads wait for answers already.
typedef void resolve_done(void *arg, const struct addrinfo *found, const struct err *why);
struct resolve *resolve_start(struct event_base *base, const char *host, uint16_t port, resolve_done *done, void *arg,
                              struct err *e) MUST_USE;
void resolve_cancel(struct resolve *r); // `done` is not called; a thread that still waits ends by itself; NULL is fine

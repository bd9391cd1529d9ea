// The sockets of multicast DNS: one for each interface and family, bound to the group's address, so that they hear what
// is sent to the group alone (other responders of this host keep their unicast). Threads: the event-loop thread.
#pragma once

#include "base/err.h"
#include "discover/mdns.h"
#include <event2/event.h>

// Interfaces that are up, can multicast and are no loopback, with their addresses: those for others first.
struct interface {
    unsigned number;
    char name[16];
    struct mdns_address own[MDNS_ADDRESSES];
    size_t n_own, n_told;
};
// Which of a node's addresses others are told: those at which it listens.
struct multicast_filter {
    unsigned families;
    bool one; // only this one, in families
    struct mdns_address only;
};
// Returns how many, at most max.
size_t multicast_interfaces(const struct multicast_filter *f, struct interface *out, size_t max);

struct multicast;
typedef void multicast_heard(void *arg, unsigned link, const struct mdns_from *from, const void *data, size_t n);
struct multicast *multicast_new(struct event_base *base, multicast_heard *heard, void *arg); // NULL: out of memory
void multicast_free(struct multicast *x);

// Opens sockets on those interfaces and closes others. Failures are logged once per interface, until it works again.
void multicast_set(struct multicast *x, const struct interface *list, size_t n);
void multicast_send(struct multicast *x, unsigned link, unsigned families, const struct mdns_from *to, const void *data,
                    size_t n);
bool multicast_works(const struct multicast *x); // on one interface, at least

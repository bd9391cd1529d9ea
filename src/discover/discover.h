// Discovery: who else runs Nebulus on the networks of this machine, and that this node does. What is heard is hearsay:
// whom to trust is decided elsewhere. Threads: the event-loop thread.
#pragma once

#include "base/err.h"
#include "discover/mdns.h"
#include "discover/multicast.h"

struct discover;
struct discover *discover_new(struct event_base *base, struct err *e) MUST_USE;
void discover_free(struct discover *d); // says goodbye first; NULL is fine

// What this node says of itself, and which of its addresses go with it. May be called often: only changes matter.
void discover_publish(struct discover *d, const struct about *about, uint16_t port, const struct multicast_filter *f);

size_t discover_nodes(const struct discover *d, struct mdns_node *out, size_t max);
void discover_count(const struct discover *d, struct mdns_counts *out);
bool discover_works(const struct discover *d); // on one interface, at least

// A place as HOST:PORT (HOST where the port is 0) that base/address and getaddrinfo take ("[fe80::1%eth0]:7421").
enum { DISCOVER_ADDRESS = 96 };
void discover_address(const struct mdns_place *p, uint16_t port, char out[DISCOVER_ADDRESS]);

// What the daemon makes of discovery: it tells the network what this node is, lists whom it hears of, and offers the
// addresses of members that are down to be tried. Nobody is trusted for what is heard: whoever answers at such an
// address must have the member's key. One per daemon. Threads: the event-loop thread only.
#pragma once

#include "base/err.h"
#include "serve/serve.h"
#include "trust/keys.h"

struct discovery;
struct discovery *discovery_new(struct serve *s, struct err *e) MUST_USE; // NULL without an error: it is turned off
void discovery_free(struct discovery *d);                                 // before the cluster; NULL is fine

// d may be NULL in these.
json_t *discovery_nodes_json(const struct discovery *d);  // [{name, instance, state, member, ...}], all shown escaped
json_t *discovery_status_json(const struct discovery *d); // {state, instance, ...}
// An address at which a member that is down may be: turn after turn (0, 1, 2, ...) of another one, fairly, so that
// liars crowd nobody out (discover/turn.h). False: there is none in this turn.
bool discovery_candidate(const struct discovery *d, size_t turn, char out[ROSTER_ADDRESS]);
// An address of those who say that they are of the cluster with this root (SHA-256 of its key), likewise.
bool discovery_of_cluster(const struct discovery *d, const uint8_t root[DIGEST_BYTES], size_t turn,
                          char out[ROSTER_ADDRESS]);

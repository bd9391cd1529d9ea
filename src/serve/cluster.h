// This node as a member of a cluster: its identity and the roster, kept in the state directory; the links to the other
// members; pairing; the roster's way from node to node. One per daemon. Threads: the event-loop thread only; no
// callback comes from inside a call.
//
// A daemon takes part where its state directory holds a membership and no other daemon of the same home does; else
// cluster_peers and the like are NULL. A membership may begin (found, join) and end (leave, revoked) at any time; the
// peers and transfers that it made stay until cluster_free, without members.
#pragma once

#include "base/paths.h"
#include "cluster/peers.h"
#include "cluster/transfer.h"
#include "trust/roster.h"

struct serve;
struct cluster;

// Of s it uses base, settings and models. What is wrong with a kept membership is logged, shown in `nodes`, and no
// reason not to start; bad settings (cluster, name, peers) are.
struct cluster *cluster_new(struct serve *s, const struct paths *p, struct err *e) MUST_USE;
void cluster_free(struct cluster *c); // after all flows and whatever else uses its peers; NULL is fine

// c may be NULL in these: as where this node is no member.
struct peers *cluster_peers(const struct cluster *c);            // NULL: never was a member
struct transfers *cluster_transfers(const struct cluster *c);    // likewise
const struct roster *cluster_roster(const struct cluster *c);    // NULL: no member
const char *cluster_own_name(const struct cluster *c);           // this node's, also where it is no member
const struct roster_node *cluster_self(const struct cluster *c); // this node as the roster has it; NULL: no member
const struct peer *cluster_find(const struct cluster *c, const char *id_or_name); // another member; NULL: none such

const char *cluster_role(const struct cluster *c, const char *id); // the roster's word: "auto", "prime", "edge"

EVP_PKEY *cluster_signer(const struct cluster *c); // this node's audit key; NULL: it never was a member

// The session (serve/tickets.h) that another member has told; "" = none, while its link is down. Borrowed likewise.
const char *cluster_session(const struct cluster *c, const char *id);

// What a peer has last said about its models, [{name, state, contract, weights}]; NULL while its link is down.
// Borrowed until the loop goes on.
const json_t *cluster_models_of(const struct cluster *c, const struct peer *p);
const json_t *cluster_links_of(const struct cluster *c, const struct peer *p); // likewise, {id: {bytes_s, rtt_s}}

// What the rest of the daemon hears of the links. One listener; members may be NULL. `message` gets every type that is
// not the membership's own ("roster", "left", "state"); of nodes that are no members nothing is heard.
struct cluster_events {
    void (*up)(void *arg, const struct peer *p);
    void (*down)(void *arg, const struct peer *p, const struct err *why);
    void (*message)(void *arg, const struct peer *p, const json_t *msg);
};
void cluster_listen(struct cluster *c, const struct cluster_events *ev, void *arg); // ev is copied

_Static_assert((int)TLS_PIN == (int)IDENTITY_PIN && (int)NODE_ID == (int)IDENTITY_ID, "one meaning of pin and id");
_Static_assert((int)PEERS_NAME >= (int)ROSTER_NAME && (int)PEERS_ADDRESS >= (int)ROSTER_ADDRESS, "rosters fit");

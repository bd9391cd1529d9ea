// The control links of this node: one TLS connection to every other member, kept up as long as both are there. They
// carry frames of a 32-bit length and a JSON object (the framing of engine/protocol.h); messages whose "t" begins with
// "peer." are the link's own (cluster/linkmsg.h). Threads: the event-loop thread. Every callback runs there, never from
// inside a call, and may call everything here, peers_free too.
//
// A member is dialled where its address is known, again and again with a growing pause (0.25 s to 5 s; short again
// after a link that lasted). Each side says hello (a refused TLS 1.3 client believes that it is connected); then the
// side with the smaller id decides: of connections between the same two the first stays, and one that is up gives way
// only to a peer that has lost it or was started anew. A link is probed every PEERS_BEAT_MS and down after
// PEERS_SILENT_MS without a byte; a reset is noticed at once. A peer that breaks the protocol is dropped and left alone
// for the longest pause; so is one whose message drips: it has LIMIT_PEER_FRAME_SECONDS from its first byte on, and
// what its length takes at LIMIT_PEER_RATE_LEAST. Incoming TLS_DATA connections are passed on; TLS_PAIR ones too, as
// the only ones an unknown machine can have. Unfinished handshakes beyond LIMIT_PEER_HANDSHAKES: the address that has
// most of them gives up its oldest, and addresses at which a member's link came up give up none as long as there are
// others. An address that comes more often than LIMIT_PEER_RATE is turned away before its handshake, which is what
// costs.
#pragma once

#include "base/err.h"
#include "cluster/transfer.h"
#include "net/tls.h"
#include <jansson.h>
#include <stdbool.h>

enum { PEERS_BEAT_MS = 500, PEERS_SILENT_MS = 1800, PEERS_MOST = 64, PEERS_NAME = 64, PEERS_ADDRESS = 280 };

struct peer { // read-only for others
    char id[NODE_ID], name[PEERS_NAME];
    uint8_t pin[TLS_PIN];
    char address[PEERS_ADDRESS]; // HOST:PORT, "" = not known: it must dial
    bool up;
    uint64_t since_ns;   // of `up`
    uint64_t rtt_ns;     // smallest of the latest probes; 0 = none
    const json_t *hello; // what it said about itself when the link came up; NULL once `down` was told
    struct err why;      // why it is down; code ERR_NONE where it was never tried
};

struct peers;
struct peers_events {
    void (*up)(void *arg, const struct peer *p);
    void (*down)(void *arg, const struct peer *p, const struct err *why); // was up
    void (*message)(void *arg, const struct peer *p, const json_t *msg);
    void (*data)(void *arg, const struct peer *p, SSL *ssl, int fd); // theirs now
    void (*pair)(void *arg, struct bufferevent *bev);                // theirs now; handshaken
};
struct peers_options {
    char id[NODE_ID], name[PEERS_NAME]; // this node
    struct tls *tls;                    // its tls_trust is taken over
    json_t *(*hello)(void *arg); // what this node says about itself, a new reference to an object; calls nothing here
    void *arg;                   // of hello and events
};
struct peers *peers_new(struct event_base *base, const struct peers_options *o, const struct peers_events *ev,
                        struct err *e) MUST_USE;
void peers_free(struct peers *p); // closes all links without telling

int peers_listen(struct peers *p, const char *host, uint16_t port, uint16_t *bound, struct err *e) MUST_USE;

// A member is known from now on and dialled where `address` is not "". Known ones are updated (a changed pin drops the
// link). Fails with ERR_LIMIT beyond PEERS_MOST, and with ERR_INVALID for this node itself or another member's key.
int peers_add(struct peers *p, const char *id, const char *name, const uint8_t pin[TLS_PIN], const char *address,
              struct err *e) MUST_USE;
// Drops its link; `down` follows, with a struct peer that is no member any more and gone afterwards.
void peers_remove(struct peers *p, const char *id, const char *why);
const struct peer *peers_find(const struct peers *p, const char *id_or_name);   // NULL: unknown
const struct peer *peers_next(const struct peers *p, const struct peer *after); // NULL begins, and ends, the round
const struct peer *peers_of_pin(const struct peers *p, const uint8_t pin[TLS_PIN]);

// Copies msg. Fails with ERR_UNREACHABLE where the link is down, ERR_LIMIT beyond LIMIT_PEER_MESSAGE bytes; a link on
// which more than LIMIT_PEER_BACKLOG bytes wait already is dropped.
int peers_send(struct peers *p, const struct peer *to, const json_t *msg, struct err *e) MUST_USE;

// Ends the link, where it is up; `down` follows with `why`, and the member is dialled again.
void peers_cut(struct peers *p, const struct peer *to, const struct err *why);

// For tests: other waits, in milliseconds, for what begins from now on.
struct peers_timing {
    long pause_first, pause_most, beat, silent, handshake, frame;
};
void peers_set_timing(struct peers *p, const struct peers_timing *t);

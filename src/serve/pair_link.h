// A pairing connection: JSON objects in the frames of engine/protocol.h, over a TLS connection with a machine that is
// not known yet. Bounded in what it reads and in how long it waits. Threads: the event-loop thread.
#pragma once

#include "base/err.h"
#include "trust/pairing.h"
#include <event2/bufferevent.h>
#include <jansson.h>
#include <sys/queue.h>

struct pair_link;
TAILQ_HEAD(pair_links, pair_link);
struct pair_link_events {
    // -1 (err filled): the other side broke the protocol; `closed` follows with that reason.
    int (*message)(void *arg, const json_t *msg, struct err *e);
    // It is of no more use: broken, too late, or just closed by the other side (ERR_UNREACHABLE). At most once.
    void (*closed)(void *arg, const struct err *why);
};

// Takes bev over, handshaken, also when it fails. The first message must come within LIMIT_PAIR_SECONDS.
struct pair_link *pair_link_new(struct event_base *base, struct bufferevent *bev, size_t message_max,
                                const struct pair_link_events *ev, void *arg, struct err *e) MUST_USE;
void pair_link_free(struct pair_link *l); // also from inside its callbacks; NULL is fine
// Frees it as soon as what was sent has left; no callbacks any more. Until then it is in `lingering`, whose owner frees
// it earlier where need be.
void pair_link_finish(struct pair_link *l, struct pair_links *lingering);
void pair_links_free(struct pair_links *all); // what lingers

int pair_link_send(struct pair_link *l, json_t *msg, struct err *e) MUST_USE; // takes msg over; NULL: out of memory
void pair_link_wait(struct pair_link *l, unsigned seconds);                   // for the next message

// What proofs are bound to. `inviter` says which side this is.
int pair_link_facts(const struct pair_link *l, const uint8_t own_pin[IDENTITY_PIN], bool inviter,
                    struct pairing_link *out, struct err *e) MUST_USE;
int pair_link_host(const struct pair_link *l, char *out, size_t size); // this side's address on it, as in HOST:PORT

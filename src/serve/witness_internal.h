// What the files of the witness share: witness.c (its life), witness_own.c (this node's log, cosigned by others),
// witness_peers.c (the others' logs, cosigned by this node).
#pragma once

#include "audit/fork.h"
#include "audit/witnessed.h"
#include "base/limits.h"
#include "serve/evidence.h"
#include "serve/keeper.h"
#include "serve/serve.h"
#include "serve/witness.h"
#include <sys/queue.h>

enum { WITNESS_NAME = 32 }; // of a log's folder

// Another node's log.
struct held {
    TAILQ_ENTRY(held) next;
    char node[NODE_ID], incarnation[WITNESS_NAME];
    struct checkpoint head; // the latest that was cosigned and is durable; size 0: none
    size_t n;
    char note[NOTE_BYTES];
    const char *finding;    // static; "forked", "shrunk", "damaged": of no use any more, or NULL
    uint64_t shrunk;        // the smaller size that was recorded
    struct checkpoint then; // what is being made durable
    size_t then_n;          // 0: nothing is
    char then_note[NOTE_BYTES];
    struct witness *owner;
};

// What another node has of this node's log.
struct cosigner {
    char node[NODE_ID]; // "" = free
    uint64_t base;      // records that it holds
    uint64_t asked;     // size of the head that it was sent; 0: none
    uint64_t asked_ns, asked_wall;
};

struct witness {
    struct serve *s;
    char dir[PATH_SIZE];
    struct keeper *keeper;
    struct event *tick;
    TAILQ_HEAD(, held) held;
    size_t n_held;
    struct cosigner cosigners[ROSTER_NODES];
    // this node's log
    char log[PATH_SIZE];    // its folder; "" = none yet
    struct witnessed *list; // owned; WITNESSES
    size_t n;
    bool dirty;               // the list is not written yet
    uint64_t tail_since_wall; // about when the tail's first record was written; 0: there is no tail
};

const char *witness_cluster(const struct witness *w); // "" = this node is no member

// ---- witness_own.c
void own_tick(struct witness *w);
void own_up(struct witness *w, const struct peer *p);
void own_held(struct witness *w, const struct peer *p, const json_t *msg);
void own_cosigned(struct witness *w, const struct peer *p, const json_t *msg);
uint64_t own_witnessed(const struct witness *w); // records
void own_keep(struct witness *w);                // writes the list where it is new

// ---- witness_peers.c
int peers_load(struct witness *w, struct err *e) MUST_USE; // what is held from before
void peers_close(struct witness *w);
void peers_tell(struct witness *w, const struct peer *p); // what is held of its logs
void peers_head(struct witness *w, const struct peer *p, const json_t *msg);

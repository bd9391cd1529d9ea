// What the files of the witness share: witness.c (its life), witness_own.c (this node's log, cosigned by others),
// witness_peers.c (the others' logs, cosigned by this node), witness_mirror.c (their records, kept here),
// witness_serve.c (pieces for others), witness_restore.c (this node's log, back from another one's mirror).
#pragma once

#include "audit/fork.h"
#include "audit/restore.h"
#include "audit/witnessed.h"
#include "base/limits.h"
#include "serve/evidence.h"
#include "serve/fetch.h"
#include "serve/serve.h"
#include "serve/witness.h"
#include <sys/queue.h>

enum { WITNESS_NAME = 32, WITNESS_MIRRORS_AT_ONCE = 4 }; // bytes of a log's folder's name; logs that are fetched

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
    // its mirror
    struct fetch *fetch;             // owned; NULL: nothing was to be fetched so far
    uint64_t mirrored, mirror_bytes; // records of it that count; bytes on the disk
    uint64_t mirror_rest_ns;         // nothing is asked for before
    bool mirror_full;                // there is no room for more
    bool mirror_refused;             // what came was not this log: nothing more until its node's link is up again
};

// What another node has of this node's log.
struct cosigner {
    char node[NODE_ID]; // "" = free
    uint64_t base;      // records that it holds
    uint64_t asked;     // size of the head that it was sent; 0: none
    uint64_t asked_ns, asked_wall;
    uint64_t mirrored; // records, by its own word
};

// Who reads logs that are here: another member, one piece at a time.
struct reader {
    struct witness *w;
    char node[NODE_ID]; // "" = free
    bool busy;
    uint64_t next_ns;    // no piece before
    struct event *later; // owned
    // the thread's while it is busy
    char log[NOTE_NAME], dir[PATH_SIZE];
    bool mirror; // the log is that node's own
    uint64_t at;
    size_t wanted, n;
    char *text; // owned; the piece in base64
    char note[NOTE_BYTES];
    size_t note_len;
    struct err why;
};

enum restore_state { RESTORE_NONE, RESTORE_ASKING, RESTORE_FETCHING, RESTORE_WAITING, RESTORE_PUTTING, RESTORE_DONE };
struct restore {
    enum restore_state state;
    char from[NODE_ID], name[PEERS_NAME];
    char dir[PATH_SIZE];
    uint64_t asked_ns;
    struct note_key key; // of the log; its name is the log's
    struct fetch fetch;
    struct restored out; // the thread's while RESTORE_PUTTING
    struct err why;      // of RESTORE_DONE: ERR_NONE, or why not
};

struct witness {
    struct serve *s;
    char audit[PATH_SIZE], dir[PATH_SIZE]; // this node's logs; what is held of others'
    struct keeper *keeper, *mirrorer;      // mirrorer: for what takes longer than a note
    struct event *tick;
    TAILQ_HEAD(, held) held;
    size_t n_held;
    struct cosigner cosigners[ROSTER_NODES];
    struct reader *readers; // owned; ROSTER_NODES
    struct restore restore;
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
uint64_t own_witnessed(const struct witness *w);          // records
void own_keep(struct witness *w);                         // writes the list where it is new
bool own_is(const struct witness *w, const char *origin); // that log is one of this node's
void own_key_of(const struct witness *w, const char *origin, struct note_key *out);
void own_mirrored(struct witness *w, const struct peer *p, const json_t *msg);
uint64_t own_reach(const struct witness *w, size_t *nodes); // records that a mirror has; how many nodes have mirrors

// ---- witness_peers.c
int peers_load(struct witness *w, struct err *e) MUST_USE; // what is held from before
void peers_close(struct witness *w);
void peers_tell(struct witness *w, const struct peer *p); // what is held of its logs
void peers_head(struct witness *w, const struct peer *p, const json_t *msg);
struct held *peers_held(const struct witness *w, const char *node, const char *incarnation); // NULL: nothing
bool peers_is_ours(const struct witness *w, const struct held *h); // of the cluster that this node belongs to

// ---- witness_mirror.c
void mirror_load(struct held *h); // what is there from before
void mirror_free(struct held *h);
void mirrors_tick(struct witness *w);
void mirrors_up(struct witness *w, const struct peer *p);
bool mirrors_heard(struct witness *w, const struct peer *p, const struct piece *piece); // false: not for a mirror
uint64_t mirrors_bytes(const struct witness *w, const char *node);                      // NULL: of all nodes
bool mirrors_full(const struct witness *w);
char *witness_roster_text(const struct witness *w); // for beside a log; free it; NULL: none

// ---- witness_serve.c
int readers_new(struct witness *w, struct err *e) MUST_USE;
void readers_free(struct witness *w);
void readers_want(struct witness *w, const struct peer *p, const json_t *msg);

// ---- witness_restore.c
bool restore_heard(struct witness *w, const struct peer *p, const struct piece *piece);
void restore_tick(struct witness *w);
void restore_close(struct witness *w);
json_t *restore_json(const struct witness *w); // null where nothing was to be put back

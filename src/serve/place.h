// One sequence of a job at one node: on a model of this node, or of another one by orders over its control link. Both
// are used alike. Threads: the event-loop thread; events come from the loop, never from inside the call that caused
// them.
#pragma once

#include "cluster/transfer.h"
#include "engine/client.h"
#include "serve/serve.h"

struct place;
struct record;

struct place_opened {
    struct gen_begin begin;
    const char *contract, *weights; // of the model there, see struct worker_info; borrowed
    int32_t credits;                // units that may be begun towards it; 0 where it takes no rows
    const char *emulated;           // whose times its are, "" = its own; borrowed
    bool whole;                     // what it remembers travels as a whole, once it is paused (KV_OPAQUE)
};

// In this order: opened?, then text, installed, paused and cut as they come, then at most one of ended and failed.
struct place_events {
    void (*opened)(void *arg, const struct place_opened *o);
    void (*text)(void *arg, const char *text, size_t len, int32_t tokens, int32_t id);
    // bytes that came in, on the wire, as `wire`: "f16", "q8_0", "state"; "" = not known. came_ns: when the first frame
    // came (clock_mono_ns); 0 = not known
    void (*installed)(void *arg, int32_t upto, uint64_t bytes, uint64_t came_ns, const char *wire);
    void (*paused)(void *arg, int32_t tokens, int32_t past);
    void (*cut)(void *arg, bool arriving, const struct err *why); // no more rows will come, or else leave
    void (*ended)(void *arg, const struct gen_result *r);
    void (*failed)(void *arg, const struct err *why);
};

struct place_spec {
    struct record *record;          // what it is done for, see serve/evidence.h; NULL: nothing that anybody asked for
    const char *model;              // its name there; "" = the only one loaded
    const struct gen_request *gen;  // copied
    const char *contract, *weights; // what the model's must be; "" = any
    const char *from;               // id of the node whose rows are expected under `stream`; "" = none
    uint64_t stream;                // below 2^63
    json_t *ticket;                 // for a place on another node, see trust/ticket.h; NULL = none
};

// Where rows are to be sent.
struct place_target {
    const char *node; // id
    uint64_t stream;
    int32_t first;    // position of the first row
    int32_t credits;  // place_opened's
    const char *wire; // "f16", "q8_0"; "" = as the sender's settings say
};

// `node` is an id of a member, or this node's own.
struct place *place_open(struct serve *s, const char *node, const struct place_spec *spec,
                         const struct place_events *ev, void *arg, struct err *e) MUST_USE;
void place_drop(struct place *p); // frees it; nothing more is heard; also from inside its events; NULL is fine

int place_start(struct place *p, const int32_t *generated, int32_t n, int32_t from, struct err *e) MUST_USE;
int place_stream(struct place *p, const struct place_target *to, struct err *e) MUST_USE;
void place_cut(struct place *p); // ends what place_stream began
int place_pause(struct place *p, struct err *e) MUST_USE;
// What is ordered from now on is allowed by this ticket; a place of this node needs none.
int place_permit(struct place *p, json_t *ticket, struct err *e) MUST_USE;
// Of the stream that leaves it; `upto`: its rows before this position are computed. false: none does, or the place is
// at another node.
bool place_sent(const struct place *p, struct flow_figures *out);

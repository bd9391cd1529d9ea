// The generation of one job: a flow (serve/flow.h) with its places, its timer and its trace. Threads: the event-loop
// thread; events come from the loop, never from inside course_start.
#pragma once

#include "serve/place.h"
#include "serve/trace.h"
#include "trust/policy.h"

struct course;

struct course_spec {
    struct record *record;                  // see place_spec; the course holds it, too
    const char *model;                      // its name, the same at all places
    char prefill[NODE_ID], decode[NODE_ID]; // ids of nodes; the same one: nothing travels
    const struct policy_subject *who;       // asks, without the model; copied; NULL: nobody
    bool named;                             // the client chose: no other node is asked before it has begun
    bool zero_stall, late, reads_only;      // see struct flow_plan
    char wire[8];                           // "f16", "q8_0"; "" = as planned, else as the sender says: serve/wire.h
    struct trace_plan plan;                 // why these nodes; made = false: nothing was planned
};

// begin?, text*, then exactly one of end and fail. course_free may be called in each of them.
struct course_events {
    void (*begin)(void *arg, const struct gen_begin *b);
    void (*text)(void *arg, const char *text, size_t len, int32_t tokens);
    void (*end)(void *arg, const struct gen_result *r);
    void (*fail)(void *arg, const struct err *why);
};

// Takes what gen holds over, where it succeeds.
struct course *course_start(struct serve *s, const struct course_spec *spec, struct gen_request *gen,
                            const struct course_events *ev, void *arg, struct err *e) MUST_USE;
void course_free(struct course *c); // stops what is being computed; NULL is fine
struct trace *course_trace(struct course *c);

struct course *course_next(const struct serve *s, const struct course *after); // NULL begins, and ends, the round

// The node whose words the client gets, "" = none at the moment. Borrowed until the loop goes on.
const char *course_node(const struct course *c);
const char *course_model(const struct course *c);
const json_t *course_tickets(const struct course *c); // ids of those that it gave to other nodes
// What which node has done: [{node, read, wrote, emulated}], wherever the job was planned. A new reference.
json_t *course_computed(const struct course *c);
const struct policy_subject *course_who(const struct course *c); // with the model

// How far a running job is. Texts are static, or borrowed until the loop goes on.
struct course_view {
    const char *id, *agent, *model;
    const char *prefill, *decode; // names of nodes, as they are now
    const char *speaker;          // whose words the client gets; "" = none yet
    const char *phase;            // "waiting" (for a place), "prefill", "hand-over" (the prefill node writes), "decode"
    int32_t prompt_tokens, tokens;
    double age_s, tokens_s; // tokens_s: since the first token; 0 = not known
};
void course_look(const struct course *c, uint64_t now_ns, struct course_view *out);

// Moves the running job to another node with the same model, which goes on with the next token; the node that is left
// is done without once the other has spoken. Should the other fail first, the job stays where it is, and the next call
// tells of it, once. ERR_BUSY: not now, as nothing runs yet, or it is moving already.
int course_move(struct course *c, const char *node, struct err *e) MUST_USE;

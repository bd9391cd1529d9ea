// What the files of a course share: course.c (its life) and permits.c (what its places may do).
#pragma once

#include "serve/course.h"
#include "serve/flow.h"
#include "serve/passes.h"
#include "serve/placement.h"

struct seat {
    struct course *course;
    int index;
    int shown_as; // the node's number in the trace
    char node[NODE_ID];
    struct place *place;
    uint64_t stream;  // under which it expects rows
    int32_t credits;  // units it grants for them
    bool held;        // opened with `hold`
    bool spoken;      // since it was started
    bool opened;      // it has said so
    bool reads_only;  // see struct flow_plan
    struct pass pass; // of a place at another node
    int32_t rows;     // of the prompt that are in its cache
    bool refused;     // an order to it has failed: it is dropped for that, as the trace says
    uint64_t asked_ns;
    uint64_t bytes; // of rows that came to it
    uint64_t sent;  // bytes that it sent, and up to which position, as traced
    int32_t computed;
};

// What a node did of a job.
struct work {
    char node[NODE_ID];
    bool read;                                            // rows of the prompt
    int32_t wrote;                                        // tokens that the client was told
    char emulated[sizeof *((struct trace *)0)->emulated]; // see struct trace
};
enum { COURSE_WORKS = 16 }; // nodes of a job that the audit log names

struct course {
    struct serve *s;
    struct flow *flow;
    struct course_events ev;
    void *arg;
    struct gen_request gen;
    struct policy_subject *who; // with the model; owned
    struct record *record;      // held
    struct passes passes;
    char model[LIMIT_MODEL_NAME + 1];
    char contract[65], weights[65]; // of the first place that opened: the other must have the same
    char wire[8];
    bool single;       // one place only
    bool named;        // see struct course_spec
    struct seat *goal; // it was moved there, and that one has not spoken yet; NULL = none
    struct err astray; // why the latest move has failed, until that was told
    uint64_t opens;    // ever ordered
    struct seat seats[FLOW_PLACES];
    struct placement_past past;
    uint64_t round; // of asking nodes, from 1 on: each is asked once at most before a token comes or time passes
    struct event *timer;
    struct trace trace;
    struct work works[COURSE_WORKS];
    size_t n_works;
    const struct seat *heard; // whose text the flow is told of
    int32_t told;             // tokens that the client has
    uint64_t first_ns;        // of those; 0 = none yet
    int depth;                // calls of the flow under way: they may order the course's end
    bool ending;              // its last place has told its result
    bool freed;
    TAILQ_ENTRY(course) next;
};

// ---- permits.c: whether an order may be given. By the policy of this moment, which may have changed since the job was
// placed; and a place at another node gets the ticket that it needs for it. 0, or ERR_DENIED and whatever else fails.
// Rows of `source` (-1: none) may be expected; n prompt tokens, 0: the client's request. *ticket: NULL, or borrowed
// until the next order.
int permits_open(struct seat *seat, int32_t n, int source, json_t **ticket, struct err *e) MUST_USE;
int permits_start(struct seat *seat, int32_t from, struct err *e) MUST_USE;
int permits_stream(struct seat *from, const struct seat *to, struct err *e) MUST_USE;
void permits_refused(const struct seat *seat, const struct err *why); // by the other node: that is in both logs

// The question of `nebulus plan`: a model, devices that somebody has or thinks of buying, the link between them, a
// request; and the planner's answer to it. Needs no daemon.
#pragma once

#include "cli/command.h"
#include "plan/plan.h"

enum { WHAT_DEVICES = 8, WHAT_PLANS = WHAT_DEVICES * (2 * WHAT_DEVICES - 1), WHAT_NAME = 40 };

struct what_if {
    struct plan_shape shape;
    enum dtype kv, wire; // of the KV cache, and of its rows on the link
    char weights[32];    // what the weights are, in words
    const struct device *devices[WHAT_DEVICES];
    char names[WHAT_DEVICES][WHAT_NAME]; // the second of a kind is called "dgx-spark-2"
    size_t n;
    const struct link_kind *link; // between any two of them
    double prompt, generate;
};

struct answer {
    struct plan_node nodes[WHAT_DEVICES];
    struct link_cost links[WHAT_DEVICES * WHAT_DEVICES];
    char why[WHAT_DEVICES][128]; // a node's `forbidden`
    struct plan_input input;
    struct plan plans[WHAT_PLANS]; // ranked; plans[0] is the planner's choice
    size_t n;
    const struct plan *single;   // the best one of one device; NULL: none holds the model
    const struct plan *pair;     // the best disaggregated one; NULL: none
    const struct plan *baseline; // what speedups refer to: the pair's decode device alone, as published; else `single`
};

// Reads MODEL, --device, --link, --prompt, --gen, --dtype, --wire. A model is a name of the catalogue, of the store, or
// a .gguf file, which a worker looks into (some 10 ms). Fails with ERR_NOT_FOUND and the known names, or ERR_INVALID.
int what_if_read(struct what_if *w, struct invocation *in, struct err *e) MUST_USE;

// Adds a device. Fails where there are WHAT_DEVICES already.
int what_if_add(struct what_if *w, const struct device *d, struct err *e) MUST_USE;

// Plans. `a` points into itself and into w: it must not be moved, and w must stay.
int what_if_answer(const struct what_if *w, struct answer *a, struct err *e) MUST_USE;

// How many of a plan's times this one is faster; 0 where either is missing.
double speedup_of(const struct plan *p, const struct plan *than);

const char *answer_name(const struct answer *a, size_t node);

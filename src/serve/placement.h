// Which nodes a job runs on: the caller's choice, or a simple default. Threads: the event-loop thread.
#pragma once

#include "cluster/peers.h"
#include "engine/request.h"
#include "serve/course.h"
#include "trust/policy.h"

enum { PLACEMENT_NODES = PEERS_MOST + 1 };

// The nodes that a job has asked, and when: numbers of its own, from 1 on, that grow.
struct placement_past {
    int n;
    struct {
        char node[NODE_ID];
        uint64_t when;
    } asked[PLACEMENT_NODES];
};

// What the client asked for, by name or id; NULL where it did not.
struct placement_wish {
    const char *prefill, *decode;
    const char *wire;     // "f16" or "q8_0"
    const char *handover; // "zero-stall" (the default, but where a plan waits); "wait": the prefill node stops after
                          // its first token; "after": and only then do rows begin to travel
    const struct gen_request *gen;    // what is to be placed; NULL: not known, nothing is planned
    const struct policy_subject *who; // asks, without the model; NULL: nobody, who may do nothing
    const int32_t *tokens;            // of its prompt, and how many of the first ones this node keeps
    int32_t n_tokens, kept;           // n_tokens = 0: not known
};

// What is not wished, the planner chooses (serve/planning.h). Where it knows too little, a job stays on this node where
// that has the model, else on the first node that is up and has it; where the policy permits no single node, on the
// first two that it permits. Fills `out` (its `model` is the caller's: name, at least LIMIT_MODEL_NAME + 1 bytes; its
// `who` is wish->who). Fails with ERR_DENIED where the policy does not permit what was wished, or anything, with
// ERR_NOT_FOUND (param: the header) for unknown nodes, ERR_UNREACHABLE for those that are down, and as models_get does.
int placement_choose(struct serve *s, const char *model, const struct placement_wish *wish, char *name,
                     struct course_spec *out, struct err *e) MUST_USE;

void placement_asked(struct placement_past *past, const char *node, uint64_t when);

// A node that is up, has the model, may do all of the job and was asked before `now` only: one that never was, else the
// one that was asked longest ago; of equals this node first. ERR_NOT_FOUND where there is none. `who` is with the
// model.
int placement_other(struct serve *s, const struct policy_subject *who, const struct placement_past *past, uint64_t now,
                    char out[NODE_ID], struct err *e) MUST_USE;

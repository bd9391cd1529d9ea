// What the planner (plan/plan.h) is asked about real jobs, from what this node knows of all of them: profiles, links,
// roles; and what it learns from finished jobs for the next questions. Threads: the event-loop thread only.
//
// - A node counts that is up, has the model ready with the same weights, and a profile that rests on measurements.
//   Where the node of today's default has none, nothing is planned. This node need not have the model.
// - Pairs are any two of them: of links that are not this node's it knows what their ends tell (serve/links.h).
// - A prompt that is no list of ids is told in tokens by the worker only: before, its bytes are divided by the bytes
//   per token of this model's latest prompts (4 before the first one).
// - An answer is expected to have max_tokens; where the model's answers that ended by themselves were shorter on
//   average, that many (256 where neither is known).
// - Of a prompt whose tokens are known (serve/question.h) it is known how many this node keeps of an earlier request,
//   and how many others do at least, by the marks that they tell (engine/kept.h).
// - What the policy does not permit is no plan: neither a phase at a node nor rows from one to another.
#pragma once

#include "engine/request.h"
#include "plan/plan.h"
#include "serve/placement.h"

struct planner;
struct planner *planner_new(struct err *e) MUST_USE;
void planner_free(struct planner *p); // NULL is fine

enum { PLANNING_REASON = 120 }; // bytes of why the policy forbids a node something

struct planning { // one question; big: on the heap
    struct plan_input input;
    struct plan_node nodes[PLAN_NODES];
    struct link_cost links[PLAN_NODES * PLAN_NODES];
    double export_s[PLAN_NODES], import_s[PLAN_NODES]; // bytes per second out of a node's KV cache, and into it
    double rows_s[PLAN_NODES];                         // that a prompt makes there; 0 = not known
    struct kv_shape rows[PLAN_NODES];                  // layers = 0: they do not stream
    char wishes[PLAN_NODES][8];                        // kv_wire of its settings
    enum kv_dtype wires[PLAN_NODES * PLAN_NODES];      // what rows are to travel as, by link
    char ids[PLAN_NODES][NODE_ID], names[PLAN_NODES][PEERS_NAME];
    char forbidden[PLAN_NODES][PLANNING_REASON];
    struct policy_spot spots[PLAN_NODES];
    struct plan_place last;
};

struct planning_question {
    const char *model;                // its whole name
    const char *wire;                 // "f16", "q8_0"; "" = as the settings say, see serve/wire.h
    const char *prefill, *decode;     // ids that are given; NULL where the planner chooses
    const struct policy_subject *who; // asks, without the model; NULL: nobody, who may do nothing
    double prompt, generate;          // tokens
    const int32_t *tokens;            // of the prompt, and how many of the first ones this node keeps
    int32_t n_tokens, kept;           // n_tokens = 0: not known, and taken for new everywhere
};

// What would be planned for: NULL where nothing can be, as no node with the model has a measured profile (e:
// ERR_NOT_FOUND). The caller frees it with free().
struct planning *planning_new(struct serve *s, const struct planning_question *q, struct err *e) MUST_USE;

// The expected tokens of a request.
double planning_prompt_tokens(const struct serve *s, const char *model, const struct gen_request *gen);
double planning_bytes_to_tokens(const struct serve *s, const char *model, double bytes);
double planning_answer_tokens(const struct serve *s, const char *model, int64_t max_tokens, bool ignore_eos);

// Bytes that a request's prompt says, by which planning_learn is told later; 0 for lists of ids.
double planning_prompt_bytes(const struct gen_request *gen);

// Chooses nodes for a job: fills out->prefill, ->decode and ->plan where there is a plan, else leaves them as they are
// (`wish` names what the caller chose, out->prefill and ->decode hold today's default elsewhere); and, where no
// hand-over is wished, whether it waits. Where both nodes are wished it is predicted what they take. Fails only where
// something forbids every placement; where only room lacks, the job waits at its default node.
int planning_place(struct serve *s, const struct placement_wish *wish, struct course_spec *out, struct err *e) MUST_USE;

// A job has ended: how long its prompt and answer were.
void planning_learn(struct serve *s, const char *model, double prompt_bytes, const struct gen_result *r);

// The planner: which node reads a prompt, which one writes the answer, and what that should cost. Pure: no I/O, no
// clock, no allocation; the same input gives the same plans. Threads: any.
//
//   local          one node does both
//   disaggregated  the prefill node reads; KV rows stream to the decode node meanwhile. When the prompt is read, the
//                  prefill node knows the first token, and goes on writing while rows still travel, if that is worth
//                  it: total = prefill + min over k of (max(k tokens there, exposed transfer) + rtt + the others here).
//                  k = 0: it waits. Rows of the prompt that the decode node has in its cache, and it lacks, travel to
//                  it first (more than PLAN_FETCH of them): they are part of the prefill
//   tandem         both read: prefill node the first layers of chunk i+1, decode node the last layers of chunk i, split
//                  so that both take equally long. Predicted only; nothing executes it yet.
#pragma once

#include "base/buf.h"
#include "plan/cost.h"

enum { PLAN_NODES = 64 }; // nodes of one input

enum plan_mode { PLAN_LOCAL, PLAN_DISAGGREGATED, PLAN_TANDEM, PLAN_MODES };
enum plan_role { PLAN_AUTO, PLAN_PRIME, PLAN_EDGE };

struct plan_node {
    const char *name;       // borrowed
    struct profile profile; // an absurd one excludes the node
    enum plan_role role;
    double queued_tokens;  // prompt tokens that wait there or are being read, but for what was read of them
    double queued_prompts; // in how many prompts
    double context_tokens; // KV rows of the sequences that generate there meanwhile: every step reads them, too
    double free_cells;     // KV cells that this request may take
    double cached_tokens;  // the prompt's beginning that its KV cache holds already
    bool no_prefill, no_decode;
    bool hands_over;       // it may write the first tokens of an answer, but must hand it over
    const char *forbidden; // what forbids them, in words ("policy rule 3", "it is draining"); NULL where nothing does
};

// KV rows of one model on the wire.
struct plan_rows {
    double token_bytes;    // per position, of the layers that keep all
    double windowed_bytes; // per position, of those that keep a window
    double window;
    double hidden_bytes; // of one position's hidden state, which a tandem sends from layer to layer
    int32_t layers;
};

// Which plan runs now, or was chosen last time for the like: it is kept unless another one is clearly better.
struct plan_place {
    enum plan_mode mode;
    size_t prefill, decode;
};

struct plan_input {
    const struct plan_node *nodes;
    size_t n;
    const struct link_cost
        *links; // n x n, links[from * n + to]; bytes_s = 0: rows may not or cannot go there. NULL: none
    struct plan_rows rows;
    double prompt, generate;       // tokens, both at least 1; the expected number of generated ones
    double chunk;                  // tokens of one prefill chunk
    bool tandem;                   // predict tandems, too
    const struct plan_place *last; // or NULL
};

struct plan {
    enum plan_mode mode;
    size_t prefill, decode; // indices of nodes
    double wait_s;          // for the prompts before it
    double prefill_s;
    double ttft_s;     // wait and prefill; of a tandem, the exposed transfer of hidden states is in its prefill
    double transfer_s; // all rows, as if nothing hid them
    double exposed_s;  // from the end of the prefill until the decode node has every row
    double decode_s;   // from the first token to the last
    double total_s;
    double handover; // tokens that the prefill node writes itself (the first one among them); 0: not disaggregated
    bool waits;      // it should stop after the first one until all rows are there: the next would take longer
    double fetch_s;  // of the prefill: until the decode node's cached rows are there
    double split;    // tandem: layers that the prefill node computes
    double score;    // total_s with what counts against it; plans are ranked by it, least first
};

// What counts against a plan beside its time, as factors: a second machine that gains less than that is not worth it;
// neither is a change of mind; a phase on a node that prefers the other one.
#define PLAN_SECOND_NODE 1.01
#define PLAN_CHANGE      1.05
#define PLAN_AGAINST     1.10
// Neither is it to leave a client without a token for a moment rather than let the prefill node write one more.
#define PLAN_WAIT  1.01
#define PLAN_FETCH 64 // rows; no more than that are computed rather than fetched (serve/flow.h)

// Refuses what cannot be planned for at all: counts out of range, NaN.
int plan_input_check(const struct plan_input *in, struct err *e) MUST_USE;

// Fills out[0..max) with the best permitted plans, best first, and returns how many there are (at most max); tandems
// come after all others. 0: *e (may be NULL) has a line that says what forbids each node. Ties go to fewer nodes, then
// to the order of the nodes.
size_t plan_rank(const struct plan_input *in, struct plan *out, size_t max, struct err *e) MUST_USE;

// The best plan that can be executed today. Fails with ERR_BUSY where a node lacks room, else with ERR_DENIED.
int plan_choose(const struct plan_input *in, struct plan *out, struct err *e) MUST_USE;

const char *plan_mode_name(enum plan_mode m); // "local", "disaggregated", "tandem"

// One sentence that says why `p` costs what it does; `best` is the plan it is compared with (may be p itself).
int plan_explain(const struct plan_input *in, const struct plan *p, const struct plan *best, struct buf *out) MUST_USE;

// Why this node takes no part in a phase: writes a few words and returns true, or returns false where nothing hinders
// it.
bool plan_hindrance(const struct plan_input *in, size_t node, bool decode, char *out, size_t size);

// What goes into the next step of computing: pure decisions, no llama.h, no clock. Compute thread only.
//
// A step first takes one token of every sequence that is generating, then tokens of the prompts still being read, those
// that are due first in front, up to a budget. A prompt's due time is its arrival plus the time its reading takes
// alone: a short prompt may overtake a long one that came a little earlier, and none starves, since whatever comes
// later than that time stands behind it.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// One sequence as the scheduler sees it. len - past >= 1: the last token known is what the next one is predicted from.
struct lane {
    uint64_t due;    // place among the prompts, clock_mono_ns; 0 = it was preempted and goes first
    uint64_t serial; // order of arrival: settles ties, and the youngest is preempted first
    int32_t len;     // tokens known: the prompt and what was generated
    int32_t past;    // of those, in the KV cache; of a parked one there may be more
    bool parked;     // has its place, but is not computed for now
};

struct share { // `count` tokens of lanes[lane], beginning at its `past`
    int32_t lane, count;
};

// Speeds, learned from the steps that were run. 0 = not known yet.
struct pace {
    double prompt_ns; // one prompt token
    double decode_ns; // a step that only generates
};

enum {
    BATCH_FLOOR = 32,    // prompt tokens a step may take however long they last, so that prompts always advance
    BATCH_HEADROOM = 16, // cells kept free for each running sequence when another is admitted
};

bool lane_decodes(const struct lane *l);                      // it runs, and one token is left to compute
bool lane_before(const struct lane *a, const struct lane *b); // a's prompt goes before b's
uint64_t lane_due(uint64_t arrival_ns, int32_t prompt_tokens, const struct pace *p);

void pace_learn(struct pace *p, int32_t decodes, int32_t prompt_tokens, uint64_t ns);

// Prompt tokens the next step may hold: all that fit into `capacity` tokens (at least one) while nothing generates,
// otherwise as many as let the step end within step_ns.
int32_t pace_budget(const struct pace *p, int32_t decodes, uint64_t step_ns, int32_t capacity);

// Fills out (room for n) and returns how many shares the step has.
int32_t batch_plan(const struct lane *const *lanes, int32_t n, int32_t budget, struct share *out);

// Cells that n running sequences hold or will need for the tokens known so far.
int64_t batch_cells(const struct lane *const *lanes, int32_t n);

// Whether one more sequence of len tokens may start while n others run that need `taken` of `cells`.
bool batch_admits(int64_t cells, int64_t taken, int32_t n, int32_t len);

// The sequence to preempt because the next step does not fit into the cache, or -1. Never the only one.
int32_t batch_victim(const struct lane *const *lanes, int32_t n, int64_t cells);
// The one to give up first of n >= 1: the youngest that runs unless it is the only one that does, else the youngest
// parked one (which cannot wait elsewhere: it fails).
int32_t batch_youngest(const struct lane *const *lanes, int32_t n);

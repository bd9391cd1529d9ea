// Pacing: passes of the model take as long as they would on another machine. The arithmetic is pure, times are given;
// only emulate_wait waits. Threads: the one that computes.
//
// A pass costs what plan/cost.h says: its prompt tokens b n + q n (c + n/2) each chunk, its generating sequences their
// r context, and the weights are read once per pass that ends a prompt (a) or generates (w): so that the chunks of a
// prompt together take as long as the prompt. Deadlines follow one another; a pass that ends late shortens the next
// one, so that errors do not add up, but no more than EMULATE_LATE_NS of them are made up for.
#pragma once

#include "plan/emulation.h"
#include <stdbool.h>

#define EMULATE_LATE_NS 20000000ull

struct emulate_work { // of one pass; zero it first
    double seconds;   // of what each sequence costs
    bool ends, generates;
};

struct emulate {
    struct profile profile; // scaled
    int32_t layers;
    uint64_t begun, due; // of the pass, clock_mono_ns: since when it counts, when it ends
    uint64_t resumed;    // when it began to compute really, or went on after a layer
    int32_t layer;       // whose rows were waited for last
    bool chained;        // the next pass follows this one
};

void emulate_init(struct emulate *m, const struct profile *p, int32_t layers);

void emulate_prompt(const struct emulate *m, struct emulate_work *w, int32_t count, int32_t past, bool ends);
void emulate_token(const struct emulate *m, struct emulate_work *w, int32_t past);
double emulate_seconds(const struct emulate *m, const struct emulate_work *w);

void emulate_rest(struct emulate *m); // nothing is to be computed: the next pass begins when it begins
void emulate_begin(struct emulate *m, uint64_t now, double seconds);

// Until when the rows that a layer has just written are to be held back: to (layer + 1)/layers of the pass, less the
// time that the layer's remaining computation takes really (as long as one layer has taken before it), so that the pass
// can end in time. 0: not, as of a layer that was asked for before. Tell with emulate_resumed when it goes on.
uint64_t emulate_layer(struct emulate *m, int32_t layer, uint64_t now);
void emulate_resumed(struct emulate *m, uint64_t now);

// The pass is computed. Returns 0, or by how many times it took longer than it should, where it is too late to be made
// up for.
double emulate_end(struct emulate *m, uint64_t began, uint64_t now);

// Sleeps until `due` (clock_mono_ns), or until stop(arg), which it asks every few milliseconds.
void emulate_wait(uint64_t due, bool (*stop)(void *arg), void *arg);

// The fake world's clock, chance and wires. Everything that happens is an event; the same seed gives the same run.
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef void event_fn(void *self, void *msg);

struct event {
    uint64_t at, serial;
    const uint64_t *frozen; // it happens no earlier than this (a node that is stopped), NULL = does not matter
    event_fn *run;
    void *self, *msg; // msg is freed afterwards
};

struct world {
    uint64_t now; // microseconds
    uint64_t random, serial, happened;
    struct event *heap;
    size_t n, cap;
    bool trace;
    char broken[240]; // the first invariant that did not hold, "" = all did
};

void world_init(struct world *w, uint64_t seed, bool trace);
void world_close(struct world *w);
bool world_turn(struct world *w); // the next event; false: there is none
void world_at(struct world *w, uint64_t delay, const uint64_t *frozen, event_fn *run, void *self, void *msg);

uint64_t world_below(struct world *w, uint64_t n); // 0..n-1
uint64_t world_between(struct world *w, uint64_t least, uint64_t most);
bool world_chance(struct world *w, unsigned percent);

PRINTF_LIKE(2, 3) void world_break(struct world *w, const char *fmt, ...);
PRINTF_LIKE(2, 3) void world_trace(const struct world *w, const char *fmt, ...);

void *must_alloc(size_t size); // zeroed; ends the program where there is none

// One direction of a connection: keeps its order, takes its time, and loses what is on its way when it breaks.
struct wire {
    struct world *w;
    const uint64_t *frozen;         // of the node at its end
    uint64_t latency, jitter, each; // microseconds; `each` for every row
    uint64_t busy, epoch;           // until when it carries earlier messages; connections before this one
    bool up, hole;                  // hole: takes everything and delivers nothing
};

void wire_send(struct wire *c, int rows, event_fn *run, void *self, void *msg); // takes msg over
void wire_break(struct wire *c);

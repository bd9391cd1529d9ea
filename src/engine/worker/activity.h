// What a thread of the worker tells of itself to another one that looks on (engine/worker/heart.h): whether it has
// something to do, and that it gets on with it. One thread writes, any may read.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

struct activity {
    atomic_bool busy;
    atomic_uint steps; // counts on with whatever gets done
};

// Cheap enough for every operation of a model.
static inline void activity_step(struct activity *a) {
    unsigned n = atomic_load_explicit(&a->steps, memory_order_relaxed);
    atomic_store_explicit(&a->steps, n + 1, memory_order_relaxed);
}

static inline void activity_begin(struct activity *a) {
    activity_step(a);
    atomic_store(&a->busy, true);
}

static inline void activity_rest(struct activity *a) { atomic_store(&a->busy, false); }

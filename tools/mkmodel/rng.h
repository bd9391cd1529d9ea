// A small seeded generator (xorshift64*): the same seed gives the same numbers on every machine.
#pragma once

#include <math.h>
#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline uint64_t rng_next64(struct rng *rng) {
    rng->state ^= rng->state >> 12;
    rng->state ^= rng->state << 25;
    rng->state ^= rng->state >> 27;
    return rng->state * UINT64_C(2685821657736338717);
}

static inline uint32_t rng_next(struct rng *rng) { return (uint32_t)(rng_next64(rng) >> 32); }

static inline void rng_seed(struct rng *rng, uint64_t seed) {
    rng->state = UINT64_C(0x9E3779B97F4A7C15) ^ seed * UINT64_C(0xD1342543DE82EF95);
    if (rng->state == 0) {
        rng->state = 1; // the one state that never changes
    }
    for (int i = 0; i < 16; i++) {
        rng_next(rng); // neighbouring seeds start out alike
    }
}

// Uniform in 0 .. limit-1, with a bias that does not matter for small limits.
static inline uint32_t rng_below(struct rng *rng, uint32_t limit) {
    return (uint32_t)((uint64_t)rng_next(rng) * limit >> 32);
}

// Uniform in the open interval 0 .. 1.
static inline double rng_uniform(struct rng *rng) { return (rng_next(rng) + 0.5) / 4294967296.0; }

// Normal distribution of variance 1.
static inline double rng_gauss(struct rng *rng) {
    double radius = sqrt(-2 * log(rng_uniform(rng)));
    return radius * cos(6.283185307179586 * rng_uniform(rng));
}

// +1 or -1.
static inline double rng_sign(struct rng *rng) { return rng_next(rng) >> 31 ? 1 : -1; }

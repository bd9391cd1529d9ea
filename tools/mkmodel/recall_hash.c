// The hash of a context: random projections of the codes of its bytes. Nearer bytes decide more bits, and those count
// more, so that short cues suffice and long ones resolve ambiguities.
#include "mem.h"
#include "recall_parts.h"

#include <math.h>

static const struct {
    int lag, length, bits; // bytes at distances lag .. lag+length-1
    double weight;         // score per bit
} segments[] = {{0, 8, 24, 2.0}, {8, 8, 20, 2.0}, {16, 8, 20, 2.0}, {24, 16, 16, 1.0}, {40, 23, 8, 0.5}};
enum { SEGMENTS = sizeof segments / sizeof segments[0] };

double recall_hash_weight(int bit, int *lag) {
    int s = 0;
    for (int end = segments[0].bits; bit >= end && s < SEGMENTS - 1; end += segments[s].bits) s++;
    *lag = segments[s].lag;
    return segments[s].weight;
}

static void project_segment(struct recall *r, int s, int first_bit) {
    double deviation = 1 / sqrt((double)(CODE_LENGTH * segments[s].length));
    for (int lag = segments[s].lag; lag < segments[s].lag + segments[s].length; lag++)
        for (int bit = first_bit; bit < first_bit + segments[s].bits; bit++)
            for (int x = 0; x < CODE_LENGTH; x++) r->hash[lag][bit][x] = rng_gauss(&r->rng) * deviation;
}

void recall_hash_make(struct recall *r) {
    r->hash = mem_new(CONTEXT_BYTES, sizeof *r->hash);
    int bit = 0;
    for (int s = 0; s < SEGMENTS; s++) {
        project_segment(r, s, bit);
        bit += segments[s].bits;
    }
    if (!r->settings.check) return;
    // a missing byte gives noise of 1.5 NOISE in every dimension of the code to say, a wrong one more
    double deviation = 1.5 * NOISE / sqrt(CODE_LENGTH);
    for (int n = 0; n < STEP; n++)
        for (int y = 0; y < CODE_LENGTH; y++)
            for (int x = 0; x < CODE_LENGTH; x++) r->check[n][y][x] = rng_gauss(&r->rng) * deviation;
}

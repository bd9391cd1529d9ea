// Layer 0: who talks, and whether rows were lost.
//
// Attention averages over the marker tokens so far: the share of assistant markers, and a check that is 0 if the
// average is over markers (or, before the first, over the BOS token) and negative if bytes or lost rows took part.
#include "recall_parts.h"

#include <math.h>

// The two directions that values carry, and what reads them back: ratio and check are the coordinates along v1 and v2.
struct directions {
    double key[FIXED];
    double v1[HEAD], v2[HEAD];
    double cross, determinant;
};

static void draw_directions(struct rng *rng, struct directions *d) {
    double square = 0;
    for (int i = 0; i < FIXED; i++) {
        d->key[i] = rng_gauss(rng);
        square += d->key[i] * d->key[i];
    }
    for (int i = 0; i < FIXED; i++) d->key[i] /= sqrt(square);
    d->cross = 0;
    for (int i = 0; i < HEAD; i++) {
        d->v1[i] = rng_sign(rng);
        d->v2[i] = rng_sign(rng);
        d->cross += d->v1[i] * d->v2[i];
    }
    d->determinant = (double)HEAD * HEAD - d->cross * d->cross;
}

static void fill_scores(struct recall *r, struct layer *l, int g, const struct directions *d) {
    for (int i = 0; i < FIXED; i++) {
        int row = g * HEAD + FIXED0 + i;
        float text = (float)(recall_key_for(-80) * d->key[i]);
        float marker = (float)(recall_key_for(WANTED) * d->key[i]);
        *at(l->key, row, AT_BYTE) = text;
        *at(l->key, row, AT_OTHER) = text;
        *at(l->key, row, AT_ASSISTANT) = marker;
        *at(l->key, row, AT_USER) = marker;
        *at(l->key, row, AT_BOS) = (float)(recall_key_for(WANTED - 16) * d->key[i]);
        for (int h = g * r->group; h < (g + 1) * r->group; h++)
            *at(l->query, h * HEAD + FIXED0 + i, AT_ONE) = (float)(FIXED_QUERY * d->key[i] / AMP_ONE);
    }
}

static void fill_values(struct recall *r, struct layer *l, int g, const struct directions *d) {
    int heads = r->settings.shape.heads;
    for (int i = 0; i < HEAD; i++) {
        int row = g * HEAD + i;
        *at(l->value, row, AT_ASSISTANT) = (float)(d->v1[i] + d->v2[i]);
        *at(l->value, row, AT_USER) = (float)d->v2[i];
        *at(l->value, row, AT_BOS) = (float)d->v2[i];
        *at(l->value, row, AT_BYTE) = (float)-d->v2[i];
        *at(l->value, row, AT_OTHER) = (float)-d->v2[i];
        double ratio = (HEAD * d->v1[i] - d->cross * d->v2[i]) / d->determinant;
        double valid = (HEAD * d->v2[i] - d->cross * d->v1[i]) / d->determinant;
        for (int h = g * r->group; h < (g + 1) * r->group; h++) {
            *at(l->output, AT_RATIO, h * HEAD + i) = (float)(AMP_RATIO / heads * ratio);
            *at(l->output, AT_BAD, h * HEAD + i) = (float)(AMP_BAD / heads * valid);
        }
    }
}

void recall_flags_layer(struct recall *r, struct layer *l) {
    for (int g = 0; g < r->settings.shape.kv_heads; g++) {
        struct directions d;
        draw_directions(&r->rng, &d);
        fill_scores(r, l, g, &d);
        fill_values(r, l, g, &d);
    }
    // The flag is 1 where half of the markers are the assistant's. In the n-th user message the share is (n-1)/(2n-1),
    // so the step lies closely below one half: it tells them apart up to some 38 turns.
    const double steepness = 4000, thresholds[2] = {0.4935, 0.4965};
    double rise = steepness * (thresholds[1] - thresholds[0]);
    for (int i = 0; i < 2; i++) {
        *at(l->gate, i, AT_RATIO) = (float)(steepness / AMP_RATIO);
        *at(l->gate, i, AT_ONE) = (float)(-steepness * thresholds[i] / AMP_ONE);
        *at(l->up, i, AT_ONE) = (float)(1 / AMP_ONE);
        *at(l->down, AT_FLAG, i) = (float)((i ? -AMP_FLAG : AMP_FLAG) / rise);
    }
}

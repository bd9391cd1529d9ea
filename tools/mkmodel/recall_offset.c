// Layers 1 and 2: heads that look at one fixed distance each.
#include "linear.h"
#include "mem.h"
#include "recall_parts.h"

#include <math.h>

#define PEAK 83.0  // score of a head at its own distance, above other rows
#define SINK -14.0 // score of BOS, below the wanted row: it takes over where the distance reaches before the text

// Radians per position of the rotating pairs. The mean of cos(d f) over them stays below 0.6322 for every d in 1 ..
// 131072.
static const double frequency[ROTATING_PAIRS] = {0.9972518, 0.9968677, 0.7731691, 0.9248693, 0.5268144, 0.9067587,
                                                 0.8139369, 0.9722960, 0.8445509, 0.9982513, 0.8690154, 0.9891812,
                                                 0.4529701, 0.9869907, 0.9426506, 1.0000000};

double recall_key_for(double score) { return score * sqrt(HEAD) / FIXED_QUERY; }

void recall_fill_rope(struct matrix *factors) {
    for (int i = 0; i < HEAD / 2; i++) factors->w[i] = i < ROTATING_PAIRS ? (float)(1 / frequency[i]) : 1e20f;
}

static double turned(double angle, int component) { return component ? sin(angle) : cos(angle); }

// The effective position of a token is its position less its flag, so that the one template token between a user's text
// and the assistant's continuation takes no place.
static void fill_rotating(struct recall *r, struct layer *l, int g, int first, int step) {
    double amplitude = sqrt(PEAK / ROTATING_PAIRS * sqrt(HEAD));
    for (int pair = 0; pair < ROTATING_PAIRS; pair++) {
        double phase = 6.283185307179586 * rng_uniform(&r->rng);
        double f = frequency[pair];
        for (int x = 0; x < 2; x++) {
            int row = g * HEAD + 2 * pair + x;
            double here = turned(phase, x);
            double back = turned(phase - f, x) - here;
            *at(l->key, row, AT_BYTE) = (float)(amplitude * here);
            *at(l->key, row, AT_USER) = (float)(amplitude * here);
            *at(l->key, row, AT_OTHER) = (float)(amplitude * here);
            *at(l->key, row, AT_ASSISTANT) = (float)(-amplitude * back); // cancels its own flag: nothing rotates
            *at(l->key, row, AT_FLAG) = (float)(amplitude * back / AMP_FLAG);
            for (int h = g * r->group; h < (g + 1) * r->group; h++) {
                double angle = phase - (first + step * (h % LAGS)) * f;
                double there = turned(angle, x);
                *at(l->query, h * HEAD + 2 * pair + x, AT_ONE) = (float)(amplitude * there / AMP_ONE);
                *at(l->query, h * HEAD + 2 * pair + x, AT_FLAG) =
                    (float)(amplitude * (turned(angle - f, x) - there) / AMP_FLAG);
            }
        }
    }
}

static void fill_fixed(struct recall *r, struct layer *l, int g, const double *common, const double *sink) {
    static const int kinds[] = {AT_BYTE, AT_USER, AT_OTHER, AT_ASSISTANT};
    for (int i = 0; i < FIXED; i++) {
        int row = g * HEAD + FIXED0 + i;
        for (int k = 0; k < 4; k++) *at(l->key, row, kinds[k]) = (float)(recall_key_for(WANTED - PEAK) * common[i]);
        *at(l->key, row, AT_BOS) = (float)(recall_key_for(WANTED + SINK) * sink[i]);
        for (int h = g * r->group; h < (g + 1) * r->group; h++) {
            int query = h * HEAD + FIXED0 + i;
            *at(l->query, query, AT_ONE) = (float)(FIXED_QUERY * (common[i] + sink[i]) / AMP_ONE);
            *at(l->query, query, AT_BAD) =
                (float)(FIXED_QUERY * sink[i] * 4 / AMP_BAD); // rows lost: all go to the sink
        }
    }
}

// Head h looks back first + step * (h % LAGS) tokens.
static void offset_heads(struct recall *r, struct layer *l, int first, int step) {
    double *basis = mem_new(FIXED * FIXED, sizeof *basis);
    for (int g = 0; g < r->settings.shape.kv_heads; g++) {
        linear_orthogonal(basis, FIXED, &r->rng);
        fill_rotating(r, l, g, first, step);
        fill_fixed(r, l, g, basis, basis + FIXED);
    }
    free(basis);
}

void recall_lags_layer(struct recall *r, struct layer *l) {
    int copies = r->settings.shape.heads / LAGS;
    double amplitude = sqrt(HEAD / (double)CODE_LENGTH);
    double *basis = mem_new(HEAD * HEAD, sizeof *basis);
    offset_heads(r, l, 0, 1);
    for (int g = 0; g < r->settings.shape.kv_heads; g++) {
        linear_orthogonal(basis, HEAD, &r->rng);
        for (int i = 0; i < HEAD; i++) {
            for (int x = 0; x < CODE_LENGTH; x++) {
                double direction = basis[x * HEAD + i];
                *at(l->value, g * HEAD + i, AT_CODE + x) = (float)(amplitude * direction);
                for (int h = g * r->group; h < (g + 1) * r->group; h++) {
                    int to = AT_LAGS + (h % LAGS) * CODE_LENGTH + x;
                    *at(l->output, to, h * HEAD + i) = (float)(direction / amplitude / copies);
                }
            }
        }
    }
    free(basis);
}

// One dimension of a head's value: what it adds to every bit of the two hashes.
static void project_block(struct recall *r, struct layer *l, int h, int i, const double *basis) {
    int copies = r->settings.shape.heads / BLOCKS;
    int lag0 = STEP * (h % BLOCKS + 1);
    for (int t = 0; t < STEP; t++) {
        for (int x = 0; x < CODE_LENGTH; x++) {
            double query = basis[(t * CODE_LENGTH + x) * HEAD + i];
            double key = basis[((t + 1) * CODE_LENGTH + x) * HEAD + i];
            for (int b = 0; b < BITS; b++) {
                double weight = AMP_HASH * r->hash[lag0 + t][b][x];
                *at(l->output, AT_QUERY + b, h * HEAD + i) += (float)(weight * query / copies);
                *at(l->output, AT_KEY + b, h * HEAD + i) += (float)(weight * key / copies);
            }
        }
    }
}

// bit = clip(sum / margin, -1, 1), where the sum is over the blocks (gathered by attention) and the nearest seven bytes
static void fill_signs(struct recall *r, struct layer *l) {
    const double gain = 100, margin = 0.1;
    int n = 0;
    for (int side = 0; side < 2; side++) {
        for (int b = 0; b < BITS; b++) {
            int bit = (side ? AT_KEY : AT_QUERY) + b;
            for (int i = 0; i < 2; i++, n++) {
                *at(l->gate, n, bit) = (float)(gain / AMP_HASH);
                for (int t = 0; t < STEP; t++)
                    for (int x = 0; x < CODE_LENGTH; x++)
                        *at(l->gate, n, AT_LAGS + (t + side) * CODE_LENGTH + x) = (float)(gain * r->hash[t][b][x]);
                *at(l->gate, n, AT_ONE) = (float)(gain * (i ? -margin : margin) / AMP_ONE);
                *at(l->gate, n, AT_BOS) = -30000; // BOS: all bits -1
                *at(l->up, n, AT_ONE) = (float)(1 / AMP_ONE);
                *at(l->down, bit, n) = (float)((i ? -1 : 1) / (gain * margin));
            }
        }
    }
    *at(l->gate, n, AT_ONE) = (float)(32 / AMP_ONE); // the constant -1
    *at(l->up, n, AT_ONE) = (float)(1 / AMP_ONE);
    for (int b = 0; b < 2 * BITS; b++) *at(l->down, AT_QUERY + b, n) = -1.0f / 32;
}

void recall_blocks_layer(struct recall *r, struct layer *l) {
    double *basis = mem_new(HEAD * HEAD, sizeof *basis);
    offset_heads(r, l, STEP, STEP);
    for (int g = 0; g < r->settings.shape.kv_heads; g++) {
        linear_orthogonal(basis, HEAD, &r->rng);
        for (int i = 0; i < HEAD; i++)
            for (int c = 0; c < LAGS * CODE_LENGTH; c++)
                *at(l->value, g * HEAD + i, AT_LAGS + c) = (float)basis[c * HEAD + i];
        for (int h = g * r->group; h < (g + 1) * r->group; h++)
            for (int i = 0; i < HEAD; i++) project_block(r, l, h, i, basis);
    }
    fill_signs(r, l);
    free(basis);
}

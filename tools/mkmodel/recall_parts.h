// Inside of the recall model: the layout of its residual stream and the functions that fill the weights of its layers.
// recall.c says how the layers work together.
#pragma once

#include "codes.h"
#include "recall.h"
#include "rng.h"
#include <stdint.h>

enum {
    HEAD = 128,                  // size of a head
    ROTATING_PAIRS = 16,         // dimensions 0 .. 31 of a head turn with the position
    FIXED0 = 2 * ROTATING_PAIRS, // the rest does not
    FIXED = HEAD - FIXED0,
    LAGS = 8,                            // layer 1 looks at distances 0 .. 7
    STEP = LAGS - 1,                     // layer 2 looks at distances STEP, 2 STEP ..
    BLOCKS = 8,                          // .. BLOCKS * STEP
    CONTEXT_BYTES = STEP * (BLOCKS + 1), // that decide where the model reads on
    BITS = 88,                           // hash of the context
};

// dimensions of the residual stream
enum {
    AT_CODE = 0,          // code of the token
    AT_ONE = CODE_LENGTH, // constant
    AT_BYTE,
    AT_BOS,
    AT_ASSISTANT,
    AT_USER,
    AT_OTHER,                                // kind of the token: one of them is 1
    AT_BAD,                                  // 0, or negative where a row of layer 0 was lost
    AT_FLAG,                                 // whether the assistant talks
    AT_RATIO,                                // share of assistant markers among the markers so far
    AT_LAGS = 28,                            // codes at distance 0 .. LAGS-1
    AT_QUERY = AT_LAGS + LAGS * CODE_LENGTH, // hash of the context that ends here
    AT_KEY = AT_QUERY + BITS,                // hash of the context that ends one token earlier
    AT_OUT = AT_KEY + BITS,                  // code of the token to say
    AT_END = AT_OUT + CODE_LENGTH,           // end mark
    AT_COUNT,
};

// amplitudes in the residual stream
#define AMP_ONE   4.0
#define AMP_FLAG  0.25
#define AMP_RATIO 0.125
#define AMP_BAD   0.5
#define AMP_HASH  (1.0 / 64)
#define AMP_OUT   0.01
#define AMP_END   64.0 // of the value that carries the end mark

// An attention score is q.k / sqrt(HEAD). The wanted row scores WANTED, every other row much less, a lost (zero) row 0:
// it takes all attention, so that losses show.
#define WANTED      (-24.0)
#define FIXED_QUERY 30.0 // amplitude of queries in the fixed dimensions
#define NOISE       2.0  // of one share of a value, in units of the code

// A weight matrix w[out][in], or a vector (out == 1, always F32 in the file).
struct matrix {
    char name[64];
    int64_t in, out;
    float *w;
};

struct layer {
    struct matrix *attention_norm, *query, *key, *value, *output, *ff_norm, *gate, *up, *down;
};

// Heads of match layers whose outputs are solved for together.
struct share {
    struct matrix *value, *output;
    const double *mixture; // [kv heads * HEAD][match_columns]
    int kv_head, head;
};

struct recall {
    struct recall_settings settings;
    int group; // query heads per KV head
    struct rng rng;
    int8_t code[256][CODE_LENGTH];
    double (*hash)[BITS][CODE_LENGTH];            // [distance]; zero outside of the bit's segment
    double check[STEP][CODE_LENGTH][CODE_LENGTH]; // [distance][out][in]: noise where the nearest bytes differ
    struct matrix *matrices;
    int matrix_count;
    struct share *shares;
    int share_count;
    double *mixtures;
};

static inline float *at(struct matrix *m, int64_t out, int64_t in) { return &m->w[out * m->in + in]; }

// The key amplitude, in a fixed direction, that gives this score.
double recall_key_for(double score);

void recall_hash_make(struct recall *r);
double recall_hash_weight(int bit, int *lag); // score of a bit; the first distance of its segment

void recall_fill_rope(struct matrix *factors); // rope_freqs.weight, for a base of 1

void recall_flags_layer(struct recall *r, struct layer *l);
void recall_lags_layer(struct recall *r, struct layer *l);
void recall_blocks_layer(struct recall *r, struct layer *l);
void recall_match_layer(struct recall *r, struct layer *l, double *mixture);
int recall_match_columns(void);

// Sets the outputs of all match layers so that their sum is the code to say. Fails if there are too few heads for that.
int recall_match_solve(struct recall *r, struct err *e) MUST_USE;

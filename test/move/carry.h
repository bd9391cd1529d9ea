// The KV rows of a prompt on their way from one loaded model to another, in this program: taken out by the worker's own
// exporter while the prompt is computed, put in by its importer, and the logits on both sides, to be compared bit by
// bit. Calls of cmocka's fail_msg end the test where something is not as it should be.
#pragma once

#include "engine/worker/model.h"

enum {
    CARRY_STEPS = 4,       // tokens that are generated on either side
    CARRY_TOKENS = 8000,   // most of a prompt
    CARRY_VOCAB = 512,     // most of a vocabulary
    CARRY_PLANE = 4 << 20, // most bytes of a layer's rows, K or V
    CARRY_PLANES = 2 * 4,  // K and V of each layer, at most
    CARRY_CTX = 8192,      // of a model that is loaded here
};

struct carry_logits { // those after the prompt, and after each token that was generated
    float of[CARRY_STEPS + 1][CARRY_VOCAB];
};

struct carried {                                   // plain memory: it may be shared with another process
    int32_t n, tokens[CARRY_TOKENS + CARRY_STEPS]; // the prompt's, and those that were generated
    enum kv_dtype dtype;                           // of the rows
    unsigned char rows[CARRY_PLANES][CARRY_PLANE]; // [kind * layers + layer], by position
    struct carry_logits there;                     // what the model that has read it said
};

// A model of the test's folder, with a cache of that type; on devices where gpu says so. Ends the program where it
// cannot be loaded.
void carry_load(struct model *m, const char *name, const char *kv_type, bool gpu);

void carry_prompt(struct carried *c, int32_t n); // n random tokens

// Reads the prompt chunk by chunk while its rows leave, and goes on greedily.
void carry_out(struct model *m, struct carried *c);

// Puts the rows into an empty sequence, having travelled as `wire`, and computes the tokens that the other model has
// generated: logits->of[1] and so on.
void carry_in(struct model *m, const struct carried *c, enum kv_dtype wire, struct carry_logits *logits);

// The largest difference of two logits of the same step, as a share of the RMS of the logits there. 0: all are the same
// bit for bit.
double carry_difference(const struct model *m, const struct carried *c, const struct carry_logits *here);

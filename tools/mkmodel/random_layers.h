// What the layers of random models are made of, by architecture, and what their headers say.
#pragma once

#include "random.h"
#include <stdbool.h>
#include <stdint.h>

// What makes a matrix: its rows are random, and in special ones row 0 or channel 0 has a meaning.
enum role {
    ROLE_PLAIN,
    ROLE_WRITER, // into the residual stream
    ROLE_EMBEDDING,
    ROLE_OUTPUT,
    ROLE_TIED,
    ROLE_DECAY, // of a state's numbers: rows of -1, -2, ...
    ROLE_VECTOR // of one value
};

struct layer_part {
    const char *name;
    int64_t width, rows;
    double value; // standard deviation; of vectors: the value
    enum role role;
    bool exact; // F32 in models of any type
};

enum { LAYER_PARTS = 16 };

// Returns how many there are, in the order of their tensors.
int layers_parts(enum random_arch arch, const struct llama_shape *s, struct layer_part out[LAYER_PARTS]);

// Everything but the tokenizer.
void layers_header(enum random_arch arch, const struct llama_shape *s, struct gguf_context *header);

// Standard deviation of weights that turn `in` numbers of order one into numbers of order `gain`.
double layers_deviation(double gain, int64_t in);

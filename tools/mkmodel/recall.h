// Makes a model that continues verbatim a passage that stood earlier in its prompt. Its weights are constructed, not
// trained.
#pragma once

#include "base/err.h"
#include "llama_header.h"

struct recall_settings {
    struct llama_shape shape; // head_size is fixed; vocabulary 0: no padding
    int seed;
    int check; // 1: the nearest seven bytes must agree exactly with the passage found
};

// The shape that suffices, f16.
struct recall_settings recall_defaults(void);

// Writes the file. ERR_INVALID: the construction does not fit into the shape.
int recall_write(const char *path, const struct recall_settings *settings, struct err *e) MUST_USE;

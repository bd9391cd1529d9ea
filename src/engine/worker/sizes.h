// The sizes a worker runs with, chosen from what was asked for, the machine and the model. Pure.
#pragma once

#include "engine/options.h"
#include <stdint.h>

struct facts {
    int32_t cores, ctx_train, layers;          // 0 = unknown
    int64_t free_bytes, model_bytes, kv_bytes; // kv_bytes: of one token; 0 = none or unknown
    int64_t gpu_bytes;                         // free on the GPUs; 0 = no GPU
};

struct sizes {
    int32_t ctx, kv_cells, parallel, threads, chunk, gpu_layers;
};

enum {
    SIZES_CELLS_MIN = 2048,  // cells of a cache whose size was left to us
    SIZES_CELLS_MAX = 32768, // likewise; more is taken only when it is asked for
};

void sizes_choose(const struct engine_options *o, const struct facts *f, struct sizes *out);

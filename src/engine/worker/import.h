// Rows that arrive: from a slot of shared memory into the KV cache. Threads: the compute thread.
#pragma once

#include "engine/worker/layout.h"
#include <llama.h>

struct importer {
    const struct layout *layout;
    struct llama_context *ctx;
    llama_seq_id staging;
};

// Adds positions [first, first + count) to the sequence. `unit`: the rows stand at their places in it; what is around
// them is overwritten. ERR_BUSY where the cache has no room for them (older versions of libllama want consecutive
// cells); then nothing was added.
int importer_install(const struct importer *m, unsigned char *unit, llama_seq_id slot, int32_t first, int32_t count,
                     struct err *e) MUST_USE;

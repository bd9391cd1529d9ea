// Rows that arrive: from a slot of shared memory into the KV cache. Threads: the compute thread.
#pragma once

#include "engine/worker/layout.h"
#include <llama.h>

struct importer {
    const struct layout *layout;
    struct llama_context *ctx;
    llama_seq_id staging;
    unsigned char *part; // of a unit that does not fit in one piece; owned
    size_t room;
};

void importer_close(struct importer *m);

// Adds positions [first, first + count) to the sequence. `unit`: the rows stand at their places in it; what is around
// them is overwritten. libllama wants consecutive cells for what it installs at once: where the free ones are
// scattered, the unit goes in in smaller pieces. ERR_BUSY where the cache is full; then nothing was added.
int importer_install(struct importer *m, unsigned char *unit, llama_seq_id slot, int32_t first, int32_t count,
                     struct err *e) MUST_USE;

// What this machine offers to a worker. Threads: any.
#pragma once

#include <stdint.h>

struct machine {
    int32_t cores;      // physical cores this process may run on, at least 1
    int64_t free_bytes; // memory that can be taken without swapping; 0 = unknown
};

void machine_look(struct machine *m);

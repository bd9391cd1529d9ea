// How fast bytes pass, without the beginning: buffers fill then, and TCP does not know the path yet. Pure; any thread,
// one at a time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct rate {
    uint64_t skip_bytes, skip_ns;   // the beginning ends with either
    uint64_t bytes;                 // all
    uint64_t first_bytes, begun_ns; // of the first piece, and when it had passed
    uint64_t marked_bytes, mark_ns; // how many there were at the end of the beginning, and when
    uint64_t last_ns;
    bool warm; // the beginning is over
};

void rate_begin(struct rate *r, uint64_t skip_bytes, uint64_t skip_ns);
void rate_add(struct rate *r, uint64_t bytes, uint64_t now_ns); // have passed; bytes > 0
// The bytes that passed after the beginning (after the first piece, where nothing came later) and the time they took.
// False where that is nothing.
bool rate_get(const struct rate *r, uint64_t *bytes, uint64_t *ns);

// What a token costs at the least between a worker and a client: a process that only waits, receives and sends.
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct relay {
    pid_t pids[2]; // the relay; the ends, which send a token on a socketpair and take it from a loopback TCP connection
    int result;    // a pipe
    int tokens;
};

// Starts relaying `tokens` tokens, one every pace_ns. Two processes, that end with this one at the latest.
int relay_start(struct relay *r, int tokens, uint64_t pace_ns, struct err *e) MUST_USE;
bool relay_done(const struct relay *r);
int relay_end(struct relay *r, double *us_per_token, struct err *e) MUST_USE; // waits; CPU time of the relay alone

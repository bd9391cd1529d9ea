// Numbers of one measured cell (a server, a number of clients, a round), and what is made of them.
#pragma once

#include "load.h"
#include <stdbool.h>

enum { LEVELS = 3, MAX_ROUNDS = 9, SIDES = 2 }; // sides: ours, theirs

struct cell {                                    // one round's
    double tokens_per_s;                         // prompt and completion tokens together
    double ttft_s[MIX_KINDS], tpot_s[MIX_KINDS]; // medians
};

struct pool { // all rounds' requests
    int count;
    struct seen seen[MAX_ROUNDS * LOAD_MAX_REQUESTS];
};

struct report {
    int clients[LEVELS];
    struct mix mix;
    int rounds;
    struct cell cells[SIDES][LEVELS][MAX_ROUNDS];
    struct pool pools[SIDES][LEVELS];
    uint64_t daemon_ns[LEVELS], daemon_tokens[LEVELS]; // of all our rounds; tokens: generated ones
    double relay_us;                                   // CPU time per token of a bare relay
    uint64_t others_ns, wall_ns; // CPU time of programs that have no part in this, while it was measured
};

void report_add(struct report *r, int side, int level, int round, const struct load_result *result);
void report_machine(const char *llama_version); // one line about this machine
void report_print(const struct report *r);      // the table, then the JSON line

// Numbers of one measured cell (a server, a number of clients, a round), and what is made of them.
#pragma once

#include "load.h"
#include <stdbool.h>

enum { LEVELS = 3, MAX_ROUNDS = 9, SIDES = 2 }; // sides: ours, theirs

struct cell {
    double tokens_per_s; // prompt and completion tokens together
    double ttft_median[MIX_KINDS], ttft_p95[MIX_KINDS], tpot_median[MIX_KINDS], tpot_p95[MIX_KINDS]; // seconds
};

struct report {
    int clients[LEVELS];
    struct mix mix;
    int rounds;
    struct cell cells[SIDES][LEVELS][MAX_ROUNDS];
    uint64_t daemon_ns, daemon_tokens; // of all our rounds; tokens: generated ones
};

void report_cell(struct cell *out, const struct load_result *r);
void report_machine(const char *llama_version); // one line about this machine
void report_print(const struct report *r);      // the table, then the JSON line

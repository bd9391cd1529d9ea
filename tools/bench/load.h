// A load: clients that send streamed completions to one OpenAI-shaped server, and what each of them saw.
#pragma once

#include "base/err.h"
#include <stdint.h>

enum { MIX_KINDS = 2, LOAD_MAX_REQUESTS = 256, LOAD_MAX_CLIENTS = 64 };

struct mix {
    int prompt_tokens[MIX_KINDS]; // requests take turns
    int max_tokens, vocabulary;
    double temperature;
};

struct load {
    uint16_t port; // of 127.0.0.1
    int clients, requests;
    uint64_t seed; // the same seed gives the same requests; no two prompts of a load share a prefix
    struct mix mix;
};

struct seen {
    int kind; // index into mix.prompt_tokens
    int completion_tokens;
    double ttft_s, tpot_s; // first event with text; the rest of the text, per token
};

struct load_result {
    double wall_s;
    int64_t tokens_in, tokens_out;
    int count;
    struct seen seen[LOAD_MAX_REQUESTS];
};

// Runs the whole load and waits for its end. Fails where any request fails or generates another number of tokens than
// asked.
int load_run(const struct load *l, struct load_result *out, struct err *e) MUST_USE;

// Gets a path of the server; returns the HTTP status, 0 where nobody answers. Body (may be NULL) is malloc'd.
long load_get(uint16_t port, const char *path, char **body);

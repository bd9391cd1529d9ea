// Asking a model over the daemon's API and showing its answer; shared by `run` with a prompt and by the chat.
#pragma once

#include "base/buf.h"
#include "cli/api_client.h"
#include "cli/options.h"

// The options that shape an answer, for command tables.
#define OPTIONS_GENERATE                                                                                               \
    {.name = "temperature",                                                                                            \
     .letter = 't',                                                                                                    \
     .type = OPTION_REAL,                                                                                              \
     .min = 0,                                                                                                         \
     .max = 100,                                                                                                       \
     .placeholder = "X",                                                                                               \
     .help = "randomness; 0 is greedy"},                                                                               \
        {.name = "top-k",                                                                                              \
         .type = OPTION_INT,                                                                                           \
         .min = 0,                                                                                                     \
         .max = 1000000,                                                                                               \
         .placeholder = "N",                                                                                           \
         .help = "draw from the N likeliest tokens (0: off)"},                                                         \
        {.name = "top-p",                                                                                              \
         .type = OPTION_REAL,                                                                                          \
         .min = 0,                                                                                                     \
         .max = 1,                                                                                                     \
         .placeholder = "X",                                                                                           \
         .help = "draw from the likeliest tokens that sum to X (1: off)"},                                             \
        {.name = "min-p",                                                                                              \
         .type = OPTION_REAL,                                                                                          \
         .min = 0,                                                                                                     \
         .max = 1,                                                                                                     \
         .placeholder = "X",                                                                                           \
         .help = "drop tokens below X times the likeliest (0: off)"},                                                  \
        {.name = "repeat-penalty",                                                                                     \
         .type = OPTION_REAL,                                                                                          \
         .min = 0,                                                                                                     \
         .max = 100,                                                                                                   \
         .placeholder = "X",                                                                                           \
         .help = "make tokens seen lately less likely (1: off)"},                                                      \
        {.name = "repeat-last-n",                                                                                      \
         .type = OPTION_INT,                                                                                           \
         .min = -1,                                                                                                    \
         .max = 16777216,                                                                                              \
         .placeholder = "N",                                                                                           \
         .help = "tokens the penalties look back (-1: all)"},                                                          \
        {.name = "presence-penalty",                                                                                   \
         .type = OPTION_REAL,                                                                                          \
         .min = -2,                                                                                                    \
         .max = 2,                                                                                                     \
         .placeholder = "X",                                                                                           \
         .help = "make tokens that occurred less likely (0: off)"},                                                    \
        {.name = "frequency-penalty",                                                                                  \
         .type = OPTION_REAL,                                                                                          \
         .min = -2,                                                                                                    \
         .max = 2,                                                                                                     \
         .placeholder = "X",                                                                                           \
         .help = "the same, by how often they occurred (0: off)"},                                                     \
        {.name = "seed",                                                                                               \
         .type = OPTION_INT,                                                                                           \
         .min = 0,                                                                                                     \
         .max = 9007199254740991,                                                                                      \
         .placeholder = "N",                                                                                           \
         .help = "the same seed gives the same answer"},                                                               \
        {.name = "max-tokens",                                                                                         \
         .letter = 'n',                                                                                                \
         .type = OPTION_INT,                                                                                           \
         .min = 1,                                                                                                     \
         .max = 16777216,                                                                                              \
         .placeholder = "N",                                                                                           \
         .help = "end the answer after N tokens"},                                                                     \
        {.name = "stop",                                                                                               \
         .type = OPTION_TEXT,                                                                                          \
         .placeholder = "TEXT",                                                                                        \
         .help = "end the answer before TEXT (may be repeated)"},                                                      \
    {                                                                                                                  \
        .name = "ignore-eos", .type = OPTION_FLAG, .help = "go on where the model would end (for measuring)"           \
    }

// What became of an answer. Milliseconds; -1 = not told.
struct outcome {
    struct buf text; // the whole answer
    char finish[16]; // "stop", "length", "" where it was cut off
    double queue_ms, prefill_ms, decode_ms, ttft_ms, tpot_ms, total_ms;
    int64_t seed, prompt_tokens, completion_tokens;
};

void outcome_init(struct outcome *o);
void outcome_free(struct outcome *o);

// The request object that the options ask for: model, sampling, stop. The caller adds `messages` or `prompt`. NULL: out
// of memory.
json_t *generate_request(const struct args *a, const char *model);

// Sends `request` (chat where it has messages, else a plain completion) and writes the answer to stdout as it comes; on
// a terminal without control sequences. Whatever came before a failure or ^C stays in o->text.
int generate_stream(struct api_client *api, json_t *request, struct outcome *o, struct err *e) MUST_USE;

// The same without streaming: the daemon's whole answer (new reference).
int generate_whole(struct api_client *api, json_t *request, json_t **answer, struct err *e) MUST_USE;

// One line about an outcome on stderr.
void outcome_print(const struct outcome *o);

// One inference request and its result, as the daemon gives them to a worker and gets them back.
#pragma once

#include "base/err.h"
#include "base/limits.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct logit_bias {
    int32_t token;
    float bias;
};

struct sampling {
    float temperature;                                         // 0 = greedy
    int32_t top_k;                                             // 0 = off
    float top_p;                                               // 1 = off
    float min_p;                                               // 0 = off
    float repeat_penalty, presence_penalty, frequency_penalty; // 1, 0, 0 = off
    int32_t penalty_last_n;                                    // tokens looked back; -1 = all, 0 = off
    uint64_t seed; // the draw for position p depends on (seed, p) and the logits only
    size_t n_bias;
    struct logit_bias bias[LIMIT_LOGIT_BIAS];
};

enum prompt_kind {
    PROMPT_TEXT,   // prompt: a string; special tokens in it are tokenized as such
    PROMPT_TOKENS, // prompt: an array of token ids
    PROMPT_CHAT,   // prompt: an array of messages, rendered by the model's chat template
};

struct gen_request {
    enum prompt_kind kind;
    json_t *prompt;        // owned reference
    json_t *template_args; // owned; extra variables for the chat template, or NULL
    struct sampling sampling;
    int64_t max_tokens; // -1 = as many as fit the context; 0: it ends at once, and the result says what is kept of it
    size_t n_stop;
    char *stop[LIMIT_STOP_STRINGS]; // owned
    bool ignore_eos;                // benchmarks: run to max_tokens
    bool echo_prompt;               // begin.prompt_text is wanted (completions' `echo`)
    bool hold;                      // it gets its place, but is not computed before engine_go
    bool bare;                      // made by the daemon itself, to measure: nothing of it is kept or counted
    bool exact;                     // nothing of it is computed from rows that once travelled more coarsely
    bool show_tokens;               // begin.tokens and the ids of generated tokens are wanted
};

// llama.cpp's customary defaults, greedy off, a seed of 0 (the caller draws one), no stop strings, no prompt.
void gen_request_init(struct gen_request *r);
void gen_request_free(struct gen_request *r); // NULL-safe members

enum finish { FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED };

struct gen_begin {
    int32_t prompt_tokens;
    int32_t cached_tokens;   // of those, in the KV cache already
    int32_t answer_tokens;   // most that may follow: max_tokens, or what the context has room for; 0 = not told
    const char *prompt_text; // only when echo_prompt, else NULL; borrowed during the callback
    // prompt_tokens of them, only when show_tokens and no more than LIMIT_JSON_VALUES / 2, else NULL; borrowed likewise
    const int32_t *tokens;
};

struct gen_result {
    enum finish finish;
    const char *stop_string; // the stop string that ended it, or NULL; borrowed during the callback
    int32_t prompt_tokens, cached_tokens, completion_tokens;
    // durations inside the worker: waiting for a sequence, reading the prompt (to its first token), writing the rest
    uint64_t queue_ns, prefill_ns, decode_ns;
};

const char *finish_name(enum finish f); // "stop", "length", "cancelled"

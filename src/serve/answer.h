// Answers in the shapes of OpenAI's API: whole objects, or the events of a stream. Pure: writes into the caller's
// buffer. A stream is
//     answer_open, answer_text*, then answer_close or answer_error
// and a whole answer is answer_text* and answer_whole.
#pragma once

#include "base/buf.h"
#include "base/id.h"
#include "engine/request.h"
#include "serve/api.h"
#include "serve/trace.h"

struct answer {
    enum api_kind kind;
    bool stream, include_usage;
    char id[ID_SIZE]; // "chatcmpl-..." or "cmpl-..."
    char model[LIMIT_MODEL_NAME + 1];
    int64_t created; // seconds since 1970-01-01 UTC
    int64_t seed;    // as the client may send it again
    struct buf head; // streams: what every event with text begins with
    struct buf text; // whole answers: the text so far
};

// How it went, in nanoseconds; ttft, tpot and total as the daemon saw them.
struct answer_figures {
    enum finish finish;
    int32_t prompt_tokens, cached_tokens, completion_tokens;
    uint64_t queue_ns, prefill_ns, decode_ns, ttft_ns, tpot_ns, total_ns;
    const struct trace *trace; // what happened when, or NULL
};

// The name is the loaded model's. Free with answer_free, also after a failure.
int answer_init(struct answer *a, const struct api_request *r, const char *id, const char *model, int64_t created,
                struct err *e) MUST_USE;
void answer_free(struct answer *a);

// All return -1 only where memory or a buffer's limit is exhausted. `text` is valid UTF-8.
int answer_open(const struct answer *a, struct buf *out) MUST_USE;
int answer_text(struct answer *a, struct buf *out, const char *text, size_t len) MUST_USE;
int answer_close(const struct answer *a, struct buf *out, const struct answer_figures *f) MUST_USE;
int answer_error(struct buf *out, const json_t *error) MUST_USE; // {"error":{...}}
int answer_whole(const struct answer *a, struct buf *out, const struct answer_figures *f) MUST_USE;

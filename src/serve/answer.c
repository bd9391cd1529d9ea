#include "serve/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_BYTES = 4096, REAL_DIGITS = 12 };

// ---------------------------------------------------------------- text
// The escapes of JSON for bytes that need one; 0 where they go as they are.
static char escape_of(unsigned char c) {
    switch (c) {
    case '"': return '"';
    case '\\': return '\\';
    case '\n': return 'n';
    case '\r': return 'r';
    case '\t': return 't';
    default: return c < 0x20 ? 'u' : 0;
    }
}

// Appends text as the inside of a JSON string.
static void put_escaped(struct buf *out, const char *text, size_t len) {
    size_t start = 0;
    for (size_t i = 0; i < len; i++) {
        char c = escape_of((unsigned char)text[i]);
        if (!c) continue;
        buf_append(out, text + start, i - start);
        if (c == 'u')
            buf_printf(out, "\\u%04x", (unsigned)(unsigned char)text[i]);
        else
            buf_append(out, (char[]){'\\', c}, 2);
        start = i + 1;
    }
    buf_append(out, text + start, len - start);
}

// Compact, with times as people write them: 0.028, not 0.028000000000000001.
static char *short_text(const json_t *v) {
    return v ? json_dumps(v, JSON_COMPACT | JSON_REAL_PRECISION(REAL_DIGITS)) : NULL;
}

static int put_event(struct buf *out, json_t *v) {
    char *text = short_text(v);
    if (text) {
        buf_puts(out, "data: ");
        buf_puts(out, text);
        buf_puts(out, "\n\n");
    }
    json_decref(v);
    free(text);
    return text && !out->failed ? 0 : -1;
}

// ---------------------------------------------------------------- objects
static const char *object_of(const struct answer *a) {
    if (a->kind == API_COMPLETION) return "text_completion";
    return a->stream ? "chat.completion.chunk" : "chat.completion";
}

// The object around one choice (or none, where it is NULL); takes the choice over.
static json_t *envelope(const struct answer *a, json_t *choice) {
    json_t *choices = choice ? json_pack("[o]", choice) : json_array();
    return json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", a->id, "object", object_of(a), "created",
                     (json_int_t)a->created, "model", a->model, "choices", choices);
}

static json_t *usage(const struct answer_figures *f) {
    return json_pack("{s:i, s:i, s:I, s:{s:i}}", "prompt_tokens", (int)f->prompt_tokens, "completion_tokens",
                     (int)f->completion_tokens, "total_tokens", (json_int_t)f->prompt_tokens + f->completion_tokens,
                     "prompt_tokens_details", "cached_tokens", (int)f->cached_tokens);
}

static double ms(uint64_t ns) { return (double)(ns / 1000) / 1000; } // to the microsecond

static json_t *own_member(const struct answer *a, const struct answer_figures *f) {
    json_t *timings = json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "queue_ms", ms(f->queue_ns), "prefill_ms",
                                ms(f->prefill_ns), "decode_ms", ms(f->decode_ns), "ttft_ms", ms(f->ttft_ns), "tpot_ms",
                                ms(f->tpot_ns), "total_ms", ms(f->total_ns));
    json_t *own =
        json_pack("{s:s, s:o, s:I, s:i, s:i}", "model", a->model, "timings", timings, "seed", (json_int_t)a->seed,
                  "prompt_tokens", (int)f->prompt_tokens, "completion_tokens", (int)f->completion_tokens);
    if (f->trace) json_object_set_new(own, "trace", trace_json(f->trace));
    json_t *plan = f->trace ? trace_plan_json(f->trace) : NULL;
    if (plan) json_object_set_new(own, "plan", plan);
    return own;
}

// A stream's last choice, without text.
static json_t *last_choice(const struct answer *a, const struct answer_figures *f) {
    const char *finish = finish_name(f->finish);
    if (a->kind == API_CHAT) return json_pack("{s:i, s:{}, s:s}", "index", 0, "delta", "finish_reason", finish);
    return json_pack("{s:i, s:s, s:n, s:s}", "index", 0, "text", "", "logprobs", "finish_reason", finish);
}

// ---------------------------------------------------------------- streams
// {"id":..., "choices":[{"index":0,"delta":{"content":"   - the text follows
static int make_head(struct answer *a) {
    json_t *v = envelope(a, NULL);
    char *text = short_text(v);
    if (text) {
        size_t n = strlen(text) - strlen("]}");
        buf_puts(&a->head, "data: ");
        buf_append(&a->head, text, n);
        buf_puts(&a->head, a->kind == API_CHAT ? "{\"index\":0,\"delta\":{\"content\":\"" : "{\"index\":0,\"text\":\"");
    }
    json_decref(v);
    free(text);
    return text && !a->head.failed ? 0 : -1;
}

static int stream_text(const struct answer *a, struct buf *out, const char *text, size_t len) {
    buf_append(out, a->head.data, a->head.len);
    put_escaped(out, text, len);
    buf_puts(out,
             a->kind == API_CHAT ? "\"},\"finish_reason\":null}]" : "\",\"logprobs\":null,\"finish_reason\":null}]");
    return buf_puts(out, a->include_usage ? ",\"usage\":null}\n\n" : "}\n\n");
}

int answer_init(struct answer *a, const struct api_request *r, const char *id, const char *model, int64_t created,
                struct err *e) {
    *a = (struct answer){.kind = r->kind,
                         .stream = r->stream,
                         .include_usage = r->include_usage,
                         .created = created,
                         .seed = (int64_t)r->gen.sampling.seed};
    snprintf(a->id, sizeof a->id, "%s", id);
    snprintf(a->model, sizeof a->model, "%s", model);
    buf_init(&a->head, HEAD_BYTES);
    buf_init(&a->text, LIMIT_ANSWER);
    return a->stream && make_head(a) ? err_set(e, ERR_INTERNAL, "out of memory") : 0;
}

void answer_free(struct answer *a) {
    buf_free(&a->head);
    buf_free(&a->text);
}

int answer_open(const struct answer *a, struct buf *out) {
    if (a->kind == API_COMPLETION) return 0;
    json_t *choice =
        json_pack("{s:i, s:{s:s, s:s}, s:n}", "index", 0, "delta", "role", "assistant", "content", "", "finish_reason");
    json_t *v = choice ? envelope(a, choice) : NULL;
    if (v && a->include_usage) json_object_set_new(v, "usage", json_null());
    return put_event(out, v);
}

int answer_text(struct answer *a, struct buf *out, const char *text, size_t len) {
    return a->stream ? stream_text(a, out, text, len) : buf_append(&a->text, text, len);
}

int answer_close(const struct answer *a, struct buf *out, const struct answer_figures *f) {
    json_t *choice = last_choice(a, f);
    json_t *v = choice ? envelope(a, choice) : NULL;
    if (v)
        json_object_set_new(v, a->include_usage ? "usage" : "nebulus",
                            a->include_usage ? json_null() : own_member(a, f));
    if (put_event(out, v)) return -1;
    if (a->include_usage) {
        v = envelope(a, NULL);
        if (!v || json_object_set_new(v, "usage", usage(f)) || json_object_set_new(v, "nebulus", own_member(a, f))) {
            json_decref(v);
            return -1;
        }
        if (put_event(out, v)) return -1;
    }
    return buf_puts(out, "data: [DONE]\n\n");
}

int answer_error(struct buf *out, const json_t *error) {
    return put_event(out, json_incref((json_t *)(uintptr_t)error));
}

// ---------------------------------------------------------------- whole answers
int answer_whole(const struct answer *a, struct buf *out, const struct answer_figures *f) {
    const char *finish = finish_name(f->finish);
    json_t *text = json_stringn(a->text.data ? a->text.data : "", a->text.len);
    json_t *choice = !text                 ? NULL
                     : a->kind == API_CHAT ? json_pack("{s:i, s:{s:s, s:o}, s:s}", "index", 0, "message", "role",
                                                       "assistant", "content", text, "finish_reason", finish)
                                           : json_pack("{s:i, s:o, s:n, s:s}", "index", 0, "text", text, "logprobs",
                                                       "finish_reason", finish);
    json_t *v = choice ? envelope(a, choice) : NULL;
    char *body = NULL;
    if (v && !json_object_set_new(v, "usage", usage(f)) && !json_object_set_new(v, "nebulus", own_member(a, f)))
        body = short_text(v);
    int rc = body ? buf_puts(out, body) : -1;
    json_decref(v);
    free(body);
    return rc;
}

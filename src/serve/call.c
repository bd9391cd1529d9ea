#include "serve/call.h"
#include "base/json.h"
#include "net/http_json.h"

#include <stdlib.h>
#include <string.h>

// How API clients see an error. Clients retry 408, 409, 429 and 5xx by themselves.
static const struct refusal {
    int status;
    const char *type, *code;
} refusals[] = {
    [ERR_NONE] = {500, "server_error", "internal_error"},
    [ERR_INVALID] = {400, "invalid_request_error", NULL},
    [ERR_NOT_FOUND] = {404, "invalid_request_error", "model_not_found"},
    [ERR_DENIED] = {403, "permission_error", "denied"},
    [ERR_LIMIT] = {400, "invalid_request_error", "limit_exceeded"},
    [ERR_BUSY] = {429, "rate_limit_error", "busy"},
    [ERR_UNREACHABLE] = {503, "server_error", "unreachable"},
    [ERR_CANCELLED] = {499, "server_error", "cancelled"},
    [ERR_WORKER] = {503, "server_error", "worker_failed"},
    [ERR_IO] = {500, "server_error", "io_error"},
    [ERR_INTERNAL] = {500, "server_error", "internal_error"},
    [ERR_RATE] = {429, "rate_limit_error", "rate_limited"},
    [ERR_BUDGET] = {429, "rate_limit_error", "budget_exhausted"},
    [ERR_AUDIT] = {503, "server_error", "audit_unavailable"},
};

// The one limit that clients know by a code of its own, and shorten their chat.
static const struct refusal too_long = {400, "invalid_request_error", "context_length_exceeded"};

static const struct refusal *refusal_of(const struct err *why) {
    if (why->code == ERR_LIMIT && (!strcmp(why->param, "prompt") || !strcmp(why->param, "messages"))) return &too_long;
    size_t n = sizeof refusals / sizeof *refusals;
    return &refusals[(size_t)why->code < n ? why->code : ERR_INTERNAL];
}

json_t *call_error(const struct err *why) {
    const struct refusal *r = refusal_of(why);
    return http_error_object(r->type, why->param[0] ? why->param : NULL, r->code, why->msg);
}

void call_reply(const struct call *c, int status, const json_t *v) {
    metrics_answer(&c->s->metrics, c->route, status);
    http_reply_json(c->x, status, v);
}

void call_answer(const struct call *c, json_t *v) {
    call_reply(c, v ? 200 : 500, v);
    json_decref(v);
}

void call_fail(const struct call *c, const struct err *why) {
    int status = refusal_of(why)->status;
    if (why->code == ERR_BUSY) http_add_header(c->x, "retry-after", "1");
    if (why->code == ERR_DENIED || why->code == ERR_BUDGET) http_add_header(c->x, "x-should-retry", "false");
    json_t *v = call_error(why);
    call_reply(c, status, v);
    json_decref(v);
}

void call_begin(const struct call *c, const char *type) {
    metrics_answer(&c->s->metrics, c->route, 200);
    http_add_header(c->x, "cache-control", "no-store");
    http_begin(c->x, 200, type);
}

void call_line(const struct call *c, json_t *v) {
    struct buf line;
    char *text = v ? json_text(v) : NULL;
    buf_init(&line, LIMIT_API_LINE);
    if (text && !buf_puts(&line, text) && !buf_puts(&line, "\n") && http_write(c->x, line.data, line.len))
        c->s->metrics.cancelled++;
    buf_free(&line);
    free(text);
    json_decref(v);
}

json_t *call_body(const struct call *c, struct err *e) {
    size_t len;
    const char *body = http_body(c->x, &len);
    json_t *o = json_parse(len ? body : "", len, e);
    if (!o || json_is_object(o)) return o;
    json_decref(o);
    err_set(e, ERR_INVALID, "the body must be a JSON object");
    return NULL;
}

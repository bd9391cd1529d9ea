// One call of the API: an exchange, its route's name and its answer, which is counted. Copied freely; valid as long as
// its exchange.
#pragma once

#include "serve/serve.h"

struct caller;

struct call {
    struct serve *s;
    struct http_exchange *x;
    const char *route;        // static
    const struct caller *who; // serve/gate.h; while the handler runs
};

void call_reply(const struct call *c, int status, const json_t *v); // v is borrowed
void call_answer(const struct call *c, json_t *v);                  // 200 with v, taken over; NULL: out of memory, 500
void call_fail(const struct call *c, const struct err *why);        // the JSON error object with the status that fits
void call_begin(const struct call *c, const char *type);            // a stream with status 200

// One line of an NDJSON stream; takes v over (NULL: out of memory, nothing is written). A client that does not read is
// dropped by the server, which its close callback tells of.
void call_line(const struct call *c, json_t *v);

// The body as a JSON object (new reference), or NULL.
json_t *call_body(const struct call *c, struct err *e) MUST_USE;

// {"error":{"message","type","param","code"}} for an error, as a new reference; NULL when out of memory.
json_t *call_error(const struct err *why);

// JSON answers. Threads: the event-loop thread only.
#pragma once

#include "net/http.h"
#include <jansson.h>

// Answers with the compact text of v (borrowed) and ends the exchange. A value that cannot be written out gives a 500.
void http_reply_json(struct http_exchange *x, int status, const json_t *v);

// Answers with the error object below and ends the exchange.
void http_reply_error(struct http_exchange *x, int status, const char *type, const char *param, const char *code,
                      const char *message);

// {"error":{"message","type","param","code"}} as a new reference, or NULL when out of memory. param and code may be
// NULL (null in JSON). Text from outside is allowed: invalid UTF-8 is escaped.
json_t *http_error_object(const char *type, const char *param, const char *code, const char *message);

// An HTTP/1.1 server on libevent's bufferevents and llhttp's strict parser. One request at a time per connection
// (pipelined ones wait), keep-alive, chunked streaming answers. Every refusal - also of what cannot be parsed - is a
// JSON error object
// {"error":{"message","type","param","code"}}. Every answer carries a fresh x-request-id. Limits are in base/limits.h.
// Threads: the event-loop thread only.
//
// A client has left when its connection breaks, when it shuts its sending side before the answer is complete (a
// half-close counts as leaving: no client waits for an answer that way, and it must be noticed at once), when it takes
// none of the bytes that wait for it for LIMIT_HTTP_WRITE_SECONDS, or when it sends more than LIMIT_HTTP_PIPELINED
// bytes behind an unanswered request.
#pragma once

#include "base/err.h"
#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_server;
struct http_exchange; // one request and its answer; lives until http_end / http_reply or until its client leaves

// Called once a request is complete. The handler answers now, or keeps x and answers later; where it keeps x it must
// set http_on_close.
typedef void (*http_handler)(struct http_exchange *x, void *arg);

// Also makes the process ignore SIGPIPE.
struct http_server *http_server_new(struct event_base *base, http_handler handler, void *arg, struct err *e) MUST_USE;

// Listens on host ("127.0.0.1", "::1", a name) and port (0 = any free one). *bound receives the port. May be called
// several times.
int http_server_listen(struct http_server *s, const char *host, uint16_t port, uint16_t *bound, struct err *e) MUST_USE;

// Closes listeners and connections; open exchanges get their close callback. Not from inside a handler or a close
// callback.
void http_server_free(struct http_server *s);
size_t http_server_connections(const struct http_server *s);

// ---- the request (borrowed until the exchange ends)
const char *http_method(const struct http_exchange *x);
const char *http_path(const struct http_exchange *x);  // percent-decoded, without the query; never contains NUL
const char *http_query(const struct http_exchange *x); // raw, "" where there is none
const char *http_header(const struct http_exchange *x, const char *name); // first of that name (any case), or NULL
const char *http_header_at(const struct http_exchange *x, const char *name, unsigned n); // the n-th, from 0, or NULL
const char *http_body(const struct http_exchange *x, size_t *len);
const char *http_peer(const struct http_exchange *x); // "127.0.0.1:51234"

// ---- the answer
// Adds a header to the coming answer. Value bytes below 0x20 are dropped. Call before http_reply / http_begin.
void http_add_header(struct http_exchange *x, const char *name, const char *value);

// A whole answer; ends the exchange. HEAD gets the headers only. After http_begin it cuts the connection, so that the
// client sees that the streamed answer is not whole.
void http_reply(struct http_exchange *x, int status, const char *type, const void *body, size_t len);

// A streamed answer: begin, any number of writes, end. A write fails (-1) where the client does not read and
// LIMIT_HTTP_BACKLOG bytes wait: the connection is dropped and the close callback follows.
void http_begin(struct http_exchange *x, int status, const char *type);
int http_write(struct http_exchange *x, const void *data, size_t len);
void http_end(struct http_exchange *x);
bool http_begun(const struct http_exchange *x);

// Called (once, from the loop or http_server_free) when the client leaves before the answer has ended, or its backlog
// overflows. x is gone after it.
void http_on_close(struct http_exchange *x, void (*closed)(void *arg), void *arg);

// What the parts of the HTTP server share: http.c (listeners, connections, time-outs), http_parse.c (bytes -> request),
// http_reply.c (answer -> bytes). Nothing outside net/, its tests and its fuzzer includes this.
#pragma once

#include "base/buf.h"
#include "base/limits.h"
#include "net/http.h"
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <llhttp.h>

// One connection. Only CONN_HANDLING has an exchange that the handler knows.
enum conn_state {
    CONN_IDLE,     // between requests
    CONN_HEAD,     // a request has begun
    CONN_BODY,     // its head is complete
    CONN_HANDLING, // complete, not yet answered; further bytes wait
    CONN_FLUSHING, // answered, not yet sent; then IDLE
    CONN_CLOSING,  // the last answer is being sent; then LINGERING
    CONN_LINGERING // our side is shut; what the client still sends is thrown away, so that no reset overtakes the
                   // answer
};

struct http_fault { // why a request is refused; texts are static
    int status;     // 0 = none
    const char *code, *message;
};

struct http_conn {
    struct http_server *server;
    struct http_conn *prev, *next;
    struct bufferevent *bev;
    struct event *timer; // the state's time-out; also made active to drop a doomed connection from the loop
    enum conn_state state;
    llhttp_t parser;
    struct http_exchange *x;   // the request being read (HEAD, BODY) or answered (HANDLING)
    struct http_fault fault;   // set by the parser's callbacks
    uint64_t body_deadline_ns; // BODY: monotonic time by which it must be complete
    bool used;                 // has begun a request
    bool doomed;               // to be dropped by the timer: the client's backlog overflowed
    bool eof;                  // the client will send nothing more
    char peer[64];
};

struct http_field { // a header line: offsets of two strings in http_exchange.head
    uint32_t name, value;
};

struct http_exchange {
    struct http_conn *conn;
    // the request
    struct buf target; // as sent; split into path and query once complete
    const char *query; // in target, or ""
    struct buf head;   // names and values, each followed by a NUL
    struct http_field fields[LIMIT_HTTP_HEADERS];
    unsigned field_count; // complete ones
    size_t head_bytes;    // of the head, seen so far
    size_t trailer_bytes; // of chunk extensions and trailers, which are ignored
    unsigned protocol;    // bytes of "HTTP" that matched
    bool head_done, complete;
    struct buf body;
    // the answer
    bool keep_alive, old, head_only; // old: an HTTP/1.0 client; head_only: the request was HEAD
    bool begun, chunked, closing;    // closing: its close callback runs
    struct buf extra;                // header lines from http_add_header
    void (*closed)(void *arg);
    void *closed_arg;
};

struct http_server {
    struct event_base *base;
    http_handler handler;
    void *arg;
    struct evconnlistener *listeners[LIMIT_HTTP_LISTENERS];
    size_t listener_count;
    struct event *resume; // enables the listeners again after the process ran out of descriptors
    struct http_conn *conns;
    size_t conn_count;
    size_t body_bytes;      // held by all exchanges
    size_t max_connections; // this and the times are LIMIT_HTTP_*; tests set smaller ones before they listen
    unsigned head_ms, body_ms, idle_ms, write_ms, linger_ms;
};

// ---- http.c
// Takes over a connected bufferevent (freed with the connection, also on failure). peer is copied.
struct http_conn *http_conn_new(struct http_server *s, struct bufferevent *bev, const char *peer);
void http_conn_enter(struct http_conn *c, enum conn_state next); // moves to a state that may follow; arms its time-out
void http_conn_doom(struct http_conn *c);                        // drops it, with the close callback, from the loop

// ---- http_parse.c
int http_request_begin(struct http_conn *c); // a fresh exchange in c->x and a fresh parser; -1 when out of memory
void http_exchange_free(struct http_exchange *x);
// Feeds n >= 1 bytes of the request in c->x and returns how many it consumed: all, unless x->complete or c->fault is
// set after.
size_t http_parse(struct http_conn *c, const char *data, size_t n);

// ---- http_reply.c
void http_refuse(struct http_conn *c, const struct http_fault *f); // answers with a JSON error and closes; frees c->x
int http_continue(struct http_conn *c);                            // "100 Continue"

// Feeds bytes to the HTTP server through a pair of bufferevents: once whole, once in small pieces. How the bytes are
// cut must not matter: the handler must see the same requests and the client must get the same answers.
#include "net/http_internal.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUTPUT_MAX = 8 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    struct event_base *base;
    struct http_exchange *kept;
    struct buf seen; // what the handler saw, then what the client got
};

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    abort();
}

static void on_closed(void *arg) {
    struct run *r = arg;
    r->kept = NULL;
}

static void note_request(struct run *r, const struct http_exchange *x) {
    size_t len;
    const char *body = http_body(x, &len), *path = http_path(x), *host = http_header(x, "host");
    for (const char *s = path; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7F) fail("a control character in the path");
    if (*path != '/' && strcmp(path, "*")) fail("a path that does not begin with '/'");
    if (strlen(body) > len) fail("a body that is not terminated");
    buf_printf(&r->seen, "%s %s?%s host=%s body=%zu:", http_method(x), path, http_query(x), host ? host : "-", len);
    buf_append(&r->seen, body, len);
}

// The query chooses the way of answering.
static void handle(struct http_exchange *x, void *arg) {
    struct run *r = arg;
    note_request(r, x);
    http_add_header(x, "x-query", http_query(x));
    switch (*http_query(x)) {
    case 'k':
        r->kept = x;
        http_on_close(x, on_closed, r);
        break;
    case 's':
        http_begin(x, 200, "text/plain");
        if (http_write(x, "abc", 3)) fail("a write that failed");
        if (http_query(x)[1] == 'c')
            http_reply(x, 500, NULL, "cut", 3);
        else
            http_end(x);
        break;
    default: http_reply(x, 200, "text/plain", "ok", 2);
    }
}

// Until nothing happens: every turn of the loop moves bytes or runs the callbacks that the turn before deferred.
static void settle(struct run *r, struct bufferevent *client) {
    struct evbuffer *in = bufferevent_get_input(client);
    for (int quiet = 0; quiet < 3;) {
        size_t before = evbuffer_get_length(in);
        struct http_exchange *kept = r->kept;
        r->kept = NULL;
        if (kept) http_reply(kept, 200, "text/plain", "late", 4);
        event_base_loop(r->base, EVLOOP_NONBLOCK);
        quiet = kept || r->kept || evbuffer_get_length(in) != before ? 0 : quiet + 1;
    }
}

static void run(struct run *r, const uint8_t *data, size_t size, size_t step) {
    struct err e;
    struct bufferevent *pair[2];
    struct http_server *s = http_server_new(r->base, handle, r, &e);
    if (!s || bufferevent_pair_new(r->base, 0, pair) || bufferevent_enable(pair[1], EV_READ | EV_WRITE))
        fail("no memory");
    if (!http_conn_new(s, pair[0], "fuzz")) fail("no connection");
    for (size_t i = 0; i < size; i += step) {
        if (bufferevent_write(pair[1], data + i, size - i < step ? size - i : step)) fail("no memory");
        settle(r, pair[1]);
    }
    settle(r, pair[1]);
    if (s->body_bytes > size) fail("body bytes are miscounted");
    http_server_free(s);
    struct evbuffer *in = bufferevent_get_input(pair[1]);
    size_t len = evbuffer_get_length(in);
    if (buf_puts(&r->seen, "\n--\n") || buf_append(&r->seen, evbuffer_pullup(in, -1), len)) fail("too much output");
    if (!strncmp(buf_str(&r->seen), "<", 1)) fail("HTML");
    bufferevent_free(pair[1]);
    event_base_loop(r->base, EVLOOP_NONBLOCK); // frees what the pair deferred
}

// Request ids are random: they may differ.
static void mask_ids(struct buf *b) {
    static const char mark[] = "x-request-id: ";
    char *at = b->data;
    while (at && (at = memmem(at, (size_t)(b->data + b->len - at), mark, sizeof mark - 1)))
        for (at += sizeof mark - 1; *at && *at != '\r'; at++) *at = '#';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct event_base *base;
    if (size > LIMIT_HTTP_PIPELINED)
        return 0; // beyond it the cut matters: a client that sends too far ahead is dropped
    if (!base) base = event_base_new();
    struct run whole = {.base = base}, pieces = {.base = base};
    buf_init(&whole.seen, OUTPUT_MAX);
    buf_init(&pieces.seen, OUTPUT_MAX);
    run(&whole, data, size, size ? size : 1);
    run(&pieces, data, size, size < 64 ? 1 : size / 16);
    mask_ids(&whole.seen);
    mask_ids(&pieces.seen);
    if (whole.seen.len != pieces.seen.len || memcmp(whole.seen.data, pieces.seen.data, whole.seen.len))
        fail("the answer depends on how the bytes were cut");
    buf_free(&whole.seen);
    buf_free(&pieces.seen);
    return 0;
}

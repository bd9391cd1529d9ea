// Answers to bytes. What the socket does not take at once goes into the connection's output buffer, which the loop
// sends; only the loop's callbacks (http.c) move on to the next request.
#include "net/http_internal.h"
#include "net/http_json.h"

#include "base/id.h"
#include "base/json.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

static const char *reason_of(int status) {
    static const struct {
        int status;
        const char *reason;
    } known[] = {{200, "OK"},
                 {201, "Created"},
                 {202, "Accepted"},
                 {204, "No Content"},
                 {304, "Not Modified"},
                 {400, "Bad Request"},
                 {401, "Unauthorized"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {408, "Request Timeout"},
                 {409, "Conflict"},
                 {413, "Content Too Large"},
                 {415, "Unsupported Media Type"},
                 {417, "Expectation Failed"},
                 {422, "Unprocessable Content"},
                 {429, "Too Many Requests"},
                 {431, "Request Header Fields Too Large"},
                 {499, "Client Closed Request"},
                 {500, "Internal Server Error"},
                 {501, "Not Implemented"},
                 {502, "Bad Gateway"},
                 {503, "Service Unavailable"},
                 {504, "Gateway Timeout"},
                 {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].status == status) return known[i].reason;
    return status < 400 ? "OK" : "Error";
}

static bool has_no_body(int status) { return status < 200 || status == 204 || status == 304; }

// ---- the head of an answer

static void clean_append(struct buf *b, const char *s) {
    for (; *s; s++)
        if ((unsigned char)*s >= 0x20 && *s != 0x7F) buf_append(b, s, 1);
}

// A header that does not fit beside the earlier ones is left out whole.
void http_add_header(struct http_exchange *x, const char *name, const char *value) {
    size_t before = x->extra.len;
    clean_append(&x->extra, name);
    buf_puts(&x->extra, ": ");
    clean_append(&x->extra, value);
    buf_puts(&x->extra, "\r\n");
    if (!x->extra.failed) return;
    x->extra.failed = false;
    x->extra.len = before;
    if (x->extra.data) x->extra.data[before] = 0;
}

static int put_head(const struct http_exchange *x, int status, const char *type, const char *framing) {
    struct evbuffer *out = bufferevent_get_output(x->conn->bev);
    const char *connection = !x->keep_alive ? "connection: close\r\n" : x->old ? "connection: keep-alive\r\n" : "";
    int n = evbuffer_add_printf(out, "HTTP/1.1 %d %s\r\n", status, reason_of(status));
    if (n < 0 || evbuffer_add(out, x->extra.data, x->extra.len)) return -1;
    n = evbuffer_add_printf(out, "%s%s%s%s%s\r\n", type ? "content-type: " : "", type ? type : "", type ? "\r\n" : "",
                            connection, framing);
    return n < 0 ? -1 : 0;
}

// ---- the end of an exchange

// Frees x. The connection goes on from the loop once the output is sent; a doomed one is dropped from there.
static void finish(struct http_exchange *x) {
    struct http_conn *c = x->conn;
    bool keep = x->keep_alive;
    c->x = NULL;
    http_exchange_free(x);
    http_conn_enter(c, keep && !c->eof ? CONN_FLUSHING : CONN_CLOSING);
    // Where every byte has left already, no write will end to say so.
    bufferevent_trigger(c->bev, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS);
}

void http_reply(struct http_exchange *x, int status, const char *type, const void *body, size_t len) {
    if (x->closing) return;
    if (x->begun) { // half an answer is out: only a cut connection tells the client that it is not whole
        http_conn_doom(x->conn);
        finish(x);
        return;
    }
    char framing[48] = "";
    if (!has_no_body(status)) snprintf(framing, sizeof framing, "content-length: %zu\r\n", len);
    int rc = put_head(x, status, type, framing);
    if (!rc && len && !x->head_only && !has_no_body(status))
        rc = evbuffer_add(bufferevent_get_output(x->conn->bev), body, len);
    if (rc) http_conn_doom(x->conn);
    finish(x);
}

// ---- streamed answers

void http_begin(struct http_exchange *x, int status, const char *type) {
    if (x->closing || x->begun) return;
    x->begun = true;
    x->chunked = !x->old;
    if (x->old) x->keep_alive = false; // HTTP/1.0: the end of the connection is the end of the answer
    if (put_head(x, status, type, x->chunked ? "transfer-encoding: chunked\r\n" : "")) http_conn_doom(x->conn);
}

// "1f\r\n" into out, which ends at `end`; returns where it begins.
static char *chunk_size(char *end, size_t n) {
    *--end = '\n';
    *--end = '\r';
    for (; n; n >>= 4) *--end = "0123456789abcdef"[n & 15];
    return end;
}

// Sends what the socket takes at once and returns how much that was: a token then costs one system call instead of the
// three or more that waiting for the loop to find the socket writable would. Faults show when the loop reads or writes.
static size_t send_now(struct http_conn *c, struct iovec *parts, size_t n) {
    evutil_socket_t fd = bufferevent_getfd(c->bev);
    if (fd < 0 || evbuffer_get_length(bufferevent_get_output(c->bev))) return 0; // no socket, or others come first
    ssize_t sent = sendmsg(fd, &(struct msghdr){.msg_iov = parts, .msg_iovlen = n}, MSG_DONTWAIT);
    return sent > 0 ? (size_t)sent : 0;
}

int http_write(struct http_exchange *x, const void *data, size_t len) {
    struct http_conn *c = x->conn;
    if (x->closing || c->doomed || !x->begun) return -1;
    if (!len || x->head_only) return 0;
    struct evbuffer *out = bufferevent_get_output(c->bev);
    char size[20], crlf[] = "\r\n", *end = size + sizeof size, *start = chunk_size(end, len);
    size_t around = x->chunked ? (size_t)(end - start) : 0, waiting = evbuffer_get_length(out);
    struct iovec parts[3] = {{start, around}, {(void *)(uintptr_t)data, len}, {crlf, x->chunked ? 2 : 0}};
    bool fits = len <= LIMIT_HTTP_BACKLOG && waiting <= LIMIT_HTTP_BACKLOG - len;
    size_t sent = fits ? send_now(c, parts, 3) : 0;
    for (int i = 0; i < 3 && fits; i++) {
        size_t gone = sent < parts[i].iov_len ? sent : parts[i].iov_len;
        sent -= gone;
        fits = !evbuffer_add(out, (const char *)parts[i].iov_base + gone, parts[i].iov_len - gone);
    }
    if (fits) return 0;
    http_conn_doom(c);
    return -1;
}

void http_end(struct http_exchange *x) {
    if (x->closing) return;
    http_begin(x, 500, NULL); // does nothing where the answer has begun, as it should have
    bool last = x->chunked && !x->head_only;
    if (last && evbuffer_add(bufferevent_get_output(x->conn->bev), "0\r\n\r\n", 5)) http_conn_doom(x->conn);
    finish(x);
}

bool http_begun(const struct http_exchange *x) { return x->begun; }

void http_on_close(struct http_exchange *x, void (*closed)(void *arg), void *arg) {
    x->closed = closed;
    x->closed_arg = arg;
}

// ---- without a handler

int http_continue(struct http_conn *c) { return bufferevent_write(c->bev, "HTTP/1.1 100 Continue\r\n\r\n", 25); }

void http_refuse(struct http_conn *c, const struct http_fault *f) {
    json_t *v =
        http_error_object(f->status < 500 ? "invalid_request_error" : "server_error", NULL, f->code, f->message);
    char *text = json_text(v);
    const char *body =
        text ? text
             : "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"param\":null,\"code\":null}}";
    bool head_only = c->x && c->x->head_only;
    char id[ID_SIZE];
    id_make("req_", id);
    http_exchange_free(c->x);
    c->x = NULL;
    int n = evbuffer_add_printf(
        bufferevent_get_output(c->bev),
        "HTTP/1.1 %d %s\r\nx-request-id: %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n"
        "connection: close\r\n\r\n%s",
        f->status, reason_of(f->status), id, strlen(body), head_only ? "" : body);
    free(text);
    json_decref(v);
    if (n < 0) http_conn_doom(c);
    http_conn_enter(c, CONN_CLOSING);
}

// The HTTP server over real sockets on loopback. The test drives the loop itself, between its own non-blocking reads
// and writes.
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "net/http_internal.h"
#include "net/http_json.h"

#include <event2/buffer.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
// clang-format off
#include <cmocka.h>
// clang-format on
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HANG_SECONDS = 60, BIG_ANSWER = 3 << 20, ANSWER_MAX = 64 << 20, FLOOD_PIECE = 64 << 10 };

struct rig {
    struct event_base *base;
    struct http_server *server;
    uint16_t port;
    unsigned handled, closed; // calls of the handler and of the close callback
    struct http_exchange *kept;
    size_t flooded; // bytes /flood could write
    int fd;         // the client
    struct buf in;  // what it received
    bool ended;     // it received the end of the stream or a reset
};

#define CLOSE_HOST "host: a\r\nconnection: close\r\n"

// ---- the handler

static void on_closed(void *arg) {
    struct rig *r = arg;
    r->closed++;
    r->kept = NULL;
}

static void reply_echo(struct http_exchange *x) {
    size_t len;
    const char *body = http_body(x, &len), *test = http_header(x, "X-Test");
    struct buf b;
    buf_init(&b, ANSWER_MAX);
    buf_printf(&b, "%s|%s|%s|%s|%zu|", http_method(x), http_path(x), http_query(x), test ? test : "-", len);
    buf_append(&b, body, len < 64 ? len : 64);
    http_reply(x, 200, "text/plain", b.data, b.len);
    buf_free(&b);
}

static void reply_flood(struct rig *r, struct http_exchange *x) {
    static const char piece[FLOOD_PIECE];
    unsigned closed_before = r->closed;
    http_on_close(x, on_closed, r);
    http_begin(x, 200, "text/plain");
    while (!http_write(x, piece, sizeof piece)) r->flooded += sizeof piece;
    assert_int_equal(r->closed, closed_before); // not from inside http_write
    assert_int_equal(http_write(x, "x", 1), -1);
    if (!strcmp(http_query(x), "end")) http_end(x);
}

static void reply_big(struct http_exchange *x) {
    char *body = malloc(BIG_ANSWER);
    assert_non_null(body);
    memset(body, 'b', BIG_ANSWER);
    http_reply(x, 200, "text/plain", body, BIG_ANSWER);
    free(body);
}

static void reply_stream(struct http_exchange *x) {
    http_add_header(x, "x-mark", "7\r\nx-forged: 1");
    http_begin(x, 200, "text/event-stream");
    assert_true(http_begun(x));
    assert_int_equal(http_write(x, "one ", 4), 0);
    assert_int_equal(http_write(x, "", 0), 0); // an empty chunk would end the answer
    assert_int_equal(http_write(x, "twotwotwotwotwotwo", 18), 0);
    if (!strcmp(http_query(x), "cut"))
        http_reply_error(x, 500, "server_error", NULL, NULL, "too late");
    else
        http_end(x);
}

static void handle(struct http_exchange *x, void *arg) {
    struct rig *r = arg;
    const char *path = http_path(x);
    r->handled++;
    if (!strncmp(path, "/keep", 5)) {
        r->kept = x;
        http_on_close(x, on_closed, r);
    } else if (!strcmp(path, "/stream"))
        reply_stream(x);
    else if (!strcmp(path, "/big"))
        reply_big(x);
    else if (!strcmp(path, "/flood"))
        reply_flood(r, x);
    else if (!strcmp(path, "/none"))
        http_reply(x, 204, NULL, NULL, 0);
    else if (!strcmp(path, "/error"))
        http_reply_error(x, 429, "rate_limit", "model", "queue_full", "bad bytes \xff and \"quotes\"");
    else
        reply_echo(x);
}

// ---- the client

static int setup(void **state) {
    struct rig *r = calloc(1, sizeof *r);
    struct err e = {0};
    assert_non_null(r);
    r->base = event_base_new();
    r->server = http_server_new(r->base, handle, r, &e);
    assert_non_null(r->server);
    assert_int_equal(http_server_listen(r->server, "127.0.0.1", 0, &r->port, &e), 0);
    assert_int_not_equal(r->port, 0);
    r->fd = -1;
    buf_init(&r->in, ANSWER_MAX);
    *state = r;
    return 0;
}

static int teardown(void **state) {
    struct rig *r = *state;
    if (r->fd >= 0) close(r->fd);
    http_server_free(r->server);
    event_base_free(r->base);
    buf_free(&r->in);
    free(r);
    return 0;
}

static int connect_to(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)), 0); // every piece by itself
    return fd;
}

static void client_open(struct rig *r) {
    if (r->fd >= 0) close(r->fd);
    r->fd = connect_to(r->port);
    buf_clear(&r->in);
    r->ended = false;
}

// One turn of the loop and one read of the client, which waits a little where nothing is there.
static void turn(struct rig *r, int wait_ms) {
    char piece[1 << 16];
    event_base_loop(r->base, EVLOOP_NONBLOCK);
    if (r->fd < 0 || r->ended) return;
    ssize_t n = recv(r->fd, piece, sizeof piece, MSG_DONTWAIT);
    if (n > 0)
        assert_int_equal(buf_append(&r->in, piece, (size_t)n), 0);
    else if (n == 0 || errno != EAGAIN)
        r->ended = true;
    else
        poll(&(struct pollfd){.fd = r->fd, .events = POLLIN}, 1, wait_ms);
}

// Runs the loop until a condition holds; a minute without it is a hang.
#define UNTIL(r, condition)                                                                                            \
    do {                                                                                                               \
        uint64_t until_ = clock_mono_ns() + HANG_SECONDS * NS_PER_S;                                                   \
        while (!(condition)) {                                                                                         \
            turn(r, 1);                                                                                                \
            assert_true(clock_mono_ns() < until_);                                                                     \
        }                                                                                                              \
    } while (0)

static void client_send(struct rig *r, const char *data, size_t n) {
    while (n && !r->ended) {
        ssize_t sent = send(r->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) assert_true(errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
        if (sent < 0 && errno != EAGAIN) return;
        if (sent > 0) data += sent;
        if (sent > 0) n -= (size_t)sent;
        turn(r, 0);
    }
}

static void client_puts(struct rig *r, const char *s) { client_send(r, s, strlen(s)); }
static bool has(struct rig *r, const char *text) { return strstr(buf_str(&r->in), text) != NULL; }

static unsigned occurrences(struct rig *r, const char *text) {
    unsigned count = 0;
    for (const char *s = buf_str(&r->in); (s = strstr(s, text)); s++) count++;
    return count;
}

// Sends a request on a new connection and receives until the server closes.
static const char *ask(struct rig *r, const char *request) {
    client_open(r);
    client_puts(r, request);
    UNTIL(r, r->ended);
    return buf_str(&r->in);
}

static int status_of(struct rig *r) {
    int status = 0;
    return sscanf(buf_str(&r->in), "HTTP/1.1 %d ", &status) == 1 ? status : -1;
}

static const char *body_of(struct rig *r) {
    const char *end = strstr(buf_str(&r->in), "\r\n\r\n");
    return end ? end + 4 : "";
}

// A refusal: the status, a JSON error object that its length fits, and the end of the connection.
static void check_refusal(struct rig *r, int status) {
    struct err e;
    assert_true(r->ended);
    assert_int_equal(status_of(r), status);
    assert_true(has(r, "content-type: application/json\r\n") && has(r, "connection: close\r\n"));
    const char *body = body_of(r), *length = strstr(buf_str(&r->in), "content-length: ");
    assert_non_null(length);
    assert_int_equal(strtoul(length + 16, NULL, 10), strlen(body));
    json_t *v = json_parse(body, strlen(body), &e);
    json_t *error = json_object_get(v, "error");
    assert_true(json_string_length(json_object_get(error, "message")) > 0);
    assert_true(json_string_length(json_object_get(error, "code")) > 0);
    assert_true(json_string_length(json_object_get(error, "type")) > 0);
    assert_true(json_is_null(json_object_get(error, "param")));
    json_decref(v);
}

// ---- good requests

static void test_good_requests(void **state) {
    struct rig *r = *state;
    static const struct {
        const char *request, *body;
    } cases[] = {
        {"GET /hello HTTP/1.1\r\n" CLOSE_HOST "\r\n", "GET|/hello||-|0|"},
        {"GET /a%20b%2Fc%C3%A9?x=%20&y HTTP/1.1\r\n" CLOSE_HOST "x-test:  two words \t \r\n\r\n",
         "GET|/a b/c\xc3\xa9|x=%20&y|two words|0|"},
        {"GET / HTTP/1.1\r\n" CLOSE_HOST "x-empty:\r\nx-test:\r\n\r\n", "GET|/|||0|"},
        {"\r\nGET / HTTP/1.1\r\n" CLOSE_HOST "\r\n", "GET|/||-|0|"},
        {"POST /p HTTP/1.1\r\n" CLOSE_HOST "content-length: 4\r\n\r\nbody", "POST|/p||-|4|body"},
        {"POST /p HTTP/1.1\r\n" CLOSE_HOST "content-length: 0\r\n\r\n", "POST|/p||-|0|"},
        {"DELETE /p HTTP/1.1\r\n" CLOSE_HOST "\r\n", "DELETE|/p||-|0|"},
        {"OPTIONS * HTTP/1.1\r\n" CLOSE_HOST "\r\n", "OPTIONS|*||-|0|"},
        {"POST /c HTTP/1.1\r\n" CLOSE_HOST "transfer-encoding: Chunked\r\n\r\n"
         "3;ext=1\r\nabc\r\n00a\r\n0123456789\r\n0\r\nx-test: trailer\r\n\r\n",
         "POST|/c||-|13|abc0123456789"},
        {"GET /u HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n", "GET|/u||-|0|"},
        {"GET /old HTTP/1.0\r\n\r\n", "GET|/old||-|0|"},
        {"GET /six HTTP/1.1\r\nHOST: [::1]:8080\r\nConnection: Close\r\n\r\n", "GET|/six||-|0|"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ask(r, cases[i].request);
        assert_int_equal(status_of(r), 200);
        assert_string_equal(body_of(r), cases[i].body);
        client_open(r);
        for (const char *s = cases[i].request; *s; s++) client_send(r, s, 1); // and byte by byte
        UNTIL(r, r->ended);
        assert_string_equal(body_of(r), cases[i].body);
    }
    close(r->fd);
    r->fd = -1;
    UNTIL(r, http_server_connections(r->server) == 0);
}

static void test_keep_alive(void **state) {
    struct rig *r = *state;
    client_open(r);
    client_puts(r, "GET /1 HTTP/1.1\r\nhost: a\r\n\r\n");
    UNTIL(r, has(r, "GET|/1"));
    assert_false(has(r, "connection:"));
    client_puts(r, "HEAD /22 HTTP/1.1\r\nhost: a\r\n\r\nPOST /3 HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
    UNTIL(r, has(r, "POST|/3||-|2|hi"));
    assert_true(has(r, "content-length: 14\r\n\r\nHTTP/1.1 200 OK")); // the HEAD: its length, no body
    client_puts(r, "GET /none HTTP/1.1\r\nhost: a\r\n\r\n");
    UNTIL(r, has(r, "HTTP/1.1 204 No Content\r\n") && !strcmp(r->in.data + r->in.len - 4, "\r\n\r\n"));
    assert_null(strstr(strstr(buf_str(&r->in), "204 No Content"), "content-"));
    client_puts(r, "HEAD /stream HTTP/1.1\r\nhost: a\r\n\r\nGET /4 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    UNTIL(r, has(r, "GET|/4"));
    assert_false(has(r, "two"));
    assert_int_equal(occurrences(r, "connection: keep-alive\r\n"), 1);
    client_puts(r, "GET /5 HTTP/1.0\r\n\r\n");
    UNTIL(r, r->ended);
    assert_true(has(r, "GET|/5"));
    assert_int_equal(r->handled, 7);
}

static void test_pipelined_requests_wait(void **state) {
    struct rig *r = *state;
    client_open(r);
    client_puts(r,
                "GET /keep HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\nGET /3 HTTP/1.1\r\n" CLOSE_HOST
                "\r\n");
    UNTIL(r, r->kept);
    for (int i = 0; i < 20; i++) turn(r, 1);
    assert_int_equal(r->handled, 1);
    assert_int_equal(r->in.len, 0);
    assert_string_equal(http_path(r->kept), "/keep"); // the request stays readable
    http_reply(r->kept, 200, "text/plain", "first", 5);
    UNTIL(r, r->ended);
    assert_int_equal(r->handled, 3);
    const char *one = strstr(r->in.data, "first"), *two = strstr(r->in.data, "|/2|"),
               *three = strstr(r->in.data, "|/3|");
    assert_true(one && two > one && three > two);
    assert_int_equal(r->closed, 0);
}

static void test_many_pipelined_requests(void **state) {
    struct rig *r = *state;
    static const char one[] =
        "GET /n HTTP/1.1\r\nhost: a\r\nx-filler: 0123456789012345678901234567890123456789\r\n\r\n";
    enum { COUNT = 2000 }; // more than LIMIT_HTTP_PIPELINED bytes
    struct buf all;
    buf_init(&all, ANSWER_MAX);
    for (int i = 0; i < COUNT; i++) buf_puts(&all, one);
    assert_true(all.len > 2 * LIMIT_HTTP_PIPELINED);
    client_open(r);
    client_send(r, all.data, all.len);
    UNTIL(r, r->handled == COUNT && occurrences(r, "GET|/n||-|0|") == COUNT);
    buf_free(&all);
}

static void test_expect_continue(void **state) {
    struct rig *r = *state;
    client_open(r);
    client_puts(r, "POST /e HTTP/1.1\r\n" CLOSE_HOST "expect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    UNTIL(r, has(r, "HTTP/1.1 100 Continue\r\n\r\n"));
    assert_int_equal(r->handled, 0);
    client_puts(r, "abc");
    UNTIL(r, r->ended);
    assert_true(has(r, "POST|/e||-|3|abc"));
}

static void test_stream(void **state) {
    struct rig *r = *state;
    ask(r, "GET /stream HTTP/1.1\r\n" CLOSE_HOST "\r\n");
    assert_true(has(r, "transfer-encoding: chunked\r\n") && has(r, "x-mark: 7x-forged: 1\r\n"));
    assert_string_equal(body_of(r), "4\r\none \r\n12\r\ntwotwotwotwotwotwo\r\n0\r\n\r\n");
    ask(r, "GET /stream HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    assert_true(has(r, "connection: close\r\n") && !has(r, "chunked"));
    assert_string_equal(body_of(r), "one twotwotwotwotwotwo");
    ask(r, "GET /stream?cut HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_false(has(r, "too late") || has(r, "0\r\n\r\n")); // cut short, visibly
}

// Nothing waits in the output when these end: every byte has gone to the socket in an earlier turn of the loop.
static void test_stream_ends_later(void **state) {
    struct rig *r = *state;
    client_open(r);
    client_puts(r, "GET /keep HTTP/1.0\r\n\r\n");
    UNTIL(r, r->kept);
    http_begin(r->kept, 200, "text/event-stream");
    UNTIL(r, has(r, "\r\n\r\n"));
    assert_int_equal(http_write(r->kept, "last", 4), 0);
    UNTIL(r, has(r, "last"));
    http_end(r->kept);
    UNTIL(r, r->ended); // the end of the connection is the end of the answer
    close(r->fd);
    r->fd = -1;
    UNTIL(r, http_server_connections(r->server) == 0);
    client_open(r);
    client_puts(r, "HEAD /keep HTTP/1.1\r\nhost: a\r\n\r\nGET /next HTTP/1.1\r\n" CLOSE_HOST "\r\n");
    UNTIL(r, r->handled == 2);
    http_begin(r->kept, 200, "text/event-stream");
    UNTIL(r, has(r, "\r\n\r\n"));
    http_end(r->kept);
    UNTIL(r, has(r, "GET|/next")); // the next request's turn comes
    UNTIL(r, r->ended);
    assert_int_equal(r->closed, 0);
}

static void test_errors_and_json(void **state) {
    struct rig *r = *state;
    struct err e;
    ask(r, "GET /error HTTP/1.1\r\n" CLOSE_HOST "\r\n");
    assert_int_equal(status_of(r), 429);
    json_t *v = json_parse(body_of(r), strlen(body_of(r)), &e), *error = json_object_get(v, "error");
    assert_string_equal(json_string_value(json_object_get(error, "message")), "bad bytes \\xFF and \"quotes\"");
    assert_string_equal(json_string_value(json_object_get(error, "param")), "model");
    json_decref(v);
    client_open(r);
    client_puts(r, "GET /keep HTTP/1.1\r\n" CLOSE_HOST "\r\n");
    UNTIL(r, r->kept);
    json_t *answer = json_pack("{s:i,s:s}", "n", 1, "t", "\xc3\xa9");
    http_reply_json(r->kept, 200, answer);
    json_decref(answer);
    UNTIL(r, r->ended);
    assert_string_equal(body_of(r), "{\"n\":1,\"t\":\"\xc3\xa9\"}");
    assert_true(has(r, "content-type: application/json\r\n"));
}

// ---- hostile requests

#define HEAD_OF(line) line "\r\nhost: a\r\n"

static const struct hostile {
    const char *before, *repeated;
    unsigned times;
    const char *after;
    int status;
} hostile[] = {
    // framing, the classics of request smuggling
    {HEAD_OF("POST / HTTP/1.1") "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "content-length: 5\r\ncontent-length: 5\r\n\r\nhello", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "content-length: 5, 5\r\n\r\nhello", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "content-length : 5\r\n\r\nhello", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "content-length: -5\r\n\r\nhello", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "content-length: +5\r\n\r\nhello", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "content-length: 0x5\r\n\r\nhello", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "content-length:\r\n\r\nhello", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "content-length: 5 5\r\n\r\nhello", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "content-length: 99999999999999999999999\r\n\r\nhello", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "content-length: 18446744073709551615\r\n\r\nhello", "", 0, "", 413},
    {HEAD_OF("POST / HTTP/1.1") "content-length: 33554433\r\n\r\nhello", "", 0, "", 413},
    {HEAD_OF("POST / HTTP/1.1") "expect: 100-continue\r\ncontent-length: 33554433\r\n\r\n", "", 0, "", 413},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: gzip\r\n\r\n0\r\n\r\n", "", 0, "", 501},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "", 0, "", 501},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", "", 0, "", 501},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: identity\r\n\r\n", "", 0, "", 501},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding : chunked\r\n\r\n0\r\n\r\n", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: \x0b"
                                "chunked\r\n\r\n0\r\n\r\n",
     "", 0, "", 400},
    {"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: chunked\r\n\r\nfffffffffffffff\r\n", "", 0, "", 413},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: chunked\r\n\r\n-1\r\n", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: chunked\r\n\r\n1\r\na\r\n2000000\r\n", "", 0, "", 413},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: chunked\r\n\r\n2 \r\nab\r\n0\r\n\r\n", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: chunked\r\n\r\n2\nab\n0\n\n", "", 0, "", 400},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: chunked\r\n\r\n0;", "x", 70000, "\r\n\r\n", 431},
    {HEAD_OF("POST / HTTP/1.1") "transfer-encoding: chunked\r\n\r\n0\r\n", "trailer: 0123456789\r\n", 5000, "\r\n",
     431},
    // header lines
    {"GET / HTTP/1.1\r\n\r\n", "", 0, "", 400},
    {"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", "", 0, "", 400},
    {"GET / HTTP/1.1\r\nhost: a b\r\n\r\n", "", 0, "", 400},
    {"GET / HTTP/1.1\r\nhost: a/\r\n\r\n", "", 0, "", 400},
    {"GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n folded: 2\r\n\r\n", "", 0, "", 400},
    {"GET / HTTP/1.1\r\n host: a\r\n\r\n", "", 0, "", 400},
    {"GET / HTTP/1.1\nhost: a\n\n", "", 0, "", 400},
    {"GET / HTTP/1.1\r\nhost: a\nx: 1\r\n\r\n", "", 0, "", 400},
    {"GET / HTTP/1.1\r\nhost: a\rx: 1\r\n\r\n", "", 0, "", 400},
    {HEAD_OF("GET / HTTP/1.1") "na me: 1\r\n\r\n", "", 0, "", 400},
    {HEAD_OF("GET / HTTP/1.1") "x: \x01\r\n\r\n", "", 0, "", 400},
    {HEAD_OF("GET / HTTP/1.1") ": nameless\r\n\r\n", "", 0, "", 400},
    {HEAD_OF("GET / HTTP/1.1") "colonless\r\n\r\n", "", 0, "", 400},
    {HEAD_OF("GET / HTTP/1.1") "expect: a miracle\r\n\r\n", "", 0, "", 417},
    {HEAD_OF("GET / HTTP/1.1"), "x: y\r\n", 100000, "\r\n", 431},
    {HEAD_OF("GET / HTTP/1.1"), "x: y\r\n", 100, "\r\n", 431},
    {HEAD_OF("GET / HTTP/1.1") "x: ", "y", 70000, "\r\n\r\n", 431},
    {HEAD_OF("GET / HTTP/1.1"), "x", 70000, ": y\r\n\r\n", 431},
    {HEAD_OF("GET / HTTP/1.1") "x:", " ", 70000, "y\r\n\r\n", 431},
    {"GET /", "a", 70000, " HTTP/1.1\r\nhost: a\r\n\r\n", 431},
    {"", "\r\n", 40000, "GET / HTTP/1.1\r\nhost: a\r\n\r\n", 431},
    // the request line
    {HEAD_OF("GET http://a/ HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET * HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET a HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET ?a HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("CONNECT a:443 HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET /%00 HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET /%0a HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET /%7F HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET /% HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET /%4 HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET /%g0 HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET /%ff HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET /%c0%af HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET /\xc3\xa9 HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET /a#b HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET /a b HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET /\t HTTP/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET / HTTP/2.0") "\r\n", "", 0, "", 505},
    {HEAD_OF("GET / HTTP/1.2") "\r\n", "", 0, "", 505},
    {HEAD_OF("GET / HTTP/9.9") "\r\n", "", 0, "", 505},
    {HEAD_OF("GET / HTTP/1.10") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET / http/1.1") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET / RTSP/1.0") "\r\n", "", 0, "", 400},
    {HEAD_OF("GET /") "\r\n", "", 0, "", 505},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", 0, "", 505},
    {HEAD_OF("BREW / HTTP/1.1") "\r\n", "", 0, "", 400},
    {"\x16\x03\x01\x02\x01\xfc\x03\x03", "", 0, "", 400},
    {"{\"model\":\"x\"}\r\n\r\n", "", 0, "", 400},
};

static void check_hostile(struct rig *r, const struct buf *request, int status, size_t step) {
    client_open(r);
    for (size_t i = 0; i < request->len; i += step)
        client_send(r, request->data + i, request->len - i < step ? request->len - i : step);
    UNTIL(r, r->ended);
    if (status_of(r) != status) print_message("%.80s...: %d, not %d\n", request->data, status_of(r), status);
    check_refusal(r, status);
}

static void test_hostile_requests(void **state) {
    struct rig *r = *state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        const struct hostile *h = &hostile[i];
        struct buf request;
        buf_init(&request, ANSWER_MAX);
        buf_puts(&request, h->before);
        for (unsigned k = 0; k < h->times; k++) buf_puts(&request, h->repeated);
        assert_int_equal(buf_puts(&request, h->after), 0);
        check_hostile(r, &request, h->status, request.len);
        check_hostile(r, &request, h->status, request.len < 1000 ? 1 : 1000);
        buf_free(&request);
    }
    assert_int_equal(r->handled, 0);
    ask(r, "GET /alive HTTP/1.1\r\n" CLOSE_HOST "\r\n");
    assert_int_equal(status_of(r), 200);
}

// NUL bytes cannot stand in the table.
static void test_nul_bytes(void **state) {
    struct rig *r = *state;
    static const char *const with_nul[] = {
        "GET /\1 HTTP/1.1\r\nhost: a\r\n\r\n", "GET / HTTP/1.1\r\nhost: a\r\nx: a\1b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx\1y: a\r\n\r\n", "GE\1T / HTTP/1.1\r\nhost: a\r\n\r\n"};
    for (size_t i = 0; i < sizeof with_nul / sizeof *with_nul; i++) {
        struct buf request;
        buf_init(&request, ANSWER_MAX);
        buf_puts(&request, with_nul[i]);
        *strchr(request.data, '\1') = 0;
        check_hostile(r, &request, 400, request.len);
        buf_free(&request);
    }
}

static void test_refused_head_request_has_no_body(void **state) {
    struct rig *r = *state;
    ask(r, "HEAD / HTTP/1.1\r\n\r\n");
    assert_int_equal(status_of(r), 400);
    assert_string_equal(body_of(r), "");
}

static void test_largest_body(void **state) {
    struct rig *r = *state;
    char *body = malloc(LIMIT_HTTP_BODY);
    assert_non_null(body);
    memset(body, 'x', LIMIT_HTTP_BODY);
    client_open(r);
    client_puts(r, "POST /b HTTP/1.1\r\n" CLOSE_HOST "content-length: 33554432\r\n\r\n");
    client_send(r, body, LIMIT_HTTP_BODY);
    UNTIL(r, r->ended);
    assert_non_null(strstr(body_of(r), "POST|/b||-|33554432|xxxx"));
    UNTIL(r, r->server->body_bytes == 0);
    client_open(r); // all connections together
    r->server->body_bytes = LIMIT_HTTP_BODIES - 2;
    client_puts(r, "POST /b HTTP/1.1\r\n" CLOSE_HOST "content-length: 3\r\n\r\nabc");
    UNTIL(r, r->ended);
    r->server->body_bytes -= LIMIT_HTTP_BODIES - 2;
    check_refusal(r, 503);
    assert_int_equal(r->server->body_bytes, 0);
    free(body);
}

// The answer to a body that is refused while it is being sent must not be lost to a reset.
static void test_refusal_reaches_a_sending_client(void **state) {
    struct rig *r = *state;
    char *body = calloc(1, 8 << 20);
    assert_non_null(body);
    client_open(r);
    client_puts(r, "POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 999999999\r\n\r\n");
    size_t sent = 0;
    while (sent < 8 << 20) { // without reading
        ssize_t n = send(r->fd, body + sent, (8 << 20) - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        assert_true(n > 0 || errno == EAGAIN);
        if (n > 0) sent += (size_t)n;
        event_base_loop(r->base, EVLOOP_NONBLOCK);
    }
    UNTIL(r, r->ended);
    check_refusal(r, 413);
    free(body);
}

// ---- time

static void test_slow_clients(void **state) {
    struct rig *r = *state;
    r->server->head_ms = 30;
    ask(r, "GET / HTTP/1.1\r\nhost: a\r\n");
    check_refusal(r, 408);
    ask(r, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nabc");
    check_refusal(r, 408);
    ask(r, ""); // nothing was asked: nothing is answered
    assert_int_equal(r->in.len, 0);
    assert_int_equal(r->handled, 0);
    r->server->head_ms = 60000;
    r->server->idle_ms = 30;
    ask(r, "GET /idle HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_string_equal(body_of(r), "GET|/idle||-|0|");
}

// A byte now and then keeps the pause short, but not the whole within its bound.
static void test_dripping_body(void **state) {
    struct rig *r = *state;
    r->server->body_ms = 50;
    client_open(r);
    client_puts(r, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\n");
    while (!r->ended) client_send(r, "x", 1);
    check_refusal(r, 408);
}

static void test_silent_closer(void **state) {
    struct rig *r = *state;
    r->server->linger_ms = 20;
    client_open(r);
    client_puts(r, "nonsense\r\n\r\n");
    UNTIL(r, r->ended);
    check_refusal(r, 400);
    UNTIL(r, http_server_connections(r->server) == 0); // although the client has not closed
}

// ---- clients that leave

static void keep_one(struct rig *r, const char *request) {
    client_open(r);
    client_puts(r, request);
    UNTIL(r, r->kept);
}

static void test_client_leaves(void **state) {
    struct rig *r = *state;
    static const char request[] = "POST /keep HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
    keep_one(r, request);
    close(r->fd); // before an answer
    r->fd = -1;
    UNTIL(r, r->closed == 1);
    keep_one(r, request);
    http_begin(r->kept, 200, "text/event-stream");
    assert_int_equal(http_write(r->kept, "data: 1\n\n", 9), 0);
    UNTIL(r, has(r, "data: 1"));
    close(r->fd); // between two tokens
    r->fd = -1;
    UNTIL(r, r->closed == 2);
    keep_one(r, request);
    assert_int_equal(setsockopt(r->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)), 0);
    close(r->fd); // by a reset
    r->fd = -1;
    UNTIL(r, r->closed == 3);
    keep_one(r, request);
    shutdown(r->fd, SHUT_WR);
    UNTIL(r, r->closed == 4 && r->ended);
    keep_one(r, request);
    client_puts(r, request); // pipelined bytes are waiting
    shutdown(r->fd, SHUT_WR);
    UNTIL(r, r->closed == 5);
    assert_int_equal(r->handled, 5);
    assert_int_equal(http_server_connections(r->server), 0);
}

// An answer that is complete still reaches a client that has shut its sending side.
static void test_half_close_after_answer(void **state) {
    struct rig *r = *state;
    client_open(r);
    static const char request[] = "GET /big HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_int_equal(send(r->fd, request, sizeof request - 1, 0), sizeof request - 1);
    shutdown(r->fd, SHUT_WR);
    UNTIL(r, r->ended);
    assert_int_equal(strlen(body_of(r)), BIG_ANSWER);
    UNTIL(r, http_server_connections(r->server) == 0);
}

static void test_too_much_pipelined(void **state) {
    struct rig *r = *state;
    keep_one(r, "GET /keep HTTP/1.1\r\nhost: a\r\n\r\n");
    char *more = calloc(1, LIMIT_HTTP_PIPELINED);
    assert_non_null(more);
    client_send(r, more, LIMIT_HTTP_PIPELINED - 1);
    for (int i = 0; i < 50; i++) turn(r, 1);
    assert_int_equal(r->closed, 0);
    client_send(r, more, 1);
    UNTIL(r, r->closed == 1);
    free(more);
}

static void test_slow_reader(void **state) {
    struct rig *r = *state;
    client_open(r);
    static const char flood[] = "GET /flood HTTP/1.1\r\nhost: a\r\n\r\n",
                      ended[] = "GET /flood?end HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_true(send(r->fd, flood, sizeof flood - 1, 0) > 0);
    while (!r->handled) event_base_loop(r->base, EVLOOP_ONCE);
    assert_true(r->flooded > LIMIT_HTTP_BACKLOG / 2 && r->flooded <= LIMIT_HTTP_BACKLOG);
    UNTIL(r, r->closed == 1);
    client_open(r); // the handler gave up itself: it hears no more
    assert_true(send(r->fd, ended, sizeof ended - 1, 0) > 0);
    UNTIL(r, r->handled == 2 && http_server_connections(r->server) == 0);
    assert_int_equal(r->closed, 1);
}

static void test_client_that_never_reads(void **state) {
    struct rig *r = *state;
    r->server->write_ms = 30;
    client_open(r);
    static const char request[] = "GET /keep HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_true(send(r->fd, request, sizeof request - 1, 0) > 0);
    while (!r->kept) event_base_loop(r->base, EVLOOP_ONCE);
    char *piece = calloc(1, 1 << 20);
    assert_non_null(piece);
    http_begin(r->kept, 200, "text/plain");
    while (!r->closed) {
        // more than the kernel takes, less than the backlog: only the time-out can end it
        size_t waiting = evbuffer_get_length(bufferevent_get_output(r->kept->conn->bev));
        if (waiting < (1 << 20)) assert_int_equal(http_write(r->kept, piece, 1 << 20), 0);
        event_base_loop(r->base, EVLOOP_ONCE);
    }
    assert_int_equal(http_server_connections(r->server), 0);
    free(piece);
}

// ---- the server itself

static void test_too_many_connections(void **state) {
    struct rig *r = *state;
    r->server->max_connections = 2;
    int idle[2 + LIMIT_HTTP_REFUSED];
    idle[0] = connect_to(r->port);
    idle[1] = connect_to(r->port);
    UNTIL(r, http_server_connections(r->server) == 2);
    ask(r, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    check_refusal(r, 503);
    close(r->fd);
    r->fd = -1;
    UNTIL(r, http_server_connections(r->server) == 2);
    for (unsigned i = 2; i < 2 + LIMIT_HTTP_REFUSED; i++) idle[i] = connect_to(r->port);
    UNTIL(r, http_server_connections(r->server) == 2 + LIMIT_HTTP_REFUSED);
    ask(r, ""); // beyond even those: closed without a word
    assert_int_equal(r->in.len, 0);
    assert_int_equal(r->handled, 0);
    for (unsigned i = 0; i < 2 + LIMIT_HTTP_REFUSED; i++) close(idle[i]);
    UNTIL(r, http_server_connections(r->server) == 0);
    ask(r, "GET / HTTP/1.1\r\n" CLOSE_HOST "\r\n");
    assert_int_equal(status_of(r), 200);
}

// Out of file descriptors: the client waits in the kernel's queue, the loop does not spin, and later the client is
// served.
static void test_no_descriptors_left(void **state) {
    struct rig *r = *state;
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    client_open(r);
    int free_fd = dup(0);
    assert_true(free_fd > 0);
    close(free_fd);
    none = (struct rlimit){(rlim_t)free_fd, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    log_set_level(LOG_ERROR);
    UNTIL(r, event_pending(r->server->resume, EV_TIMEOUT, NULL));
    log_set_level(LOG_INFO);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    client_puts(r, "GET /late HTTP/1.1\r\n" CLOSE_HOST "\r\n");
    UNTIL(r, r->ended);
    assert_int_equal(status_of(r), 200);
}

static void test_free_with_open_exchanges(void **state) {
    struct rig *r = *state;
    struct err e;
    int other = connect_to(r->port);
    static const char request[] = "GET /keep HTTP/1.1\r\nhost: a\r\n\r\nGET /keep HTTP/1.1\r\n";
    assert_true(send(other, request, sizeof request - 1, 0) > 0);
    keep_one(r, request);
    UNTIL(r, r->handled == 2);
    client_open(r);
    client_puts(r, "POST /half HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhal");
    http_server_free(r->server);
    assert_int_equal(r->closed, 2);
    close(other);
    r->server = http_server_new(r->base, handle, r, &e);
    assert_non_null(r->server);
}

static void test_listening(void **state) {
    struct rig *r = *state;
    struct err e = {0};
    uint16_t port = 0;
    assert_int_equal(http_server_listen(r->server, "127.0.0.1", r->port, &port, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_non_null(strstr(e.msg, "in use"));
    assert_int_equal(http_server_listen(r->server, "192.0.2.1", 0, &port, &e), -1);
    assert_int_equal(http_server_listen(r->server, "localhost", 0, &port, &e), 0);
    assert_true(port != 0 && port != r->port);
    unsigned more = 0;
    while (!http_server_listen(r->server, "127.0.0.1", 0, &port, &e)) more++;
    assert_int_equal(more, LIMIT_HTTP_LISTENERS - 2);
    assert_int_equal(e.code, ERR_LIMIT);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_good_requests),
        CASE(test_keep_alive),
        CASE(test_pipelined_requests_wait),
        CASE(test_many_pipelined_requests),
        CASE(test_expect_continue),
        CASE(test_stream),
        CASE(test_stream_ends_later),
        CASE(test_errors_and_json),
        CASE(test_hostile_requests),
        CASE(test_nul_bytes),
        CASE(test_refused_head_request_has_no_body),
        CASE(test_largest_body),
        CASE(test_refusal_reaches_a_sending_client),
        CASE(test_slow_clients),
        CASE(test_dripping_body),
        CASE(test_silent_closer),
        CASE(test_client_leaves),
        CASE(test_half_close_after_answer),
        CASE(test_too_much_pipelined),
        CASE(test_slow_reader),
        CASE(test_client_that_never_reads),
        CASE(test_too_many_connections),
        CASE(test_no_descriptors_left),
        CASE(test_free_with_open_exchanges),
        CASE(test_listening),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

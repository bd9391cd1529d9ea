// Listeners, connections and their time-outs. A connection is freed only here, from the loop's callbacks and by
// http_server_free; the functions a handler may call never free one.
#include "base/clock.h"
#include "base/log.h"
#include "net/http_internal.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { ACCEPT_PAUSE_MS = 200, ACCEPT_QUEUE = 512, WRITE_AT_ONCE = 256 << 10 };

static struct timeval time_of(unsigned ms) { return (struct timeval){ms / 1000, (ms % 1000) * 1000}; }

// ---- states

static void arm(struct http_conn *c, unsigned ms) {
    struct timeval t = time_of(ms);
    if (event_add(c->timer, &t)) http_conn_doom(c);
}

// The next piece of a body must come soon, and the whole in a bounded time.
static void arm_body(struct http_conn *c) {
    uint64_t now = clock_mono_ns();
    uint64_t left_ms = c->body_deadline_ns > now ? (c->body_deadline_ns - now) / NS_PER_MS : 0;
    arm(c, left_ms < c->server->head_ms ? (unsigned)left_ms : c->server->head_ms);
}

#define MAY(state) (1u << (state))
static const unsigned may_follow[] = {
    [CONN_IDLE] = MAY(CONN_HEAD) | MAY(CONN_CLOSING),
    [CONN_HEAD] = MAY(CONN_BODY) | MAY(CONN_HANDLING) | MAY(CONN_CLOSING),
    [CONN_BODY] = MAY(CONN_HANDLING) | MAY(CONN_CLOSING),
    [CONN_HANDLING] = MAY(CONN_FLUSHING) | MAY(CONN_CLOSING),
    [CONN_FLUSHING] = MAY(CONN_IDLE) | MAY(CONN_CLOSING),
    [CONN_CLOSING] = MAY(CONN_LINGERING),
    [CONN_LINGERING] = 0,
};

void http_conn_enter(struct http_conn *c, enum conn_state next) {
    assert(may_follow[c->state] & MAY(next));
    c->state = next;
    if (c->doomed) return; // its timer is about to run
    switch (next) {
    case CONN_IDLE: arm(c, c->used ? c->server->idle_ms : c->server->head_ms); break;
    case CONN_HEAD: arm(c, c->server->head_ms); break;
    case CONN_BODY:
        c->body_deadline_ns = clock_mono_ns() + c->server->body_ms * NS_PER_MS;
        arm_body(c);
        break;
    case CONN_LINGERING: arm(c, c->server->linger_ms); break;
    default: event_del(c->timer); // the handler takes its time; writing has the bufferevent's own time-out
    }
}

// ---- the end of a connection

static void conn_free(struct http_conn *c) {
    struct http_server *s = c->server;
    if (c->prev)
        c->prev->next = c->next;
    else
        s->conns = c->next;
    if (c->next) c->next->prev = c->prev;
    s->conn_count--;
    http_exchange_free(c->x);
    if (c->timer) event_free(c->timer);
    bufferevent_free(c->bev);
    free(c);
}

// Ends a connection at once. An exchange that the handler knows gets its close callback first.
static void conn_drop(struct http_conn *c) {
    struct http_exchange *x = c->state == CONN_HANDLING ? c->x : NULL;
    if (x && x->closed) {
        x->closing = true;
        x->closed(x->closed_arg);
    }
    conn_free(c);
}

void http_conn_doom(struct http_conn *c) {
    c->doomed = true;
    event_active(c->timer, EV_TIMEOUT, 0);
}

// ---- reading

static void handle_request(struct http_conn *c) {
    http_conn_enter(c, CONN_HANDLING);
    c->server->handler(c->x, c->server->arg);
}

// One step: begins a request, or feeds one contiguous piece of input to the parser.
static void parse_some(struct http_conn *c, const char *data, size_t n) {
    if (c->state == CONN_IDLE) {
        if (http_request_begin(c)) {
            http_refuse(c, &(struct http_fault){503, "out_of_memory", "out of memory; try again later"});
            return;
        }
        c->used = true;
        http_conn_enter(c, CONN_HEAD);
    }
    size_t used = http_parse(c, data, n);
    evbuffer_drain(bufferevent_get_input(c->bev), used);
    if (c->fault.status)
        http_refuse(c, &c->fault);
    else if (c->x->complete)
        handle_request(c);
    else if (c->state == CONN_BODY)
        arm_body(c);
    else if (c->x->head_done)
        http_conn_enter(c, CONN_BODY);
}

// Parses what has arrived until it runs out or a request is complete. May drop the connection: call it last.
static void conn_advance(struct http_conn *c) {
    struct evbuffer *in = bufferevent_get_input(c->bev);
    while (c->state == CONN_IDLE || c->state == CONN_HEAD || c->state == CONN_BODY) {
        struct evbuffer_iovec piece;
        if (!evbuffer_get_length(in) || evbuffer_peek(in, -1, NULL, &piece, 1) < 1) return;
        parse_some(c, piece.iov_base, piece.iov_len);
    }
    // With a full input buffer libevent stops reading, and we would no longer see the client leave.
    if (c->state == CONN_HANDLING && evbuffer_get_length(in) >= LIMIT_HTTP_PIPELINED) conn_drop(c);
}

static void on_read(struct bufferevent *bev, void *arg) {
    struct http_conn *c = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    if (c->state == CONN_CLOSING || c->state == CONN_LINGERING)
        evbuffer_drain(in, evbuffer_get_length(in));
    else
        conn_advance(c);
}

// ---- writing

static void linger(struct http_conn *c) {
    if (c->eof) {
        conn_drop(c);
        return;
    }
    http_conn_enter(c, CONN_LINGERING);
    evutil_socket_t fd = bufferevent_getfd(c->bev);
    if (fd >= 0) shutdown(fd, SHUT_WR); // fails only where the client has left, which is read next
    struct evbuffer *in = bufferevent_get_input(c->bev);
    evbuffer_drain(in, evbuffer_get_length(in));
}

static void on_written(struct bufferevent *bev, void *arg) {
    struct http_conn *c = arg;
    if (c->doomed || evbuffer_get_length(bufferevent_get_output(bev))) return;
    if (c->state == CONN_CLOSING)
        linger(c);
    else if (c->state == CONN_FLUSHING) {
        http_conn_enter(c, CONN_IDLE);
        conn_advance(c);
    }
}

// ---- time and the client's end

static void on_event(struct bufferevent *bev, short what, void *arg) {
    (void)bev;
    struct http_conn *c = arg;
    bool answered = c->state == CONN_FLUSHING || c->state == CONN_CLOSING;
    if (!(what & BEV_EVENT_EOF) || !answered) {
        conn_drop(c);
        return;
    }
    // It sent its last request and shut its side: the answer, which is complete, still goes out.
    c->eof = true;
    if (c->state == CONN_FLUSHING) http_conn_enter(c, CONN_CLOSING);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    struct http_conn *c = arg;
    bool reading = c->state == CONN_HEAD || c->state == CONN_BODY;
    if (c->doomed || !reading) {
        conn_drop(c);
        return;
    }
    http_refuse(c, &(struct http_fault){408, "request_timeout", "the request was not sent in time"});
}

// ---- the beginning of a connection

struct http_conn *http_conn_new(struct http_server *s, struct bufferevent *bev, const char *peer) {
    struct http_conn *c = calloc(1, sizeof *c);
    if (!c) {
        bufferevent_free(bev);
        return NULL;
    }
    c->server = s;
    c->bev = bev;
    c->next = s->conns;
    if (c->next) c->next->prev = c;
    s->conns = c;
    s->conn_count++;
    snprintf(c->peer, sizeof c->peer, "%s", peer);
    c->timer = event_new(s->base, -1, 0, on_timer, c);
    struct timeval write_time = time_of(s->write_ms);
    bufferevent_setcb(bev, on_read, on_written, on_event, c);
    bufferevent_setwatermark(bev, EV_READ, 0, LIMIT_HTTP_PIPELINED);
    if (!c->timer || bufferevent_set_timeouts(bev, NULL, &write_time) ||
        bufferevent_set_max_single_write(bev, WRITE_AT_ONCE) || bufferevent_enable(bev, EV_READ | EV_WRITE)) {
        conn_free(c);
        return NULL;
    }
    arm(c, s->head_ms);
    return c;
}

static void name_peer(const struct sockaddr *a, int len, char out[64]) {
    char host[48], port[8];
    if (getnameinfo(a, (socklen_t)len, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV))
        snprintf(out, 64, "unknown");
    else
        snprintf(out, 64, a->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *a, int len, void *arg) {
    (void)listener;
    struct http_server *s = arg;
    if (s->conn_count >= s->max_connections + LIMIT_HTTP_REFUSED) {
        evutil_closesocket(fd);
        return;
    }
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on)) log_debug("TCP_NODELAY: %s", strerror(errno));
    struct bufferevent *bev = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!bev) {
        evutil_closesocket(fd);
        return;
    }
    char peer[64];
    name_peer(a, len, peer);
    struct http_conn *c = http_conn_new(s, bev, peer);
    if (c && s->conn_count > s->max_connections)
        http_refuse(c, &(struct http_fault){503, "too_many_connections", "too many open connections; try again later"});
}

// ---- the server

static void set_listening(const struct http_server *s, bool on) {
    for (size_t i = 0; i < s->listener_count; i++)
        if ((on ? evconnlistener_enable : evconnlistener_disable)(s->listeners[i]))
            log_error("HTTP: a listener cannot be switched");
}

// Out of descriptors or memory: the waiting client would wake the loop again and again.
static void on_accept_error(struct evconnlistener *listener, void *arg) {
    (void)listener;
    struct http_server *s = arg;
    struct timeval pause = time_of(ACCEPT_PAUSE_MS);
    log_warn("HTTP: cannot accept a connection: %s", strerror(errno));
    if (!event_add(s->resume, &pause)) set_listening(s, false);
}

static void on_resume(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    set_listening(arg, true);
}

struct http_server *http_server_new(struct event_base *base, http_handler handler, void *arg, struct err *e) {
    struct http_server *s = calloc(1, sizeof *s);
    if (s) s->resume = event_new(base, -1, 0, on_resume, s);
    if (!s || !s->resume) {
        err_set(e, ERR_INTERNAL, "cannot make the HTTP server: out of memory");
        free(s);
        return NULL;
    }
    s->base = base;
    s->handler = handler;
    s->arg = arg;
    s->max_connections = LIMIT_HTTP_CONNECTIONS;
    s->head_ms = LIMIT_HTTP_HEAD_SECONDS * 1000;
    s->body_ms = LIMIT_HTTP_BODY_SECONDS * 1000;
    s->idle_ms = LIMIT_HTTP_IDLE_SECONDS * 1000;
    s->write_ms = LIMIT_HTTP_WRITE_SECONDS * 1000;
    s->linger_ms = LIMIT_HTTP_LINGER_SECONDS * 1000;
    signal(SIGPIPE, SIG_IGN); // a write to a client that left is an error here, not the end of the process
    return s;
}

static uint16_t port_of(evutil_socket_t fd) {
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof a;
    char port[8] = "0";
    if (getsockname(fd, (struct sockaddr *)&a, &len) ||
        getnameinfo((struct sockaddr *)&a, len, NULL, 0, port, sizeof port, NI_NUMERICSERV))
        return 0;
    return (uint16_t)strtoul(port, NULL, 10);
}

static struct evconnlistener *listen_at(struct http_server *s, const struct addrinfo *a) {
    unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
    if (a->ai_family == AF_INET6)
        flags |= LEV_OPT_BIND_IPV6ONLY; // libevent fails where an IPv4 socket has no such option
    return evconnlistener_new_bind(s->base, on_accept, s, flags, ACCEPT_QUEUE, a->ai_addr, (int)a->ai_addrlen);
}

int http_server_listen(struct http_server *s, const char *host, uint16_t port, uint16_t *bound, struct err *e) {
    if (s->listener_count == LIMIT_HTTP_LISTENERS)
        return err_set(e, ERR_LIMIT, "cannot listen on %s port %u: %u addresses are the most", host, port,
                       LIMIT_HTTP_LISTENERS);
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo want = {.ai_family = AF_UNSPEC,
                            .ai_socktype = SOCK_STREAM,
                            .ai_flags = AI_NUMERICSERV | AI_PASSIVE},
                    *found;
    int fault = getaddrinfo(host, service, &want, &found);
    if (fault) return err_set(e, ERR_INVALID, "cannot listen on %s port %u: %s", host, port, gai_strerror(fault));
    struct evconnlistener *l = NULL;
    for (struct addrinfo *a = found; a && !l; a = a->ai_next) l = listen_at(s, a);
    int saved = errno;
    freeaddrinfo(found);
    errno = saved;
    if (!l) return err_errno(e, "cannot listen on %s port %u", host, port);
    evconnlistener_set_error_cb(l, on_accept_error);
    s->listeners[s->listener_count++] = l;
    *bound = port_of(evconnlistener_get_fd(l));
    return 0;
}

void http_server_free(struct http_server *s) {
    if (!s) return;
    for (size_t i = 0; i < s->listener_count; i++) evconnlistener_free(s->listeners[i]);
    while (s->conns) conn_drop(s->conns);
    event_free(s->resume);
    free(s);
}

size_t http_server_connections(const struct http_server *s) { return s->conn_count; }

// Who comes: listening sockets, and the handshakes of connections that may be anybody's.
#include "base/clock.h"
#include "base/log.h"
#include "cluster/peers_internal.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 128, RESUME_MS = 200, REFUSED_LOG_MS = 10000 };

// ---------------------------------------------------------------- unfinished handshakes
static void incoming_free(struct incoming *c) {
    struct incoming **at = &c->peers->incoming;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    if (c->deadline) event_free(c->deadline);
    if (c->bev) {
        bufferevent_setcb(c->bev, NULL, NULL, NULL, NULL);
        bufferevent_free(c->bev);
    }
    free(c);
}

// One line in a while, however many come.
static void turn_away(struct incoming *c, const char *why) {
    struct peers *p = c->peers;
    uint64_t now = clock_mono_ns();
    p->refused++;
    if (!p->refused_ns || now - p->refused_ns > REFUSED_LOG_MS * NS_PER_MS) {
        log_info("a connection from %s was not accepted: %s (%u since the last such line)", c->from, why, p->refused);
        p->refused = 0;
        p->refused_ns = now;
    }
    incoming_free(c);
}

// Its handshake has shown who it is, and what it comes for.
static void let_in(struct incoming *c) {
    struct peers *p = c->peers;
    struct bufferevent *bev = c->bev;
    const SSL *ssl = bufferevent_openssl_get_ssl(bev);
    enum tls_use use = tls_use_of(ssl);
    uint8_t pin[TLS_PIN];
    int fd;
    tls_peer_pin(ssl, pin);
    struct member *m = peers_member_of(p, pin);
    if (!m && use != TLS_PAIR) {
        turn_away(c, "its node has just been removed");
        return;
    }
    c->bev = NULL;
    incoming_free(c);
    bufferevent_setcb(bev, NULL, NULL, NULL, NULL);
    if (use == TLS_CONTROL)
        control_open(m, bev, false);
    else if (use == TLS_PAIR)
        p->ev.pair(p->o.arg, bev);
    else {
        SSL *session = tls_detach(bev, &fd);
        p->ev.data(p->o.arg, &m->pub, session, fd);
    }
}

static void on_shaken(struct bufferevent *bev, short what, void *arg) {
    struct incoming *c = arg;
    struct peers *p = c->peers;
    char why[256] = "it closed the connection";
    peers_enter(p);
    if (what & BEV_EVENT_CONNECTED)
        let_in(c);
    else {
        if (what & BEV_EVENT_ERROR) tls_why(bev, why, sizeof why);
        turn_away(c, why);
    }
    peers_leave(p);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    turn_away(arg, "it did not end its handshake in time");
}

static void name_address(const struct sockaddr *a, int len, char out[PEERS_FROM]) {
    if (getnameinfo(a, (socklen_t)len, out, PEERS_FROM, NULL, 0, NI_NUMERICHOST))
        snprintf(out, PEERS_FROM, "an unknown address");
}

static int start_handshake(struct incoming *c, int fd) {
    struct timeval limit = peers_time(c->peers->timing.handshake);
    struct err e;
    int on = 1;
    SSL *ssl = tls_server(c->peers->o.tls, &e);
    if (!ssl) {
        close(fd);
        return -1;
    }
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on)) log_debug("TCP_NODELAY: %s", strerror(errno));
    c->bev = tls_bufferevent(c->peers->base, fd, ssl, true, &e);
    c->deadline = event_new(c->peers->base, -1, 0, on_deadline, c);
    if (!c->bev || !c->deadline || event_add(c->deadline, &limit)) return -1;
    bufferevent_setcb(c->bev, NULL, NULL, on_shaken, c);
    return 0;
}

static bool is_members(const struct peers *p, uint64_t origin) {
    const struct member *m = p->members;
    while (m && (!m->origin || m->origin != origin)) m = m->next;
    return m != NULL;
}

static unsigned count_of(const struct peers *p, uint64_t origin) {
    unsigned n = 0;
    for (const struct incoming *c = p->incoming; c; c = c->next) n += c->origin == origin;
    return n;
}

// Who gives way: the oldest of the address that has most, and members' addresses after all others.
static struct incoming *most_dispensable(const struct peers *p) {
    struct incoming *found = NULL;
    unsigned most = 0;
    for (struct incoming *c = p->incoming; c; c = c->next) {
        unsigned n = count_of(p, c->origin) + (is_members(p, c->origin) ? 0 : LIMIT_PEER_HANDSHAKES + 1);
        if (n > most) found = c;
        if (n > most) most = n;
    }
    return found;
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *a, int len, void *arg) {
    struct peers *p = arg;
    struct incoming **end = &p->incoming, *c = calloc(1, sizeof *c);
    unsigned count = 0;
    (void)listener;
    if (!c) {
        close(fd);
        return;
    }
    for (; *end; end = &(*end)->next) count++;
    *c = (struct incoming){.peers = p};
    *end = c;
    name_address(a, len, c->from);
    c->origin = origin_of(a);
    if (!origins_pass(&p->origins, c->origin, clock_mono_ns())) {
        close(fd);
        turn_away(c, "too many come from there");
        return;
    }
    if (start_handshake(c, fd)) {
        turn_away(c, "out of memory");
        return;
    }
    if (count >= LIMIT_PEER_HANDSHAKES) turn_away(most_dispensable(p), "too many others came after it");
}

// ---------------------------------------------------------------- listening
static void on_resume(evutil_socket_t fd, short what, void *arg) {
    struct peers *p = arg;
    (void)fd, (void)what;
    for (size_t i = 0; i < p->n_listeners; i++)
        if (evconnlistener_enable(p->listeners[i])) log_error("links: a listening socket cannot be used any more");
}

// Out of descriptors: trying on at once would keep the loop busy.
static void on_accept_fault(struct evconnlistener *listener, void *arg) {
    struct peers *p = arg;
    struct timeval pause = peers_time(RESUME_MS);
    log_warn("links: a connection cannot be accepted: %s", strerror(errno));
    if (!event_add(p->resume, &pause) && evconnlistener_disable(listener)) log_debug("links: accepting goes on");
}

static int listen_on(struct peers *p, const struct addrinfo *a) {
    unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
    if (a->ai_family == AF_INET6) flags |= LEV_OPT_BIND_IPV6ONLY;
    struct evconnlistener *l =
        evconnlistener_new_bind(p->base, on_accept, p, flags, BACKLOG, a->ai_addr, (int)a->ai_addrlen);
    if (!l) return -1;
    evconnlistener_set_error_cb(l, on_accept_fault);
    p->listeners[p->n_listeners++] = l;
    return 0;
}

static uint16_t bound_port(const struct evconnlistener *l) {
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    if (getsockname(evconnlistener_get_fd((struct evconnlistener *)(uintptr_t)l), (struct sockaddr *)&a, &len))
        return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)(const void *)&a)->sin6_port
                                         : ((const struct sockaddr_in *)(const void *)&a)->sin_port);
}

int peers_listen(struct peers *p, const char *host, uint16_t port, uint16_t *bound, struct err *e) {
    char service[8];
    struct addrinfo want = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_PASSIVE}, *found;
    if (p->n_listeners == LIMIT_PEER_LISTENERS)
        return err_set(e, ERR_LIMIT, "links are accepted at %u addresses at most", LIMIT_PEER_LISTENERS);
    snprintf(service, sizeof service, "%u", port);
    int fault = getaddrinfo(host, service, &want, &found), rc = -1;
    if (fault) return err_set(e, ERR_INVALID, "other nodes cannot be accepted at %s: %s", host, gai_strerror(fault));
    for (const struct addrinfo *a = found; a && rc; a = a->ai_next) rc = listen_on(p, a);
    if (rc) {
        const char *hint = errno == EADDRINUSE ? "; choose another port, or end the program that has it" : "";
        err_set(e, ERR_IO, "other nodes cannot be accepted at %s port %u: %s%s", host, port, strerror(errno), hint);
    } else
        *bound = bound_port(p->listeners[p->n_listeners - 1]);
    freeaddrinfo(found);
    return rc;
}

int accept_init(struct peers *p, struct err *e) {
    p->resume = event_new(p->base, -1, 0, on_resume, p);
    return p->resume ? 0 : err_set(e, ERR_INTERNAL, "out of memory");
}

void accept_free(struct peers *p) {
    for (size_t i = 0; i < p->n_listeners; i++) evconnlistener_free(p->listeners[i]);
    p->n_listeners = 0;
    while (p->incoming) incoming_free(p->incoming);
    if (p->resume) event_free(p->resume);
    p->resume = NULL;
}

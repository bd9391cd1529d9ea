// Both ends of TLS connections in one process: on threads that block and on an event loop.
#include "base/clock.h"
#include "net/tls.h"
#include "net/tls_fixture.h"

#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIDES = 2, BYTES = 1 << 20 };
static struct fixture_node a, b; // a connects to b

static bool trusts_a(void *arg, const uint8_t pin[TLS_PIN]) {
    ++*(int *)arg;
    return !memcmp(pin, a.pin, TLS_PIN);
}
static int asked;

static int setup(void **arg) {
    (void)arg;
    fixture_node_init(&a);
    fixture_node_init(&b);
    asked = 0;
    tls_trust(b.tls, trusts_a, &asked);
    return 0;
}

static int teardown(void **arg) {
    (void)arg;
    fixture_node_close(&a);
    fixture_node_close(&b);
    return 0;
}

// ---------------------------------------------------------------- two blocking ends
struct end {
    SSL *ssl;
    int fd, rc;
    bool server;
    struct err e;
    pthread_t thread;
    uint8_t exported[32];
};

static void limit(int fd, long ms) {
    struct timeval t = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t), 0);
}

static void *shake(void *arg) {
    struct end *end = arg;
    end->rc = end->server ? tls_accept(end->ssl, end->fd, &end->e) : tls_connect(end->ssl, end->fd, 0, &end->e);
    return NULL;
}

static void sockets(struct end ends[SIDES]) {
    int fds[SIDES];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (int i = 0; i < SIDES; i++) {
        limit(fds[i], 20000);
        ends[i].fd = fds[i];
    }
}

// ends[0] is the client. A side that has failed closes its socket's other direction, so that nobody waits for it.
static void handshake(struct end ends[SIDES], SSL *client) {
    struct err e;
    memset(ends, 0, SIDES * sizeof *ends);
    sockets(ends);
    ends[0].ssl = client;
    ends[1].ssl = tls_server(b.tls, &e);
    ends[1].server = true;
    assert_non_null(ends[0].ssl);
    assert_non_null(ends[1].ssl);
    assert_int_equal(pthread_create(&ends[0].thread, NULL, shake, &ends[0]), 0);
    shake(&ends[1]);
    if (ends[1].rc) shutdown(ends[1].fd, SHUT_WR);
    pthread_join(ends[0].thread, NULL);
}

static void close_ends(struct end ends[SIDES]) {
    for (int i = 0; i < SIDES; i++) tls_close(ends[i].ssl, ends[i].fd);
}

static void connected(struct end ends[SIDES], enum tls_use use) {
    struct err e;
    SSL *client = tls_client(a.tls, use, b.pin, &e);
    handshake(ends, client);
    assert_int_equal(ends[0].rc, 0);
    assert_int_equal(ends[1].rc, 0);
}

// The server has refused; a TLS 1.3 client learns that from what it reads.
static void refused(struct end ends[SIDES], const char *server_says, const char *client_says) {
    char byte;
    assert_int_equal(ends[1].rc, -1);
    assert_non_null(strstr(ends[1].e.msg, server_says));
    if (!ends[0].rc) assert_int_equal(tls_read(ends[0].ssl, &byte, 1, &ends[0].e), -1);
    assert_non_null(strstr(ends[0].e.msg, client_says));
    close_ends(ends);
}

static void both_know_each_other(void **arg) {
    (void)arg;
    for (int use = 0; use < TLS_USES; use++) {
        struct end ends[SIDES];
        uint8_t pin[TLS_PIN], out[SIDES][32], none[32] = {0};
        connected(ends, (enum tls_use)use);
        for (int i = 0; i < SIDES; i++) {
            assert_int_equal(tls_use_of(ends[i].ssl), use);
            tls_peer_pin(ends[i].ssl, pin);
            assert_memory_equal(pin, i ? a.pin : b.pin, TLS_PIN);
            assert_int_equal(tls_exporter(ends[i].ssl, out[i], &ends[i].e), 0);
            assert_string_equal(SSL_get_version(ends[i].ssl), "TLSv1.3");
            assert_false(SSL_session_reused(ends[i].ssl));
        }
        assert_memory_equal(out[0], out[1], 32);
        assert_memory_not_equal(out[0], none, 32);
        close_ends(ends);
    }
    assert_int_equal(asked, 2); // not for the pairing one
}

static void exporters_differ(void **arg) {
    (void)arg;
    struct end one[SIDES], two[SIDES];
    connected(one, TLS_CONTROL);
    connected(two, TLS_CONTROL);
    assert_int_equal(tls_exporter(one[0].ssl, one[0].exported, &one[0].e), 0);
    assert_int_equal(tls_exporter(two[0].ssl, two[0].exported, &two[0].e), 0);
    assert_memory_not_equal(one[0].exported, two[0].exported, 32);
    close_ends(one);
    close_ends(two);
}

static void wrong_pin_of_server(void **arg) {
    (void)arg;
    for (int use = 0; use < TLS_USES; use++) {
        struct end ends[SIDES];
        struct err e;
        uint8_t pin[TLS_PIN];
        memcpy(pin, b.pin, TLS_PIN);
        pin[TLS_PIN - 1] ^= 1;
        handshake(ends, tls_client(a.tls, (enum tls_use)use, pin, &e));
        assert_int_equal(ends[0].rc, -1);
        assert_non_null(strstr(ends[0].e.msg, "not one that is trusted"));
        assert_int_equal(ends[1].rc, -1);
        close_ends(ends);
    }
    assert_int_equal(asked, 0); // refused before the client has shown anything of its own
}

static void untrusted_client(void **arg) {
    (void)arg;
    struct fixture_node stranger;
    struct end ends[SIDES];
    struct err e;
    fixture_node_init(&stranger);
    for (int use = 0; use < TLS_PAIR; use++) {
        handshake(ends, tls_client(stranger.tls, (enum tls_use)use, b.pin, &e));
        refused(ends, "not one that is trusted", "does not trust this node's key");
    }
    handshake(ends, tls_client(stranger.tls, TLS_PAIR, NULL, &e)); // knows nobody, and may pair
    assert_int_equal(ends[0].rc | ends[1].rc, 0);
    close_ends(ends);
    assert_null(tls_client(stranger.tls, TLS_DATA, NULL, &e));
    assert_int_equal(e.code, ERR_DENIED);
    tls_trust(b.tls, NULL, NULL); // nobody at all
    handshake(ends, tls_client(a.tls, TLS_DATA, b.pin, &e));
    refused(ends, "not one that is trusted", "does not trust");
    fixture_node_close(&stranger);
}

// ---------------------------------------------------------------- clients that are not ours
static SSL *foreign_client(int min, int max, const char *protocol, struct fixture_node *shows) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    uint8_t offer[64];
    size_t n = protocol ? strlen(protocol) : 0;
    assert_non_null(ctx);
    assert_int_equal(SSL_CTX_set_min_proto_version(ctx, min) && SSL_CTX_set_max_proto_version(ctx, max), 1);
    if (shows) {
        assert_int_equal(SSL_CTX_use_certificate(ctx, shows->cert), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(ctx, shows->key), 1);
    }
    SSL *ssl = SSL_new(ctx);
    assert_non_null(ssl);
    SSL_CTX_free(ctx);
    offer[0] = (uint8_t)n;
    if (n) {
        memcpy(offer + 1, protocol, n);
        assert_int_equal(SSL_set_alpn_protos(ssl, offer, (unsigned)n + 1), 0);
    }
    return ssl;
}

static void no_certificate(void **arg) {
    (void)arg;
    struct end ends[SIDES];
    handshake(ends, foreign_client(TLS1_3_VERSION, TLS1_3_VERSION, "nebulus-pair/1", NULL));
    refused(ends, "shows no certificate", "certificate required");
}

static void old_version(void **arg) {
    (void)arg;
    struct end ends[SIDES];
    handshake(ends, foreign_client(TLS1_2_VERSION, TLS1_2_VERSION, "nebulus-data/1", &a));
    refused(ends, "does not speak TLS 1.3", "does not speak TLS 1.3");
}

static void wrong_protocol(void **arg) {
    (void)arg;
    struct end ends[SIDES];
    static const char *const names[] = {"h2", "nebulus-data/2", "nebulus-data/1x", "nebulus-data/"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        handshake(ends, foreign_client(TLS1_3_VERSION, TLS1_3_VERSION, names[i], &a));
        refused(ends, "another protocol", "another protocol");
    }
    handshake(ends, foreign_client(TLS1_3_VERSION, TLS1_3_VERSION, NULL, &a)); // says nothing: a browser, say
    refused(ends, "trusted", "trust");
    assert_int_equal(asked, 0);
}

static int says_nothing(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in, unsigned len,
                        void *arg) {
    (void)ssl, (void)out, (void)n, (void)in, (void)len, (void)arg;
    return SSL_TLSEXT_ERR_NOACK;
}

// A server with the right key that does not confirm what the connection is for.
static void server_without_protocol(void **arg) {
    (void)arg;
    struct end ends[SIDES];
    struct err e;
    SSL *server = tls_server(b.tls, &e);
    SSL_CTX_set_alpn_select_cb(SSL_get_SSL_CTX(server), says_nothing, NULL);
    handshake(ends, tls_client(a.tls, TLS_DATA, b.pin, &e));
    assert_int_equal(ends[0].rc, -1);
    assert_int_equal(ends[1].rc, -1);
    close_ends(ends);
    SSL_free(server);
}

static void garbage(void **arg) {
    (void)arg;
#define SAID(text)                                                                                                     \
    { text, sizeof text - 1 }
    static const struct {
        const char *bytes;
        size_t n;
    } said[] = {
        SAID("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        SAID("\x16\x03\x01\xff\xff\x01"),                     // a giant record
        SAID("\x16\x03\x01\x00\x06\x01\xff\xff\xff\x00\x00"), // a giant message
        SAID("\x16\x03\x01\x00\x00"),
        SAID("NKV1"),
    };
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        struct end ends[SIDES] = {0};
        struct err e;
        sockets(ends);
        ends[1].ssl = tls_server(b.tls, &e);
        assert_int_equal(write(ends[0].fd, said[i].bytes, said[i].n), (ssize_t)said[i].n);
        shutdown(ends[0].fd, SHUT_WR);
        assert_int_equal(tls_accept(ends[1].ssl, ends[1].fd, &ends[1].e), -1);
        assert_int_equal(ends[1].e.code, ERR_UNREACHABLE);
        close_ends(ends);
    }
}

// ---------------------------------------------------------------- data
static uint8_t pattern(size_t at) { return (uint8_t)(at * 2654435761u >> 13); }

static void *write_with_new_keys(void *arg) {
    struct end *end = arg;
    static uint8_t data[BYTES];
    for (size_t i = 0; i < BYTES; i++) data[i] = pattern(i);
    for (size_t at = 0, step = 1; at < BYTES && !end->rc; at += step, step = step * 3 % 200003 + 1) {
        size_t n = step < BYTES - at ? step : BYTES - at, some = n / 7;
        struct tls_part parts[] = {{data + at, some}, {data + at + some, n - some}};
        bool whole = step % 2;
        end->rc = whole ? tls_write(end->ssl, data + at, n, &end->e) : tls_write_parts(end->ssl, parts, 2, &end->e);
        if (!end->rc) end->rc = tls_rekey(end->ssl, &end->e);
    }
    return NULL;
}

static void rekey_in_the_middle(void **arg) {
    (void)arg;
    struct end ends[SIDES];
    static uint8_t got[BYTES];
    connected(ends, TLS_DATA);
    assert_int_equal(pthread_create(&ends[0].thread, NULL, write_with_new_keys, &ends[0]), 0);
    for (size_t at = 0, n; at < BYTES; at += n) {
        n = BYTES - at < 10007 ? BYTES - at : 10007;
        assert_int_equal(tls_read(ends[1].ssl, got + at, n, &ends[1].e), 0);
    }
    pthread_join(ends[0].thread, NULL);
    assert_int_equal(ends[0].rc, 0);
    for (size_t i = 0; i < BYTES; i++) assert_int_equal(got[i], pattern(i));
    close_ends(ends);
}

static void ends_of_connections(void **arg) {
    (void)arg;
    struct end ends[SIDES];
    char data[8];
    // properly, between two reads
    connected(ends, TLS_DATA);
    assert_int_equal(tls_write(ends[0].ssl, "12345678", 8, &ends[0].e), 0);
    tls_close(ends[0].ssl, ends[0].fd);
    assert_int_equal(tls_read(ends[1].ssl, data, 8, &ends[1].e), 0);
    assert_int_equal(tls_read(ends[1].ssl, data, 8, &ends[1].e), 1);
    tls_close(ends[1].ssl, ends[1].fd);
    // properly, but in the middle
    connected(ends, TLS_DATA);
    assert_int_equal(tls_write(ends[0].ssl, "1234", 4, &ends[0].e), 0);
    tls_close(ends[0].ssl, ends[0].fd);
    assert_int_equal(tls_read(ends[1].ssl, data, 8, &ends[1].e), -1);
    tls_close(ends[1].ssl, ends[1].fd);
    // cut, as by the death of the process: never taken for an end
    connected(ends, TLS_DATA);
    SSL_free(ends[0].ssl);
    close(ends[0].fd);
    assert_int_equal(tls_read(ends[1].ssl, data, 8, &ends[1].e), -1);
    assert_non_null(strstr(ends[1].e.msg, "cut"));
    int rc = 0;
    for (int i = 0; i < 1000 && !rc; i++) rc = tls_write(ends[1].ssl, data, 8, &ends[1].e); // no SIGPIPE
    assert_int_equal(tls_write_parts(ends[1].ssl, &(struct tls_part){data, 8}, 1, &ends[1].e), -1);
    assert_int_equal(rc, -1);
    tls_close(ends[1].ssl, ends[1].fd);
}

static void time_limit(void **arg) {
    (void)arg;
    struct end ends[SIDES];
    char data[8];
    connected(ends, TLS_DATA);
    limit(ends[1].fd, 50);
    assert_int_equal(tls_write(ends[0].ssl, "1234", 4, &ends[0].e), 0);
    assert_int_equal(tls_read(ends[1].ssl, data, 8, &ends[1].e), -1);
    assert_non_null(strstr(ends[1].e.msg, "time limit"));
    close_ends(ends);
}

struct dribble {
    int fd;
    atomic_bool stop;
};

// A TLS record that comes byte by byte, faster than any of the socket's limits.
static void *dribble(void *arg) {
    static const char head[] = {23, 3, 3, 0x3f, 0x00};
    struct dribble *d = arg;
    for (size_t i = 0; !atomic_load(&d->stop); i++) {
        if (send(d->fd, i < sizeof head ? head + i : "x", 1, MSG_NOSIGNAL) != 1) break;
        usleep(2000);
    }
    return NULL;
}

static void byte_by_byte(void **arg) {
    (void)arg;
    struct end ends[SIDES];
    char data[8];
    pthread_t thread;
    connected(ends, TLS_DATA);
    assert_int_equal(tls_write(ends[0].ssl, "12345678", 8, &ends[0].e), 0);
    tls_until(ends[1].ssl, 1); // long ago: also what has come is not read
    assert_int_equal(tls_read(ends[1].ssl, data, 8, &ends[1].e), -1);
    assert_non_null(strstr(ends[1].e.msg, "too long"));
    tls_until(ends[0].ssl, 1);
    assert_int_equal(tls_write(ends[0].ssl, "1", 1, &ends[0].e), -1);
    tls_until(ends[1].ssl, 0);
    assert_int_equal(tls_read(ends[1].ssl, data, 8, &ends[1].e), 0);
    assert_memory_equal(data, "12345678", 8);
    struct dribble d = {.fd = ends[0].fd};
    assert_int_equal(pthread_create(&thread, NULL, dribble, &d), 0);
    tls_until(ends[1].ssl, clock_mono_ns() + 50 * NS_PER_MS);
    assert_int_equal(tls_read(ends[1].ssl, data, 8, &ends[1].e), -1);
    assert_non_null(strstr(ends[1].e.msg, "too long"));
    atomic_store(&d.stop, true);
    pthread_join(thread, NULL);
    close_ends(ends);
}

static void sessions_outlive_their_maker(void **arg) {
    (void)arg;
    struct end ends[SIDES];
    struct err e;
    struct fixture_node gone;
    char data[4];
    fixture_node_init(&gone);
    SSL *client = tls_client(gone.tls, TLS_PAIR, b.pin, &e);
    fixture_node_close(&gone);
    handshake(ends, client);
    assert_int_equal(ends[0].rc | ends[1].rc, 0);
    assert_int_equal(tls_write(ends[1].ssl, "ping", 4, &e), 0);
    assert_int_equal(tls_read(ends[0].ssl, data, 4, &e), 0);
    close_ends(ends);
}

// ---------------------------------------------------------------- on an event loop
struct looped {
    struct event_base *base;
    struct bufferevent *bev[SIDES];
    int events[SIDES]; // what came first
    SSL *ssl;          // where detached
    int fd;
    char why[256];
};

static void on_event(struct looped *l, int side, short what) {
    if (!l->events[side]) l->events[side] = what;
    if (what & BEV_EVENT_ERROR) tls_why(l->bev[side], l->why, sizeof l->why);
    if (l->events[0] && l->events[1]) event_base_loopbreak(l->base);
}
static void on_client(struct bufferevent *bev, short what, void *arg) {
    (void)bev;
    on_event(arg, 0, what);
}
static void on_server(struct bufferevent *bev, short what, void *arg) {
    (void)bev;
    on_event(arg, 1, what);
}
static void on_server_detach(struct bufferevent *bev, short what, void *arg) {
    struct looped *l = arg;
    if (what & BEV_EVENT_CONNECTED) {
        l->ssl = tls_detach(bev, &l->fd);
        l->bev[1] = NULL;
    }
    on_event(l, 1, what);
}

static struct bufferevent *add(struct looped *l, int fd, SSL *ssl, bool server, bufferevent_event_cb cb) {
    struct err e;
    struct bufferevent *bev = tls_bufferevent(l->base, fd, ssl, server, &e);
    assert_non_null(bev);
    bufferevent_setcb(bev, NULL, NULL, cb, l);
    assert_int_equal(bufferevent_enable(bev, EV_READ | EV_WRITE), 0);
    return bev;
}

static void loop_open(struct looped *l) {
    memset(l, 0, sizeof *l);
    l->base = event_base_new();
    assert_non_null(l->base);
}

static void loop_close(struct looped *l) {
    for (int i = 0; i < SIDES; i++)
        if (l->bev[i]) bufferevent_free(l->bev[i]);
    assert_int_not_equal(event_base_loop(l->base, EVLOOP_NONBLOCK), -1);
    event_base_free(l->base);
}

static void on_a_loop(void **arg) {
    (void)arg;
    struct looped l;
    struct end ends[SIDES];
    struct err e;
    uint8_t out[SIDES][32];
    for (int trusted = 0; trusted < 2; trusted++) {
        loop_open(&l);
        sockets(ends);
        tls_trust(b.tls, trusted ? trusts_a : NULL, &asked);
        l.bev[0] = add(&l, ends[0].fd, tls_client(a.tls, TLS_CONTROL, b.pin, &e), false, on_client);
        l.bev[1] = add(&l, ends[1].fd, tls_server(b.tls, &e), true, on_server);
        event_base_dispatch(l.base);
        assert_true(l.events[0] & BEV_EVENT_CONNECTED); // as TLS 1.3 has it, whatever the server thinks
        if (trusted) {
            assert_true(l.events[1] & BEV_EVENT_CONNECTED);
            for (int i = 0; i < SIDES; i++)
                assert_int_equal(tls_exporter(bufferevent_openssl_get_ssl(l.bev[i]), out[i], &e), 0);
            assert_memory_equal(out[0], out[1], 32);
        } else {
            assert_true(l.events[1] & BEV_EVENT_ERROR);
            assert_non_null(strstr(l.why, "not one that is trusted"));
        }
        loop_close(&l);
    }
}

static void *connect_and_echo(void *arg) {
    struct end *end = arg;
    char byte, data[1000];
    shake(end);
    if (!end->rc) end->rc = tls_read(end->ssl, &byte, 1, &end->e);
    for (int i = 0; i < 100 && !end->rc; i++) {
        end->rc = tls_read(end->ssl, data, sizeof data, &end->e);
        if (!end->rc) end->rc = tls_write(end->ssl, data, sizeof data, &end->e);
    }
    return NULL;
}

static void detached(void **arg) {
    (void)arg;
    struct looped l;
    struct end ends[SIDES] = {0};
    struct err e;
    char data[1000], back[1000];
    loop_open(&l);
    sockets(ends);
    ends[0].ssl = tls_client(a.tls, TLS_DATA, b.pin, &e);
    l.bev[1] = add(&l, ends[1].fd, tls_server(b.tls, &e), true, on_server_detach);
    l.events[0] = BEV_EVENT_CONNECTED; // the thread's
    assert_int_equal(pthread_create(&ends[0].thread, NULL, connect_and_echo, &ends[0]), 0);
    event_base_dispatch(l.base);
    assert_non_null(l.ssl);
    assert_int_equal(l.fd, ends[1].fd);
    loop_close(&l); // what libevent still holds goes; the connection stays
    assert_int_equal(tls_write(l.ssl, "!", 1, &e), 0);
    for (int i = 0; i < 100; i++) {
        memset(data, i, sizeof data);
        assert_int_equal(tls_write(l.ssl, data, sizeof data, &e), 0);
        assert_int_equal(tls_read(l.ssl, back, sizeof back, &e), 0);
        assert_memory_equal(data, back, sizeof back);
    }
    pthread_join(ends[0].thread, NULL);
    assert_int_equal(ends[0].rc, 0);
    tls_close(l.ssl, l.fd);
    tls_close(ends[0].ssl, ends[0].fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(both_know_each_other),
        TEST(exporters_differ),
        TEST(wrong_pin_of_server),
        TEST(untrusted_client),
        TEST(no_certificate),
        TEST(old_version),
        TEST(wrong_protocol),
        TEST(server_without_protocol),
        TEST(garbage),
        TEST(rekey_in_the_middle),
        TEST(ends_of_connections),
        TEST(time_limit),
        TEST(byte_by_byte),
        TEST(sessions_outlive_their_maker),
        TEST(on_a_loop),
        TEST(detached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

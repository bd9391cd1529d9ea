#include "cluster/peers_world.h"

#include <arpa/inet.h>
#include <sys/socket.h>

struct end {
    int times;
    struct bufferevent *bev;
    bool shown;
    uint8_t pin[TLS_PIN];
    struct err why;
};

static void on_end(void *arg, struct bufferevent *bev, const uint8_t *shown, const struct err *why) {
    struct end *end = arg;
    end->times++;
    end->bev = bev;
    end->shown = shown != NULL;
    if (shown) memcpy(end->pin, shown, TLS_PIN);
    if (!bev) end->why = *why;
}

static struct reach *start(struct world *w, const char *address, const struct node *expected, struct end *end) {
    const struct reach_to to = {.address = address,
                                .tls = w->n[0].key.tls,
                                .use = expected ? TLS_CONTROL : TLS_PAIR,
                                .pin = expected ? expected->key.pin : NULL,
                                .each_ms = 200};
    struct err e;
    *end = (struct end){.times = 0};
    struct reach *r = reach_start(w->base, &to, on_end, end, &e);
    assert_int_equal(end->times, 0);
    return r;
}

static void run(struct world *w, const char *address, const struct node *expected, struct end *end) {
    assert_non_null(start(w, address, expected, end));
    RUN_UNTIL(w, end->times);
}

static void test_reached(void **state) {
    struct world *w = *state;
    struct node *b = &w->n[1];
    char address[PEERS_ADDRESS];
    uint8_t pin[TLS_PIN];
    struct end end;
    snprintf(address, sizeof address, "localhost:%u", b->port); // ::1 may come first: nobody listens there
    run(w, address, NULL, &end);
    assert_non_null(end.bev);
    tls_peer_pin(bufferevent_openssl_get_ssl(end.bev), pin);
    assert_memory_equal(pin, b->key.pin, TLS_PIN);
    bufferevent_free(end.bev);
    run(w, address, b, &end);
    assert_non_null(end.bev);
    bufferevent_free(end.bev);
    RUN_UNTIL(w, b->pairs);
}

static void test_not_reached(void **state) {
    struct world *w = *state;
    struct node *b = &w->n[1], *c = &w->n[2];
    struct end end;
    char address[PEERS_ADDRESS];
    run(w, b->address, c, &end);
    assert_null(end.bev);
    assert_true(end.shown);
    assert_memory_equal(end.pin, b->key.pin, TLS_PIN);
    assert_int_equal(end.why.code, ERR_DENIED);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(at.sin_port));
    run(w, address, b, &end);
    assert_false(end.shown);
    assert_int_equal(end.why.code, ERR_UNREACHABLE);
    assert_non_null(strstr(end.why.msg, "refused"));
    assert_int_equal(listen(fd, 5), 0); // accepts, and says nothing
    run(w, address, b, &end);
    assert_string_equal(end.why.msg, "no answer");
    close(fd);
    assert_null(start(w, "nonsense", b, &end));
    assert_null(start(w, "host:0", b, &end));
}

static void test_cancelling(void **state) {
    struct world *w = *state;
    struct end end;
    reach_cancel(NULL);
    for (int rounds = 0; rounds < 12; rounds++) { // at every stage
        struct reach *r = start(w, w->n[1].address, &w->n[1], &end);
        for (int i = 0; i < rounds && !end.times; i++) assert_int_equal(event_base_loop(w->base, EVLOOP_ONCE), 0);
        if (!end.times) {
            reach_cancel(r);
            for (int i = 0; i < 5; i++) assert_int_not_equal(event_base_loop(w->base, EVLOOP_NONBLOCK), -1);
            assert_int_equal(end.times, 0);
        } else
            bufferevent_free(end.bev);
    }
}

static int trusting_setup(void **state) { // bob knows ada
    int rc = fixture_setup(state);
    struct world *w = *state;
    fixture_add(&w->n[1], &w->n[0], "");
    return rc;
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, trusting_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {CASE(test_reached), CASE(test_not_reached), CASE(test_cancelling)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

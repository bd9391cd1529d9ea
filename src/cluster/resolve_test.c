#include "cluster/resolve.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

struct answer {
    int times;
    bool loopback; // of every address
    uint16_t port;
};

static void on_answer(void *arg, const struct addrinfo *found, const struct err *why) {
    struct answer *a = arg;
    a->times++;
    a->loopback = found != NULL;
    if (!found) assert_int_equal(why->code, ERR_UNREACHABLE);
    for (; found; found = found->ai_next) {
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        if (found->ai_family == AF_INET) {
            memcpy(&v4, found->ai_addr, sizeof v4);
            a->loopback = a->loopback && v4.sin_addr.s_addr == htonl(INADDR_LOOPBACK);
            a->port = ntohs(v4.sin_port);
        } else {
            memcpy(&v6, found->ai_addr, sizeof v6);
            a->loopback = a->loopback && IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
            a->port = ntohs(v6.sin6_port);
        }
    }
}

static struct answer ask(const char *host, uint16_t port) {
    struct event_base *base = event_base_new();
    struct answer a = {.times = 0};
    struct err e;
    assert_non_null(resolve_start(base, host, port, on_answer, &a, &e));
    assert_int_equal(a.times, 0); // never from inside the call
    event_base_dispatch(base);    // until there is nothing to wait for
    assert_int_equal(a.times, 1);
    event_base_free(base);
    return a;
}

static void test_answers(void **state) {
    (void)state;
    static const char *const hosts[] = {"127.0.0.1", "::1", "localhost"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        struct answer a = ask(hosts[i], 7421);
        assert_true(a.loopback);
        assert_int_equal(a.port, 7421);
    }
    char label[80] = ""; // longer than DNS can ask for
    memset(label, 'a', sizeof label - 1);
    assert_false(ask(label, 1).loopback);
}

static void test_cancelling(void **state) {
    (void)state;
    struct event_base *base = event_base_new();
    struct answer a = {.times = 0};
    struct err e;
    for (int i = 0; i < 200; i++) { // threads that outlive their handles, and handles that outlive theirs
        struct resolve *r = resolve_start(base, i % 2 ? "localhost" : "127.0.0.1", 1, on_answer, &a, &e);
        if (r)
            resolve_cancel(r);
        else
            assert_int_equal(e.code, ERR_BUSY);
    }
    event_base_dispatch(base);
    assert_int_equal(a.times, 0);
    resolve_cancel(NULL);
    event_base_free(base);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_answers), cmocka_unit_test(test_cancelling)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

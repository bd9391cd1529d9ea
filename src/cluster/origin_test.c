// Who comes too often, and that others do not suffer from it.
#include "base/clock.h"
#include "base/limits.h"
#include "cluster/origin.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static uint64_t four(const char *text) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    assert_int_equal(inet_pton(AF_INET, text, &a.sin_addr), 1);
    return origin_of((const struct sockaddr *)&a);
}

static uint64_t six(const char *text) {
    struct sockaddr_in6 a = {.sin6_family = AF_INET6};
    assert_int_equal(inet_pton(AF_INET6, text, &a.sin6_addr), 1);
    return origin_of((const struct sockaddr *)&a);
}

static void owners(void **state) {
    (void)state;
    assert_int_not_equal(four("10.0.0.1"), four("10.0.0.2"));
    assert_int_equal(six("2001:db8:1:2::1"), six("2001:db8:1:2:ffff::9"));
    assert_int_not_equal(six("2001:db8:1:2::1"), six("2001:db8:1:3::1"));
    assert_true(four("0.0.0.0") != 0 && six("::1") != four("0.0.0.1"));
    assert_int_equal(origin_of(&(struct sockaddr){.sa_family = AF_UNIX}), 0);
    assert_int_equal(origin_of_peer(-1), 0);
}

static unsigned passed(struct origins *o, uint64_t origin, uint64_t now, unsigned tries) {
    unsigned n = 0;
    for (unsigned i = 0; i < tries; i++) n += origins_pass(o, origin, now);
    return n;
}

static void rates(void **state) {
    (void)state;
    struct origins o = {0};
    uint64_t now = 5 * NS_PER_S;
    assert_int_equal(passed(&o, 7, now, 1000), LIMIT_PEER_BURST);
    assert_int_equal(passed(&o, 8, now, 3), 3);
    unsigned n = 0;
    for (unsigned ms = 1; ms <= 3000; ms++) n += passed(&o, 7, now + ms * NS_PER_MS, 2);
    assert_in_range(n, 3 * LIMIT_PEER_RATE - 1, 3 * LIMIT_PEER_RATE);
    now += 3600 * NS_PER_S;
    assert_int_equal(passed(&o, 7, now, 1000), LIMIT_PEER_BURST);
}

// More addresses than are remembered: the one that comes most is remembered best.
static void many(void **state) {
    (void)state;
    struct origins o = {0};
    assert_int_equal(passed(&o, 1, NS_PER_S, 1000), LIMIT_PEER_BURST);
    for (uint64_t other = 2; other < 10 * ORIGINS; other++) assert_true(origins_pass(&o, other, NS_PER_S));
    assert_false(origins_pass(&o, 1, NS_PER_S));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(owners),
        cmocka_unit_test(rates),
        cmocka_unit_test(many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "base/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_split(void **state) {
    (void)state;
    static const struct {
        const char *text, *host;
        long port; // -2: malformed
    } cases[] = {{"127.0.0.1:7420", "127.0.0.1", 7420},
                 {"localhost", "localhost", -1},
                 {"[::1]:80", "::1", 80},
                 {"[::1]", "::1", -1},
                 {"a:0", "a", 0},
                 {"", "", -2},
                 {":80", "", -2},
                 {"[::1", "", -2},
                 {"[]:80", "", -2},
                 {"a:", "", -2},
                 {"a:b", "", -2},
                 {"a:65536", "", -2},
                 {"::1", "", -2},
                 {"[::1]x", "", -2},
                 {"a:-1", "", -2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char host[SETTING_SIZE];
        long port;
        int rc = address_split(cases[i].text, host, &port);
        if (cases[i].port == -2)
            assert_int_equal(rc, -1);
        else {
            assert_int_equal(rc, 0);
            assert_string_equal(host, cases[i].host);
            assert_int_equal(port, cases[i].port);
        }
    }
    char host[SETTING_SIZE], long_text[SETTING_SIZE + 10];
    long port;
    memset(long_text, 'a', sizeof long_text);
    long_text[sizeof long_text - 1] = 0;
    assert_int_equal(address_split(long_text, host, &port), -1);
}

static void test_loopback(void **state) {
    (void)state;
    static const char *const ours[] = {"127.0.0.1", "127.9.9.9", "::1", "localhost", "LocalHost", "x.localhost"};
    static const char *const others[] = {"",
                                         "0.0.0.0",
                                         "10.0.0.1",
                                         "::",
                                         "evil.com",
                                         "localhost.evil.com",
                                         ".localhost",
                                         "127.0.0.1.evil.com",
                                         "notlocalhost",
                                         "::ffff:127.0.0.1",
                                         "127.1"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) assert_true(address_is_loopback(ours[i]));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) assert_false(address_is_loopback(others[i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_split), cmocka_unit_test(test_loopback)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

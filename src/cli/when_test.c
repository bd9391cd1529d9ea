#include "cli/when.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_times(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t when;
    } good[] = {{"90s", 1090},  {"45m", 1000 + 2700},  {"12h", 1000 + 43200},      {"30d", 1000 + 2592000},
                {"1w", 605800}, {"1970-01-02", 86400}, {"2026-12-31", 1798675200}, {"2028-02-29", 1835395200}};
    static const char *const bad[] = {"",           "d",          "0d",          "-1d",        "1",
                                      "1y",         "1.5h",       " 1d",         "1d ",        "1000001d",
                                      "2026-02-29", "2026-13-01", "2026-12-31x", "1969-12-31", "tomorrow"};
    struct err e;
    int64_t when;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(when_parse(good[i].text, 1000, &when, &e), 0);
        assert_int_equal(when, good[i].when);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!when_parse(bad[i], 1000, &when, &e)) fail_msg("'%s' is taken", bad[i]);
}

static void test_text(void **state) {
    (void)state;
    char out[WHEN_TEXT];
    assert_string_equal(when_text(out, 1798675200 + 8 * 3600 + 59), "2026-12-31 08:00Z");
    assert_string_equal(when_text(out, INT64_MAX), "?");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_times), cmocka_unit_test(test_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

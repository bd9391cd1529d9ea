#include "trust/policy_hours.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { MON, TUE, WED, THU, FRI, SAT, SUN };

static struct policy_hours hours(const char *text) {
    struct policy_hours h;
    struct err e = {.code = ERR_NONE};
    if (policy_hours_read(text, &h, &e)) fail_msg("%s: %s", text, e.msg);
    return h;
}

static bool at(const char *text, int day, int hour, int minute) {
    struct policy_hours h = hours(text);
    return policy_hours_has(&h, day, hour * 60 + minute);
}

static void test_ranges(void **state) {
    (void)state;
    const char *office = "Mon-Fri 08:00-20:00";
    assert_true(at(office, MON, 8, 0));
    assert_false(at(office, MON, 7, 59));
    assert_true(at(office, FRI, 19, 59));
    assert_false(at(office, FRI, 20, 0));
    assert_false(at(office, SAT, 12, 0));
    assert_true(at("08:00-09:00", SUN, 8, 30)); // every day
    assert_true(at("00:00-24:00", WED, 23, 59));
    assert_true(at("Sat,Sun 10:00-14:00 ; Wed 10:00-11:00", WED, 10, 0));
    assert_false(at("Sat,Sun 10:00-14:00; Wed 10:00-11:00", WED, 11, 0));
    assert_true(at("Sat-Mon 10:00-14:00", SUN, 10, 0)); // over the end of the week
    assert_true(at("Sat-Mon 10:00-14:00", MON, 10, 0));
    assert_false(at("Sat-Mon 10:00-14:00", TUE, 10, 0));
    assert_true(at("Mon,Thu-Fri 10:00-14:00", THU, 10, 0));
    assert_false(at("Mon,Thu-Fri 10:00-14:00", WED, 10, 0));
}

static void test_over_midnight(void **state) {
    (void)state;
    const char *night = "Fri 22:00-06:00";
    assert_false(at(night, FRI, 5, 0)); // that is Thursday's night
    assert_true(at(night, FRI, 22, 0));
    assert_true(at(night, SAT, 5, 59));
    assert_false(at(night, SAT, 6, 0));
    assert_false(at(night, SAT, 22, 0));
    assert_true(at("Sun 23:00-01:00", MON, 0, 30)); // and over the end of the week
    assert_false(at("Sun 23:00-01:00", SUN, 0, 30));
}

// Every minute of the week against a list of minutes.
static void test_every_minute(void **state) {
    (void)state;
    struct policy_hours h = hours("Mon-Wed 20:30-04:15; Sat 00:00-24:00; Sun 23:59-00:01");
    static bool week[7 * POLICY_MINUTES];
    for (int day = MON; day <= WED; day++)
        for (int m = 20 * 60 + 30; m < POLICY_MINUTES + 4 * 60 + 15; m++) week[day * POLICY_MINUTES + m] = true;
    for (int m = 0; m < POLICY_MINUTES; m++) week[SAT * POLICY_MINUTES + m] = true;
    week[7 * POLICY_MINUTES - 1] = week[0] = true;
    for (int i = 0; i < 7 * POLICY_MINUTES; i++)
        if (policy_hours_has(&h, i / POLICY_MINUTES, i % POLICY_MINUTES) != week[i]) fail_msg("minute %d", i);
}

static void test_faults(void **state) {
    (void)state;
    static const char *const faults[] = {
        "",
        "Mon",
        "Mon ",
        "Mon08:00-09:00",
        "mon 08:00-09:00",
        "Mon-08:00-09:00",
        "8:00-9:00",
        "08:00",
        "08:00-",
        "08:00-08:00",
        "24:00-08:00",
        "08:60-09:00",
        "08:00-24:01",
        "25:00-26:00",
        "08:00-09:00;",
        "08:00-09:00 Mon",
        "Mon,,Tue 08:00-09:00",
        "Mon- 08:00-09:00",
        "08:00 09:00",
        "Mon-Fri",
        "08:00-09:00,10:00-11:00",
    };
    struct policy_hours h;
    struct err e;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (!policy_hours_read(faults[i], &h, &e)) fail_msg("accepted: '%s'", faults[i]);
    char many[POLICY_HOURS_TEXT] = "00:00-01:00";
    for (int i = 1; i < POLICY_RANGES; i++) snprintf(many + strlen(many), 14, "; 00:00-01:00");
    assert_int_equal(policy_hours_read(many, &h, &e), 0);
    snprintf(many + strlen(many), 14, "; 00:00-01:00");
    assert_int_equal(policy_hours_read(many, &h, &e), -1);
}

static void test_moments(void **state) {
    (void)state;
    struct policy_time t;
    char text[16];
    assert_int_equal(policy_time_read("Sun 23:05", &t), 0);
    assert_true(t.known && t.day == SUN && t.minute == 23 * 60 + 5);
    policy_time_text(&t, text);
    assert_string_equal(text, "Sun 23:05");
    assert_int_equal(policy_time_read("Sun 24:00", &t), -1);
    assert_int_equal(policy_time_read("Sun 23:05 ", &t), -1);
    assert_int_equal(policy_time_read("23:05", &t), -1);
    t.known = false;
    policy_time_text(&t, text);
    assert_string_equal(text, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ranges), cmocka_unit_test(test_over_midnight),
                                       cmocka_unit_test(test_every_minute), cmocka_unit_test(test_faults),
                                       cmocka_unit_test(test_moments)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

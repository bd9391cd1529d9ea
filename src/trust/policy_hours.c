#include "trust/policy_hours.h"

#include <stdio.h>
#include <string.h>

enum { DAYS = 7, ALL_DAYS = (1 << DAYS) - 1 };
static const char *const day_names[DAYS] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};

// Each of these takes what it knows from the front of *s.
static void skip_blanks(const char **s) { *s += strspn(*s, " "); }

static bool take(const char **s, char c) {
    if (**s != c) return false;
    ++*s;
    return true;
}

static int take_day(const char **s) {
    for (int d = 0; d < DAYS; d++)
        if (!strncmp(*s, day_names[d], 3)) {
            *s += 3;
            return d;
        }
    return -1;
}

static int take_two_digits(const char **s) {
    const char *t = *s;
    if (t[0] < '0' || t[0] > '9' || t[1] < '0' || t[1] > '9') return -1;
    *s += 2;
    return (t[0] - '0') * 10 + t[1] - '0';
}

static int take_time(const char **s) {
    int hour = take_two_digits(s), minute = hour >= 0 && take(s, ':') ? take_two_digits(s) : -1;
    if (hour < 0 || hour > 24 || minute < 0 || minute > 59 || (hour == 24 && minute)) return -1;
    return hour * 60 + minute;
}

static int take_days(const char **s, uint8_t *days) {
    *days = 0;
    do {
        int first = take_day(s), last = first;
        if (first < 0 || (take(s, '-') && (last = take_day(s)) < 0)) return -1;
        *days |= (uint8_t)(1 << last);
        for (int d = first; d != last; d = (d + 1) % DAYS) *days |= (uint8_t)(1 << d);
    } while (take(s, ','));
    return take(s, ' ') ? 0 : -1;
}

int policy_hours_read(const char *text, struct policy_hours *out, struct err *e) {
    const char *s = text;
    *out = (struct policy_hours){.n = 0};
    do {
        uint8_t days = ALL_DAYS;
        if (out->n == POLICY_RANGES) return err_set(e, ERR_LIMIT, "more than %d ranges of hours", POLICY_RANGES);
        skip_blanks(&s);
        if (*s > '9' && take_days(&s, &days)) break;
        skip_blanks(&s);
        int from = take_time(&s), to = from >= 0 && take(&s, '-') ? take_time(&s) : -1;
        if (from < 0 || from == POLICY_MINUTES || to < 0 || from == to) break;
        out->ranges[out->n].days = days;
        out->ranges[out->n].from = (uint16_t)from;
        out->ranges[out->n].to = (uint16_t)to;
        out->n++;
        skip_blanks(&s);
        if (!*s) return 0;
    } while (take(&s, ';'));
    return err_set(e, ERR_INVALID,
                   "hours are not like \"Mon-Fri 08:00-20:00; Sat,Sun 22:00-06:00\" from character %d on",
                   (int)(s - text) + 1);
}

bool policy_hours_has(const struct policy_hours *h, int day, int minute) {
    unsigned today = 1u << day, yesterday = 1u << (day + DAYS - 1) % DAYS;
    for (size_t i = 0; i < h->n; i++) {
        unsigned days = h->ranges[i].days;
        int from = h->ranges[i].from, to = h->ranges[i].to;
        if (days & today && minute >= from && (minute < to || to < from)) return true;
        if (days & yesterday && to < from && minute < to) return true;
    }
    return !h->n;
}

int policy_time_read(const char *text, struct policy_time *out) {
    const char *s = text;
    int day = take_day(&s), minute = day >= 0 && take(&s, ' ') ? take_time(&s) : -1;
    if (minute < 0 || minute == POLICY_MINUTES || *s) return -1;
    *out = (struct policy_time){.known = true, .day = day, .minute = minute};
    return 0;
}

void policy_time_text(const struct policy_time *t, char out[16]) {
    out[0] = 0;
    if (t->known) snprintf(out, 16, "%s %02d:%02d", day_names[t->day % DAYS], t->minute / 60 % 24, t->minute % 60);
}

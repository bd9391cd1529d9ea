#include "cli/when.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { AHEAD_MOST = 100000, TEXT_MOST = 16 };

static int day_of(const char *text, int64_t *out) {
    struct tm day = {.tm_mday = 0};
    const char *end = strptime(text, "%Y-%m-%d", &day);
    if (!end || *end || day.tm_year < 70) return -1;
    struct tm again = day;
    time_t t = timegm(&again);
    if (again.tm_mday != day.tm_mday) return -1; // the 31st of a shorter month
    *out = t;
    return 0;
}

static int span_of(const char *text, int64_t *out) {
    static const struct {
        char letter;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    char number[TEXT_MOST];
    size_t n = strlen(text);
    long count;
    if (n < 2 || n >= sizeof number) return -1;
    snprintf(number, sizeof number, "%.*s", (int)n - 1, text);
    if (text_parse_long(number, 1, AHEAD_MOST, &count)) return -1;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (units[i].letter == text[n - 1]) {
            *out = count * units[i].seconds;
            return 0;
        }
    return -1;
}

int when_parse(const char *text, int64_t now, int64_t *out, struct err *e) {
    int64_t span;
    if (!span_of(text, &span)) {
        *out = now + span;
        return 0;
    }
    if (!day_of(text, out)) return 0;
    return err_set(e, ERR_INVALID, "'%.40s' is no time: give 12h, 30d, 8w or a day as 2026-12-31", text);
}

const char *when_text(char out[WHEN_TEXT], int64_t when) {
    struct tm tm;
    time_t t = when;
    if (!gmtime_r(&t, &tm) || !strftime(out, WHEN_TEXT, "%Y-%m-%d %H:%MZ", &tm)) snprintf(out, WHEN_TEXT, "?");
    return out;
}

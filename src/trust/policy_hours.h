// The hours of a rule: "Mon-Fri 08:00-20:00; Sat,Sun 10:00-14:00". Ranges are separated by ';'. Days (default: all) are
// a list of days and of ranges of them, which may go over Sunday. The end is not part of a range; 24:00 is the end of a
// day. A range whose end is not after its beginning ends on the next day: "Fri 22:00-06:00" lasts until Saturday
// morning. Times are those that the clock on the wall shows, whatever the season: where the clock is put forward, the
// times that it leaves out do not come that day; where it is put back, those that it shows twice count twice. Pure
// functions. Threads: any.
#pragma once

#include "trust/policy.h"

enum { POLICY_RANGES = 16, POLICY_HOURS_TEXT = 512, POLICY_MINUTES = 24 * 60 };

struct policy_hours {
    size_t n; // 0: always
    struct {
        uint8_t days;      // bit 0 is Monday: those on which it begins
        uint16_t from, to; // minutes
    } ranges[POLICY_RANGES];
};

int policy_hours_read(const char *text, struct policy_hours *out, struct err *e) MUST_USE; // the fault, without a place
bool policy_hours_has(const struct policy_hours *h, int day, int minute);

// One moment, "Mon 09:30".
int policy_time_read(const char *text, struct policy_time *out) MUST_USE; // -1: it is none
void policy_time_text(const struct policy_time *t, char out[16]);         // "" where it is not known

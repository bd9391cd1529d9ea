// Moments as people write them. Pure. Threads: any.
#pragma once

#include "base/err.h"
#include <stdint.h>

// "90s", "45m", "12h", "30d", "2w" from now on, or a day "2026-12-31" (its beginning, UTC): seconds since 1970.
// ERR_INVALID.
int when_parse(const char *text, int64_t now, int64_t *out, struct err *e) MUST_USE;
// The day and time, UTC: "2026-12-31 08:00Z".
enum { WHEN_TEXT = 32 };
const char *when_text(char out[WHEN_TEXT], int64_t when);

// One chat template in one QuickJS runtime, with all its limits. Threads: any, one at a time.
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct template_js;

// Parses the source (valid UTF-8, copied) within limit_ms. now: what strftime_now shows; 0 = the clock. ERR_INVALID
// where it does not parse, ERR_LIMIT where that takes too much.
struct template_js *template_js_new(const char *source, size_t len, int64_t now, unsigned limit_ms,
                                    struct err *e) MUST_USE;
void template_js_free(struct template_js *t); // NULL-safe

// Renders with the members of `variables` as the template's variables and appends to out. After ERR_LIMIT the runtime
// is thrown away, and made again by the next call. `deadline` is on clock_mono_ns().
int template_js_render(struct template_js *t, const json_t *variables, uint64_t deadline, struct buf *out,
                       struct err *e) MUST_USE;

// The traces of the newest jobs that have ended. Threads: the event-loop thread.
#pragma once

#include "serve/call.h"
#include "serve/trace.h"

enum { TRACES_KEPT = 128 };

struct traces;
struct traces *traces_new(void); // NULL when out of memory
void traces_free(struct traces *t);
void traces_keep(struct traces *t, const struct trace *one);             // copied; the oldest one makes room
const struct trace *traces_find(const struct traces *t, const char *id); // the newest one for ""; NULL: none

void traces_show(const struct call *c); // GET /nebulus/v1/traces/ID

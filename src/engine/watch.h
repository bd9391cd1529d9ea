// How long a worker that has something to do may be silent. Such a one speaks twice a second (engine/worker/heart.h),
// whatever it computes, so that silence means that its process does not run. Pure: time is given.
//
// Looks are counted, not time: while the daemon itself is stopped, or the machine asleep, nobody looks. A look that
// comes late gives the worker a fresh deadline: it may have been kept from running, too.
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    WATCH_STOPPED = 3, // looks after which one that is known to be stopped by a signal is given up
    WATCH_SILENT = 20, // any other: a machine that swaps may keep a healthy one from running for seconds
};

struct watch {
    uint64_t due; // of the next look, clock_mono_ns
    int silent;   // looks in a row that found it silent
    bool heard;   // it has spoken since the last look
};

void watch_begin(struct watch *w, uint64_t now, uint64_t every); // from now on, a look `every` ns
void watch_heard(struct watch *w);

// A look. Returns whether the worker is to be given up.
bool watch_look(struct watch *w, uint64_t now, uint64_t every, bool stopped) MUST_USE;

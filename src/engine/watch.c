#include "engine/watch.h"

void watch_begin(struct watch *w, uint64_t now, uint64_t every) { *w = (struct watch){.due = now + every}; }

void watch_heard(struct watch *w) { w->heard = true; }

bool watch_look(struct watch *w, uint64_t now, uint64_t every, bool stopped) {
    bool late = now > w->due + every;
    w->silent = late || w->heard ? 0 : w->silent + 1;
    w->heard = false;
    w->due = now + every;
    return w->silent >= (stopped ? WATCH_STOPPED : WATCH_SILENT);
}

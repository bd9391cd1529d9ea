// The worker's sign of life. A thread of its own tells the daemon every HEART_MS, while there is anything to do, for
// how long each of the other two has been at the same thing and got no further ("pulse"). So neither a long template or
// prompt, nor a pass that takes minutes, looks like a process that does not run; and one of them that hangs is seen.
//
// That time is counted in beats: while the process does not run, it does not pass.
// Threads: start and stop belong to one; heart_reader to the one that reads the channel.
#pragma once

#include "engine/worker/activity.h"
#include "engine/worker/channel.h"
#include "engine/worker/queue.h"

enum { HEART_MS = 500 };

struct heart {
    struct activity control, compute;
    struct channel *channel; // borrowed, as the queue
    struct queue *queue;
    int beat_ms;
    int wake[2];        // a byte wakes it, the end ends it
    atomic_bool asleep; // there was nothing to do
    pthread_t thread;
};

// beat_ms: HEART_MS, or less in tests. The heart must not be moved from then on.
int heart_start(struct heart *h, struct channel *c, struct queue *q, int beat_ms, struct err *e) MUST_USE;
void heart_stop(struct heart *h); // waits for the end of a beat that the daemon does not read

// What struct channel calls as `waits`; heart: struct heart.
void heart_reader(void *heart, bool waits);

// For how long a thread has stood still, look by look.
struct stillness {
    unsigned steps; // when last looked at
    int64_t ms;
};
int64_t stillness_look(struct stillness *s, const struct activity *a, int64_t passed_ms);

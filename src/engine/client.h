// The daemon's handle on one worker process. Threads: the event-loop thread only; every callback runs there, never from
// inside the call that caused it.
//
// A worker may die at any time. The handle then fails the requests that it held (ERR_WORKER), and starts a new worker
// after a back-off (0.25 s, doubled up to 30 s; back to 0.25 s after a minute of health); requests that no worker has
// seen yet wait for the next one. A model that cannot be loaded (a "failed" message) is not tried again; one whose
// worker dies three times in a row while loading is given up too. A load that tells of no progress for five minutes is
// ended, which counts as such a death. A worker's whole process group goes with it.
#pragma once

#include "engine/protocol.h"
#include <event2/event.h>
#include <sys/types.h>

enum engine_state {
    ENGINE_LOADING, // progress is known
    ENGINE_READY,
    ENGINE_WAITING, // its worker died; a new one is started after the back-off
    ENGINE_FAILED,  // given up; the reason is in engine_status.why
};
const char *engine_state_name(enum engine_state s); // "loading", "ready", "restarting", "failed"

struct engine_status {
    enum engine_state state;
    double progress;           // 0..1 while loading
    struct err why;            // last death or failure; code ERR_NONE where there was none
    pid_t pid;                 // 0 where no worker runs
    int restarts;              // workers started after the first
    size_t requests;           // requests in flight
    struct worker_info info;   // valid once ENGINE_READY was reached
    struct worker_stats stats; // latest
};

struct engine;

// What one request hears, in this order: begin?, text*, then exactly one of end and fail. Afterwards the request is
// forgotten.
struct gen_events {
    void (*begin)(void *arg, const struct gen_begin *b);
    void (*text)(void *arg, const char *text, size_t len, int32_t tokens); // tokens so far; text may be empty
    void (*end)(void *arg, const struct gen_result *r);
    void (*fail)(void *arg, const struct err *why);
};

// Starts `program worker` and the load. `changed` (may be NULL) is called on every change of state or progress.
// Returns NULL only where no process can be started at all.
struct engine *engine_start(struct event_base *base, const char *program, const struct engine_options *o,
                            void (*changed)(void *arg), void *arg, struct err *e) MUST_USE;

// Ends the worker (SIGTERM, SIGKILL after 2 s), fails its requests with ERR_CANCELLED before it returns (the one
// exception to the rule above) and frees the handle; allowed from inside a callback. The event loop must run on until
// it has nothing left to wait for.
void engine_stop(struct engine *w); // NULL is fine

const struct engine_options *engine_options(const struct engine *w);
void engine_get_status(const struct engine *w, struct engine_status *out);

// Hands a request over (copied; the caller keeps r). While the model loads, requests wait in the handle. Fails at once
// with ERR_BUSY where queue + parallel are taken, ERR_WORKER where the engine is given up. *id is never 0.
int engine_submit(struct engine *w, const struct gen_request *r, const struct gen_events *ev, void *arg, uint64_t *id,
                  struct err *e) MUST_USE;

// For tests: shorter waits, in milliseconds. Takes effect with the next wait; a load's wait for progress starts anew.
struct engine_timing {
    long backoff_first, backoff_most, healthy, kill, stall;
};
void engine_set_timing(struct engine *w, const struct engine_timing *t);

// The caller has lost interest: no more callbacks for this id, and the worker stops computing it at once. Unknown ids
// are fine.
void engine_cancel(struct engine *w, uint64_t id);

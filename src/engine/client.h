// The daemon's handle on one worker process. Threads: the event-loop thread only; every callback runs there, never from
// inside the call that caused it.
//
// A worker may die at any time. The handle then fails the requests that it held (ERR_WORKER), and starts a new worker
// after a back-off (0.25 s, doubled up to 30 s; back to 0.25 s after a minute of health); requests that no worker has
// seen yet wait for the next one. A model that cannot be loaded (a "failed" message) is not tried again; one whose
// worker dies three times in a row while loading is given up too. A load that tells of no progress for five minutes is
// ended, which counts as such a death. A worker's whole process group goes with it.
//
// A worker that has requests and does nothing any more is ended, too, and its requests fail as if it had died: within
// 2 s where its process is stopped (SIGSTOP), after 10 s where it says nothing at all for another reason, and after
// five minutes in which it computed nothing of a step, or read one and the same request. Until then it may just be
// slow: of a pass on a GPU nothing is heard before its end. Time that the daemon itself was stopped does not count.
#pragma once

#include "engine/arena.h"
#include "engine/kept.h"
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
    size_t requests;           // requests in flight, without bare ones
    struct worker_info info;   // valid once ENGINE_READY was reached
    struct worker_stats stats; // latest
};

struct engine;

// What one request hears, in this order: begin?, text*, then exactly one of end and fail. Afterwards the request is
// forgotten. Of one that moves: rows, installed and paused come between begin and the end; all rows of a pause come
// before it, an `installed` before the text that follows from it, no text between `paused` and the next engine_go.
struct gen_events {
    void (*begin)(void *arg, const struct gen_begin *b);
    // tokens so far; text may be empty; token: the id of the newest one where show_tokens, else -1
    void (*text)(void *arg, const char *text, size_t len, int32_t tokens, int32_t token);
    void (*end)(void *arg, const struct gen_result *r);
    void (*fail)(void *arg, const struct err *why);
    // For sequences on their way to another worker, or from one; NULL where the request never is.
    void (*rows)(void *arg, const struct kv_rows *r);         // of an export, in a block that is the caller's now
    void (*installed)(void *arg, int32_t upto, int32_t slot); // all rows before position upto are in the cache
    void (*paused)(void *arg, int32_t tokens, int32_t past);  // after engine_pause, see there
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
const struct kept_marks *engine_kept(const struct engine *w); // what its worker keeps, as told latest; borrowed

// Hands a request over (copied; the caller keeps r). While the model loads, requests wait in the handle. Fails at once
// with ERR_BUSY where queue + parallel are taken, ERR_WORKER where the engine is given up. *id is never 0.
int engine_submit(struct engine *w, const struct gen_request *r, const struct gen_events *ev, void *arg, uint64_t *id,
                  struct err *e) MUST_USE;

// ---- sequences that move. Ids that are unknown (any more) are fine, as for engine_cancel; what goes wrong reaches
// fail.

// Starts a sequence that was submitted with `hold`, or one that is paused. `generated` (n tokens) are appended to the
// tokens it has; they count as generated, and their text is not told again. Where from >= 0 it waits until rows of all
// positions before `from` are installed; otherwise it begins at once and computes what its cache lacks. Where these
// tokens already end it (an end-of-text token, a stop string, the length), it ends at once. One that still waits for
// rows may be started again with n = 0 and from < 0: it waits no longer, and keeps what is installed (where it has
// begun meanwhile, this changes nothing). Rows of tokens that it does not have (the other worker had computed further)
// are as if they were not there. Any other start of one that runs makes it fail.
int engine_go(struct engine *w, uint64_t id, const int32_t *generated, int32_t n, int32_t from, struct err *e) MUST_USE;

// From now on the rows of this sequence are copied out, from position `first` on: those that are computed from now on
// while later layers still compute, earlier ones as soon as blocks are free. At most `credits` units are begun;
// engine_credit allows more. first < 0 ends the export. Where a state travels whole (KV_OPAQUE), `first` says nothing
// else, one credit is enough, and the state leaves once, after engine_pause, before `paused` is told.
int engine_export(struct engine *w, uint64_t id, int32_t first, int32_t credits, struct err *e) MUST_USE;
int engine_credit(struct engine *w, uint64_t id, int32_t units, struct err *e) MUST_USE;
// Blocks of rows that are done with. Those of another arena than engine_arena's (of a worker that has died) are fine.
// The rows of a request that is cancelled go back by themselves, except those that `rows` has told.
int engine_give_blocks(struct engine *w, const struct arena *a, const int32_t *blocks, int32_t n);

// Stops generating after the step that is being computed, and tells `paused` with the tokens generated and the rows
// computed (positions [0, past); the newest token's row is not) once all of those were copied out, or the export has
// ended. The sequence keeps its place until engine_go or engine_cancel.
int engine_pause(struct engine *w, uint64_t id, struct err *e) MUST_USE;

struct engine_unit {
    int32_t slot, first, count;
    bool coarse; // rows travelled in a coarser type than the cache's
};
// A unit lies complete in a slot of the arena: rows of positions [first, first + count) of a held or paused sequence,
// or one that waits for rows. They must follow what is installed already, else it fails; one that runs has no use for
// them any more. Where first is 0 and the model's state travels whole (KV_OPAQUE): a state of `count` bytes, which
// takes the place of all that was there. `installed` gives the slot back; one that is given to the arena earlier (the
// request was cancelled) is not taken anew before the worker is through with it.
int engine_install(struct engine *w, uint64_t id, const struct engine_unit *unit, struct err *e) MUST_USE;

// The memory shared with the worker that runs now, borrowed; NULL while there is none, or where the model's sequences
// cannot move (worker_info.kv_why says why).
struct arena *engine_arena(const struct engine *w);

// For tests: shorter waits, in milliseconds. Takes effect with the next wait; a load's wait for progress starts anew.
struct engine_timing {
    long backoff_first, backoff_most, healthy, kill, stall;
    long look; // between looks at a worker that has requests, see engine/watch.h
    long hang; // how long it may stand still at one thing
};
void engine_set_timing(struct engine *w, const struct engine_timing *t);

// The caller has lost interest: no more callbacks for this id, and the worker stops computing it at once. Unknown ids
// are fine.
void engine_cancel(struct engine *w, uint64_t id);

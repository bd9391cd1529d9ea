// A worker that runs but does nothing any more: noticed, and ended like one that has died.
#include "base/clock.h"
#include "engine/client_internal.h"
#include "engine/process.h"

#include <inttypes.h>
#include <signal.h>

static uint64_t look_ns(const struct engine *w) { return (uint64_t)w->timing.look * NS_PER_MS; }

static bool is_watched(const struct engine *w) { return w->state == ENGINE_READY && !TAILQ_EMPTY(&w->requests); }

void guard_begin(struct engine *w) {
    if (event_pending(w->look, EV_TIMEOUT, NULL)) return;
    watch_begin(&w->watch, clock_mono_ns(), look_ns(w));
    engine_schedule(w->look, w->timing.look);
}

// w->why says why. Its requests do not wait for the process's end: a process inside a driver may not even be killable.
static void give_up(struct engine *w) {
    struct err why = w->why;
    w->blamed = true;
    w->state = ENGINE_WAITING; // the next one is started when this one has ended
    process_signal(w->pid, SIGKILL);
    engine_fail_sent(w, &why);
}

void guard_on_look(evutil_socket_t fd, short what, void *arg) {
    struct engine *w = arg;
    (void)fd, (void)what;
    if (!is_watched(w)) return; // the next request begins it again
    bool stopped = process_is_stopped(w->pid);
    if (!watch_look(&w->watch, clock_mono_ns(), look_ns(w), stopped)) {
        engine_schedule(w->look, w->timing.look);
        return;
    }
    if (stopped)
        err_set(&w->why, ERR_WORKER, "the worker of '%s' was stopped by a signal (SIGSTOP) while it had requests",
                w->options.model_name);
    else
        err_set(&w->why, ERR_WORKER, "the worker of '%s' hangs: it has said nothing for %ld s", w->options.model_name,
                WATCH_SILENT * w->timing.look / 1000);
    give_up(w);
}

int guard_on_pulse(struct engine *w, const json_t *msg, struct err *e) {
    struct worker_pulse p;
    if (pulse_decode(msg, &p, e)) return -1;
    if (w->state != ENGINE_READY || (p.compute_ms < w->timing.hang && p.control_ms < w->timing.hang)) return 0;
    bool computing = p.compute_ms >= w->timing.hang;
    err_set(&w->why, ERR_WORKER, "the worker of '%s' hangs: %s for %" PRId64 " s", w->options.model_name,
            computing ? "it has computed nothing of a step" : "it has been reading one and the same request",
            (computing ? p.compute_ms : p.control_ms) / 1000);
    give_up(w);
    return 0;
}

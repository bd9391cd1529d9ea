#include "base/clock.h"
#include "base/env.h"
#include "base/json.h"
#include "base/log.h"
#include "engine/client_internal.h"
#include "engine/process.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEATHS_WHILE_LOADING = 3 };
static const struct engine_timing usual_timing = {.backoff_first = 250,
                                                  .backoff_most = 30000,
                                                  .healthy = 60000,
                                                  .kill = 2000,
                                                  .stall = 300000,
                                                  .look = 500,
                                                  .hang = 300000};

const char *engine_state_name(enum engine_state s) {
    static const char *const names[] = {"loading", "ready", "restarting", "failed"};
    return names[s];
}

static void tell_change(struct engine *w) {
    if (w->changed) w->changed(w->arg);
}

void engine_schedule(struct event *timer, long ms) {
    struct timeval t = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
    event_add(timer, &t);
}

// ---------------------------------------------------------------- requests
static void request_drop(struct engine *w, struct request *r) {
    TAILQ_REMOVE(&w->requests, r, next);
    w->n_requests -= !r->gone;
    w->waiting_bytes -= r->frame.len;
    move_request_close(w, r);
    buf_free(&r->frame);
    free(r);
}

// The requests being computed are the oldest ones: they are found within the first few.
static struct request *find_any(struct engine *w, uint64_t id) {
    struct request *r;
    TAILQ_FOREACH(r, &w->requests, next) {
        if (r->id == id) return r;
    }
    return NULL;
}

struct request *request_find(struct engine *w, uint64_t id) {
    struct request *r = find_any(w, id);
    return r && !r->gone ? r : NULL;
}

static void request_fail(struct engine *w, struct request *r, const struct err *why) {
    struct gen_events ev = r->ev;
    void *arg = r->arg;
    bool gone = r->gone;
    request_drop(w, r); // first: the callback may submit or cancel others
    if (!gone) ev.fail(arg, why);
}

static void fail_requests(struct engine *w, const struct err *why, bool only_sent) {
    struct request *r;
    while ((r = TAILQ_FIRST(&w->requests)) && (r->sent || !only_sent)) request_fail(w, r, why);
}

void engine_fail_sent(struct engine *w, const struct err *why) {
    fail_requests(w, why, true);
    tell_change(w);
}

static int request_send(struct engine *w, struct request *r) {
    size_t n = r->frame.len;
    if (link_send(w->link, &r->frame)) return -1;
    w->waiting_bytes -= n;
    r->sent = true;
    guard_begin(w);
    return 0;
}

// Takes msg over. A message lost for want of memory (a cancel, a question for figures) only costs the worker some time.
int engine_send(struct engine *w, json_t *msg) {
    struct buf frame;
    buf_init(&frame, LIMIT_IPC_TO_WORKER);
    int rc = msg && w->link && !frame_append(&frame, msg) ? link_send(w->link, &frame) : -1;
    buf_free(&frame);
    json_decref(msg);
    return rc;
}

// The worker tells its figures while it works: those of a worker at rest must be asked for. Not of one that does not
// read: any message of a liar may lead here.
static void ask_at_rest(struct engine *w) {
    if (!w->n_requests && w->link && !link_unsent(w->link)) engine_send(w, json_pack("{s:s}", "t", "stats"));
}

// ---------------------------------------------------------------- what the worker says
static int on_progress(struct engine *w, const json_t *msg, struct err *e) {
    if (w->state != ENGINE_LOADING) return err_set(e, ERR_INVALID, "progress after it was ready");
    if (json_get_real(msg, "f", 0, 1, &w->progress, e)) return -1;
    engine_schedule(w->stall, w->timing.stall);
    tell_change(w);
    return 0;
}

static int on_ready(struct engine *w, const json_t *msg, struct err *e) {
    if (w->state != ENGINE_LOADING) return err_set(e, ERR_INVALID, "ready twice");
    if (info_decode(msg, &w->info, e)) return -1;
    if (move_ready(w)) return err_set(e, ERR_INTERNAL, "out of memory");
    event_del(w->stall);
    w->state = ENGINE_READY;
    w->progress = 1;
    w->ready_since = clock_mono_ns();
    w->loading_deaths = 0;
    struct request *r;
    TAILQ_FOREACH(r, &w->requests, next) {
        if (!r->sent && request_send(w, r)) return err_set(e, ERR_INTERNAL, "out of memory");
    }
    tell_change(w);
    return 0;
}

static int on_failed(struct engine *w, const json_t *msg, struct err *e) {
    struct err why;
    if (w->state != ENGINE_LOADING) return err_set(e, ERR_INVALID, "failed to load after it was ready");
    if (error_decode(msg, &why, e)) return -1;
    event_del(w->stall);
    w->state = ENGINE_FAILED;
    w->why = why;
    w->blamed = true;
    engine_schedule(w->kill, w->timing.kill); // it should exit by itself
    struct err told;
    err_set(&told, ERR_WORKER, "the model '%s' cannot be loaded: %s", w->options.model_name, why.msg);
    fail_requests(w, &told, false);
    tell_change(w);
    return 0;
}

static int on_begin(struct engine *w, struct request *r, const json_t *msg, struct err *e) {
    struct gen_begin b;
    int32_t *tokens;
    (void)w;
    if (r->begun) return err_set(e, ERR_INVALID, "a request that has begun twice");
    if (begin_decode(msg, &b, &tokens, e)) return -1;
    r->begun = true;
    if (!r->gone) r->ev.begin(r->arg, &b);
    free(tokens);
    return 0;
}

static int on_end(struct engine *w, struct request *r, const json_t *msg, struct err *e) {
    struct gen_result result;
    if (result_decode(msg, &result, e)) return -1;
    struct gen_events ev = r->ev;
    void *arg = r->arg;
    bool gone = r->gone;
    request_drop(w, r);
    ask_at_rest(w);
    if (!gone) ev.end(arg, &result);
    return 0;
}

static int on_error(struct engine *w, struct request *r, const json_t *msg, struct err *e) {
    struct err why;
    if (error_decode(msg, &why, e)) return -1;
    request_fail(w, r, &why);
    return 0;
}

// One [id, "text", n] or [id, "text", n, token] of a "tokens" message.
static int on_token(struct engine *w, const json_t *item, struct err *e) {
    const json_t *id = json_array_get(item, 0), *text = json_array_get(item, 1), *n = json_array_get(item, 2);
    const json_t *newest = json_array_get(item, 3);
    json_int_t tokens = json_integer_value(n), token = newest ? json_integer_value(newest) : -1;
    if (!json_is_integer(id) || !json_is_string(text) || !json_is_integer(n) || tokens < 0 || tokens > INT32_MAX ||
        (newest && !json_is_integer(newest)) || token < -1 || token > INT32_MAX)
        return err_set(e, ERR_INVALID, "malformed tokens");
    struct request *r = request_find(w, (uint64_t)json_integer_value(id));
    if (r) r->ev.text(r->arg, json_string_value(text), json_string_length(text), (int32_t)tokens, (int32_t)token);
    return 0;
}

static int on_tokens(struct engine *w, const json_t *msg, struct err *e) {
    const json_t *item, *all = json_object_get(msg, "d");
    size_t i;
    if (!json_is_array(all)) return err_set(e, ERR_INVALID, "malformed tokens");
    json_array_foreach(all, i, item) {
        if (on_token(w, item, e)) return -1;
    }
    return 0;
}

static int on_stats(struct engine *w, const json_t *msg, struct err *e) { return stats_decode(msg, &w->stats, e); }

static int on_kept(struct engine *w, const json_t *msg, struct err *e) {
    return kept_decode(json_object_get(msg, "d"), &w->kept, e);
}

static int on_message(void *arg, const json_t *msg, struct err *e) {
    static const struct {
        const char *type;
        int (*whole)(struct engine *, const json_t *, struct err *);
        int (*of_request)(struct engine *, struct request *, const json_t *, struct err *);
    } handlers[] = {{"tokens", on_tokens, NULL},
                    {"begin", NULL, on_begin},
                    {"end", NULL, on_end},
                    {"stats", on_stats, NULL},
                    {"kept", on_kept, NULL},
                    {"error", NULL, on_error},
                    {"progress", on_progress, NULL},
                    {"ready", on_ready, NULL},
                    {"failed", on_failed, NULL},
                    {"rows", move_on_rows, NULL},
                    {"installed", NULL, move_on_installed},
                    {"paused", NULL, move_on_paused},
                    {"pulse", guard_on_pulse, NULL}};
    struct engine *w = arg;
    const char *type = json_string_value(json_object_get(msg, "t"));
    watch_heard(&w->watch);
    for (size_t i = 0; type && i < sizeof handlers / sizeof *handlers; i++) {
        if (strcmp(type, handlers[i].type)) continue;
        if (handlers[i].whole) return handlers[i].whole(w, msg, e);
        struct request *r = find_any(w, (uint64_t)json_integer_value(json_object_get(msg, "id")));
        if (r) return handlers[i].of_request(w, r, msg, e);
        ask_at_rest(w); // it was cancelled; this may be its end
        return 0;
    }
    return err_set(e, ERR_INVALID, "a message of no known type");
}

// ---------------------------------------------------------------- the process
static void on_closed(void *arg, const struct err *why) {
    struct engine *w = arg;
    link_free(w->link);
    w->link = NULL;
    if (!why) { // it is ending by itself, or had better
        engine_schedule(w->kill, w->timing.kill);
        return;
    }
    if (!w->blamed)
        err_set(&w->why, ERR_WORKER, "the worker of '%s' broke the protocol: %s", w->options.model_name, why->msg);
    w->blamed = true;
    process_signal(w->pid, SIGKILL);
}

// The socket to the new process; the process's end goes to *theirs, to be closed by the caller.
static int open_link(struct engine *w, int *theirs, struct err *e) {
    static const struct link_events events = {.message = on_message, .closed = on_closed};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return err_errno(e, "cannot make a socket for a worker");
    evutil_make_socket_closeonexec(pair[0]);
    evutil_make_socket_closeonexec(pair[1]);
    *theirs = pair[1];
    w->link = link_new(w->base, pair[0], &events, w, e);
    return w->link ? 0 : -1;
}

// ggml's CPU threads wait for each other in libgomp, which by default spins for milliseconds: on a machine that does
// anything else besides, most of the time goes there. A thousand turns (some 20 microseconds) cost nothing on an idle
// machine and made generating on 2 busy cores 7 times faster. libgomp reads its options while the program is loaded.
static const char *spin_setting(void) {
    return env_get("GOMP_SPINCOUNT") || env_get("OMP_WAIT_POLICY") ? NULL : "GOMP_SPINCOUNT=1000";
}

// What was shared with a process.
static void close_process(struct engine *w) {
    link_free(w->link);
    w->link = NULL;
    if (w->arena) arena_on_return(w->arena, NULL, NULL);
    arena_unref(w->arena);
    w->arena = NULL;
}

static void on_returned(void *arg, int32_t block) {
    struct engine *w = arg;
    if (engine_give_blocks(w, w->arena, &block, 1)) log_warn("a block of KV rows could not be given back");
}

static int start_process(struct engine *w, struct err *e) {
    int theirs = -1, rc = -1;
    const char *argv[] = {w->program, "worker", NULL};
    w->state = ENGINE_LOADING;
    w->progress = 0;
    w->blamed = false;
    if (open_link(w, &theirs, e)) goto out;
    struct err why;
    w->arena = arena_new(&why);
    if (!w->arena) log_warn("'%s' cannot send or receive KV rows: %s", w->options.model_name, why.msg);
    struct process_files files = {.third = theirs, .output = -1, .setting = spin_setting()};
    if (w->arena) {
        files.fourth = arena_fd(w->arena);
        arena_on_return(w->arena, on_returned, w);
    }
    if (process_start(&w->pid, argv, &files, e)) goto out;
    rc = 0;
    engine_schedule(w->stall, w->timing.stall);
    if (engine_send(w, load_encode(&w->options)))
        process_signal(w->pid, SIGKILL); // out of memory: tried again like any death
out:
    if (theirs >= 0) close(theirs);
    if (rc) {
        close_process(w);
        w->pid = 0;
    }
    return rc;
}

static void release(struct engine *w) {
    if (w->child) event_free(w->child);
    if (w->retry) event_free(w->retry);
    if (w->kill) event_free(w->kill);
    if (w->stall) event_free(w->stall);
    if (w->look) event_free(w->look);
    close_process(w);
    free(w);
}

// No process runs now, and w->why says why: try again later, or give up.
static void plan_restart(struct engine *w, bool was_loading) {
    struct err why = w->why;
    if (was_loading)
        w->loading_deaths++;
    else if (clock_mono_ns() - w->ready_since >= (uint64_t)w->timing.healthy * NS_PER_MS)
        w->backoff_ms = 0;
    bool give_up = w->loading_deaths >= DEATHS_WHILE_LOADING;
    w->state = give_up ? ENGINE_FAILED : ENGINE_WAITING;
    log_warn("%s; %s", why.msg, give_up ? "given up" : "starting another");
    if (!give_up) {
        w->backoff_ms = w->backoff_ms ? 2 * w->backoff_ms : w->timing.backoff_first;
        if (w->backoff_ms > w->timing.backoff_most) w->backoff_ms = w->timing.backoff_most;
        engine_schedule(w->retry, w->backoff_ms);
    }
    fail_requests(w, &why, !give_up);
    tell_change(w);
}

static void process_ended(struct engine *w, int status) {
    char how[64];
    w->pid = 0; // first: it is reaped, and must not be signalled any more
    if (w->link) link_drain(w->link);
    close_process(w);
    w->stats = (struct worker_stats){0};
    w->kept.n = 0;
    event_del(w->kill);
    event_del(w->stall);
    event_del(w->look);
    if (w->stopped) {
        release(w);
        return;
    }
    if (w->state == ENGINE_FAILED) {
        tell_change(w); // its pid
        return;
    }
    bool was_loading = w->state == ENGINE_LOADING;
    process_how_ended(status, how, sizeof how);
    if (!w->blamed)
        err_set(&w->why, ERR_WORKER, "the worker of '%s' %s%s", w->options.model_name, how,
                was_loading ? " while loading" : "");
    plan_restart(w, was_loading);
}

static void on_child(evutil_socket_t sig, short what, void *arg) {
    struct engine *w = arg;
    siginfo_t info = {.si_pid = 0};
    int status = 0;
    (void)sig, (void)what;
    if (!w->pid || waitid(P_PID, (id_t)w->pid, &info, WEXITED | WNOHANG | WNOWAIT) || !info.si_pid) return;
    process_signal(w->pid, SIGKILL); // whatever it has left behind, while the pid is still its own
    if (waitpid(w->pid, &status, WNOHANG) == w->pid) process_ended(w, status);
}

static void on_kill(evutil_socket_t fd, short what, void *arg) {
    struct engine *w = arg;
    (void)fd, (void)what;
    process_signal(w->pid, SIGKILL);
}

static void on_stall(evutil_socket_t fd, short what, void *arg) {
    struct engine *w = arg;
    (void)fd, (void)what;
    if (!w->pid) return;
    if (!w->blamed)
        err_set(&w->why, ERR_WORKER, "the worker of '%s' made no progress in loading for %ld s", w->options.model_name,
                w->timing.stall / 1000);
    w->blamed = true;
    process_signal(w->pid, SIGKILL);
}

static void on_retry(evutil_socket_t fd, short what, void *arg) {
    struct engine *w = arg;
    (void)fd, (void)what;
    if (w->stopped) {
        release(w);
        return;
    }
    w->restarts++;
    if (start_process(w, &w->why))
        plan_restart(w, true);
    else
        tell_change(w);
}

// ---------------------------------------------------------------- the handle
struct engine *engine_start(struct event_base *base, const char *program, const struct engine_options *o,
                            void (*changed)(void *arg), void *arg, struct err *e) {
    struct engine *w = calloc(1, sizeof *w);
    if (!w) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *w = (struct engine){.base = base, .options = *o, .timing = usual_timing, .changed = changed, .arg = arg};
    TAILQ_INIT(&w->requests);
    snprintf(w->program, sizeof w->program, "%s", program);
    w->child = evsignal_new(base, SIGCHLD, on_child, w); // every engine has one; each waits for its own process only
    w->retry = evtimer_new(base, on_retry, w);
    w->kill = evtimer_new(base, on_kill, w);
    w->stall = evtimer_new(base, on_stall, w);
    w->look = evtimer_new(base, guard_on_look, w);
    if (!w->child || !w->retry || !w->kill || !w->stall || !w->look || event_add(w->child, NULL)) {
        err_set(e, ERR_INTERNAL, "out of memory");
        release(w);
        return NULL;
    }
    if (start_process(w, e)) {
        release(w);
        return NULL;
    }
    return w;
}

void engine_stop(struct engine *w) {
    struct err why;
    if (!w) return;
    w->stopped = true;
    w->changed = NULL;
    event_del(w->retry);
    event_del(w->stall);
    event_del(w->look);
    if (w->pid) {
        process_signal(w->pid, SIGTERM);
        engine_schedule(w->kill, w->timing.kill);
    }
    link_free(w->link); // the worker sees that the daemon is through with it
    w->link = NULL;
    err_set(&why, ERR_CANCELLED, "the model '%s' was stopped", w->options.model_name);
    fail_requests(w, &why, false);
    if (!w->pid) engine_schedule(w->retry, 0); // not here: this may be one of its own callbacks
}

void engine_set_timing(struct engine *w, const struct engine_timing *t) {
    w->timing = *t;
    if (w->state == ENGINE_LOADING && w->pid) engine_schedule(w->stall, w->timing.stall);
}

const struct engine_options *engine_options(const struct engine *w) { return &w->options; }

static size_t bare_requests(const struct engine *w) {
    const struct request *r;
    size_t n = 0;
    TAILQ_FOREACH(r, &w->requests, next) n += r->bare && !r->gone;
    return n;
}

const struct kept_marks *engine_kept(const struct engine *w) { return &w->kept; }

void engine_get_status(const struct engine *w, struct engine_status *out) {
    *out = (struct engine_status){.state = w->state,
                                  .progress = w->progress,
                                  .why = w->why,
                                  .pid = w->pid,
                                  .restarts = w->restarts,
                                  .requests = w->n_requests - bare_requests(w),
                                  .info = w->info,
                                  .stats = w->stats};
}

static size_t most_requests(const struct engine *w) {
    long parallel = w->options.parallel;
    if (w->info.parallel > 0 && w->info.parallel <= (int32_t)LIMIT_PARALLEL) parallel = w->info.parallel;
    return (size_t)parallel + (size_t)w->options.queue;
}

static struct request *request_new(uint64_t id, const struct gen_request *r, const struct gen_events *ev, void *arg,
                                   struct err *e) {
    struct request *new = calloc(1, sizeof *new);
    json_t *msg = gen_encode(id, r);
    if (new) {
        *new = (struct request){.id = id, .ev = *ev, .arg = arg, .bare = r->bare};
        buf_init(&new->frame, LIMIT_IPC_TO_WORKER);
    }
    if (!new || !msg)
        err_set(e, ERR_INTERNAL, "out of memory");
    else if (!frame_append(&new->frame, msg)) {
        json_decref(msg);
        return new;
    } else
        err_set(e, ERR_LIMIT, "the request is larger than %u bytes", LIMIT_IPC_TO_WORKER);
    json_decref(msg);
    if (new) buf_free(&new->frame);
    free(new);
    return NULL;
}

int engine_submit(struct engine *w, const struct gen_request *r, const struct gen_events *ev, void *arg, uint64_t *id,
                  struct err *e) {
    if (w->state == ENGINE_FAILED || w->stopped)
        return err_set(e, ERR_WORKER, "the model '%s' is not available: %s", w->options.model_name,
                       w->why.code ? w->why.msg : "it was stopped");
    if (w->n_requests >= most_requests(w))
        return err_set(e, ERR_BUSY, "'%s' already has %zu requests: try again later", w->options.model_name,
                       w->n_requests);
    if (w->waiting_bytes + (w->link ? link_unsent(w->link) : 0) > LIMIT_IPC_BACKLOG)
        return err_set(e, ERR_BUSY, "the requests that wait for '%s' take too much memory: try again later",
                       w->options.model_name);
    struct request *new = request_new(w->last_id + 1, r, ev, arg, e);
    if (!new) return -1;
    *id = ++w->last_id;
    TAILQ_INSERT_TAIL(&w->requests, new, next);
    w->n_requests++;
    w->waiting_bytes += new->frame.len;
    if (w->state == ENGINE_READY && w->link && request_send(w, new)) {
        request_drop(w, new);
        return err_set(e, ERR_INTERNAL, "out of memory");
    }
    return 0;
}

void engine_cancel(struct engine *w, uint64_t id) {
    struct request *r = request_find(w, id);
    if (!r) return;
    if (r->sent) engine_send(w, json_pack("{s:s, s:I}", "t", "cancel", "id", (json_int_t)id));
    if (!r->n_slots) {
        request_drop(w, r);
        return;
    }
    r->gone = true;
    w->n_requests--;
}

// The parts of the handle: client.c (the process and its requests), client_move.c (sequences that move),
// client_guard.c (a worker that hangs).
#pragma once

#include "engine/client.h"
#include "engine/link.h"
#include "engine/watch.h"
#include <sys/queue.h>

struct request {
    TAILQ_ENTRY(request) next;
    uint64_t id;
    struct gen_events ev;
    void *arg;
    struct buf frame; // the encoded message, until a worker gets it
    bool sent, begun;
    bool bare;      // see gen_request
    bool gone;      // cancelled, but its worker may still read slots: kept until its end, no callbacks any more
    int32_t *slots; // given to the worker to be installed
    int32_t n_slots, room;
};
TAILQ_HEAD(request_list, request);

struct engine {
    struct event_base *base;
    char program[PATH_SIZE];
    struct engine_options options;
    struct engine_timing timing;
    void (*changed)(void *arg);
    void *arg;
    enum engine_state state;
    double progress;
    struct err why;
    struct worker_info info;
    struct worker_stats stats;
    struct kept_marks kept;
    pid_t pid; // 0 = no process
    struct link *link;
    struct arena *arena; // shared with the process, sized only where rows can travel; NULL = none
    struct event *child;
    struct event *retry; // end of the back-off (or, once stopped, of this handle)
    struct event *kill;  // end of the patience with a process that should exit
    struct event *stall; // a load has not advanced for too long
    struct event *look;  // at a worker that has requests
    struct watch watch;
    bool blamed; // `why` already says how this process failed
    int restarts, loading_deaths;
    long backoff_ms;
    uint64_t ready_since;
    struct request_list requests; // in order of submission: those that were sent come first
    size_t n_requests, waiting_bytes;
    uint64_t last_id;
    bool stopped;
};

// ---- client.c
struct request *request_find(struct engine *w, uint64_t id); // NULL: unknown, or gone
int engine_send(struct engine *w, json_t *msg);              // takes msg over; -1: it is lost

void engine_schedule(struct event *timer, long ms);
// The state is another one now: tells that, and fails the requests that a worker has seen.
void engine_fail_sent(struct engine *w, const struct err *why);

// ---- client_guard.c
void guard_begin(struct engine *w); // the worker has a request now
void guard_on_look(evutil_socket_t fd, short what, void *arg);
int guard_on_pulse(struct engine *w, const json_t *msg, struct err *e) MUST_USE;

// ---- client_move.c
void move_request_close(struct engine *w, struct request *r); // its slots are free again
int move_ready(struct engine *w); // sizes the memory and tells the worker; -1: out of memory
// What the worker says of a sequence: "rows" may be of an unknown one, whose blocks go back at once.
int move_on_rows(struct engine *w, const json_t *msg, struct err *e) MUST_USE;
int move_on_installed(struct engine *w, struct request *r, const json_t *msg, struct err *e) MUST_USE;
int move_on_paused(struct engine *w, struct request *r, const json_t *msg, struct err *e) MUST_USE;

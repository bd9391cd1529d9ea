#include "cluster/resolve.h"
#include "base/limits.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct question { // shared with its thread, which may outlive the handle; the last one frees it
    atomic_int owners;
    char host[256], port[8];
    struct addrinfo *found; // with `fault`: the thread's until `answered`, then the loop's
    int fault;
    atomic_bool answered;
    int fd; // the thread's end of the pipe, which it closes: that wakes the loop
};

struct resolve {
    struct question *q;
    struct event *answered;
    int fd;
    resolve_done *done;
    void *arg;
};

static atomic_uint waiting; // threads

static void question_release(struct question *q) {
    if (atomic_fetch_sub(&q->owners, 1) > 1) return;
    if (q->found) freeaddrinfo(q->found);
    free(q);
}

static void ask(struct question *q, int flags) {
    struct addrinfo want = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG | flags};
    if (flags & AI_NUMERICHOST) want.ai_flags &= ~AI_ADDRCONFIG;
    q->fault = getaddrinfo(q->host, q->port, &want, &q->found);
    if (q->fault) q->found = NULL;
}

static void *ask_on_thread(void *arg) {
    struct question *q = arg;
    ask(q, 0);
    atomic_store(&q->answered, true);
    close(q->fd);
    question_release(q);
    atomic_fetch_sub(&waiting, 1);
    return NULL;
}

void resolve_cancel(struct resolve *r) {
    if (!r) return;
    if (r->answered) event_free(r->answered);
    if (r->fd >= 0) close(r->fd);
    if (r->q) question_release(r->q);
    free(r);
}

static void on_answer(evutil_socket_t fd, short what, void *arg) {
    struct resolve *r = arg;
    struct err why = {.code = ERR_NONE};
    (void)fd, (void)what;
    if (!atomic_load(&r->q->answered)) return; // woken for nothing
    if (r->q->fault)
        err_set(&why, ERR_UNREACHABLE, "the name %s is not known: %s", r->q->host, gai_strerror(r->q->fault));
    r->done(r->arg, why.code ? NULL : r->q->found, &why);
    resolve_cancel(r);
}

// Signals are the event loop's.
static int start_thread(struct question *q, struct err *e) {
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    atomic_fetch_add(&waiting, 1);
    atomic_fetch_add(&q->owners, 1);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int fault = pthread_create(&thread, NULL, ask_on_thread, q);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!fault) {
        pthread_detach(thread);
        return 0;
    }
    atomic_fetch_sub(&waiting, 1);
    atomic_fetch_sub(&q->owners, 1);
    close(q->fd);
    return err_set(e, ERR_INTERNAL, "cannot look up %s: no thread can be started", q->host);
}

static int ask_elsewhere(struct resolve *r, struct event_base *base, struct err *e) {
    int fds[2];
    if (atomic_load(&waiting) >= LIMIT_PEER_LOOKUPS)
        return err_set(e, ERR_BUSY, "%u names are being looked up already", LIMIT_PEER_LOOKUPS);
    if (pipe(fds)) return err_errno(e, "cannot look up %s", r->q->host);
    r->fd = fds[0];
    r->q->fd = fds[1];
    r->answered = event_new(base, r->fd, EV_READ | EV_PERSIST, on_answer, r);
    if (!evutil_make_socket_closeonexec(fds[0]) && !evutil_make_socket_closeonexec(fds[1]) && r->answered &&
        !event_add(r->answered, NULL))
        return start_thread(r->q, e);
    close(fds[1]);
    return err_set(e, ERR_INTERNAL, "out of memory");
}

// Numeric, and known at once: told from the loop all the same.
static int tell_soon(struct resolve *r, struct event_base *base, struct err *e) {
    r->answered = event_new(base, -1, 0, on_answer, r);
    if (!r->answered) return err_set(e, ERR_INTERNAL, "out of memory");
    atomic_store(&r->q->answered, true);
    event_active(r->answered, EV_TIMEOUT, 0);
    return 0;
}

struct resolve *resolve_start(struct event_base *base, const char *host, uint16_t port, resolve_done *done, void *arg,
                              struct err *e) {
    struct resolve *r = calloc(1, sizeof *r);
    struct question *q = calloc(1, sizeof *q);
    if (!r || !q) {
        err_set(e, ERR_INTERNAL, "out of memory");
        free(r);
        free(q);
        return NULL;
    }
    atomic_init(&q->owners, 1);
    *r = (struct resolve){.q = q, .fd = -1, .done = done, .arg = arg};
    snprintf(q->host, sizeof q->host, "%s", host);
    snprintf(q->port, sizeof q->port, "%u", port);
    ask(q, AI_NUMERICHOST);
    if (q->fault ? ask_elsewhere(r, base, e) : tell_soon(r, base, e)) {
        resolve_cancel(r);
        return NULL;
    }
    return r;
}

// The transfers as a whole: their life, the way back to the event loop, connections that come and go.
#include "cluster/transfer_internal.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// ---------------------------------------------------------------- from the threads to the loop
void transfers_wake_held(struct transfers *t) {
    if (t->awake) return;
    t->awake = write(t->wake[1], "", 1) == 1; // an empty pipe takes a byte
}

static void on_wake(evutil_socket_t fd, short what, void *arg) {
    struct transfers *t = arg;
    char byte;
    (void)what;
    pthread_mutex_lock(&t->lock);
    while (read(fd, &byte, 1) > 0) continue;
    t->awake = false;
    pthread_mutex_unlock(&t->lock);
    // Only this function takes things out of these lists, and only the one that it is at.
    for (struct inflow *f = t->inflows, *next; f; f = next) {
        next = f->next;
        inflow_settle(f);
    }
    for (struct outflow *f = t->outflows, *next; f; f = next) {
        next = f->next;
        outflow_settle(f);
    }
    for (struct link *l = t->links, *next; l; l = next) {
        next = l->next;
        outlet_settle(l);
    }
    for (struct burst *p = t->bursts, *next; p; p = next) {
        next = p->next;
        burst_settle(p);
    }
    for (struct sink *s = t->sinks, *next; s; s = next) {
        next = s->next;
        sink_settle(s);
    }
    for (size_t i = 0; i < LIMIT_KV_CONNECTIONS; i++)
        if (t->inlets[i]) inlet_settle(t->inlets[i]);
}

int transfers_thread(pthread_t *thread, void *(*run)(void *), void *arg, struct err *e) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc ? err_set(e, ERR_INTERNAL, "cannot start a thread: %s", strerror(rc)) : 0;
}

int transfers_room(uint8_t **room, size_t *size, size_t n, struct err *e) {
    if (n <= *size) return 0;
    uint8_t *more = n <= LIMIT_KV_FRAME ? realloc(*room, n) : NULL;
    if (!more) return err_set(e, ERR_INTERNAL, "no memory for %zu bytes of rows", n);
    *room = more;
    *size = n;
    return 0;
}

// ---------------------------------------------------------------- life
static int open_pipe(struct transfers *t, struct event_base *base, struct err *e) {
    if (pipe(t->wake)) return err_errno(e, "cannot make a pipe");
    for (int i = 0; i < 2; i++)
        if (fcntl(t->wake[i], F_SETFD, FD_CLOEXEC) || fcntl(t->wake[i], F_SETFL, O_NONBLOCK))
            return err_errno(e, "cannot set up a pipe");
    t->woken = event_new(base, t->wake[0], EV_READ | EV_PERSIST, on_wake, t);
    if (t->woken && !event_add(t->woken, NULL)) return 0;
    return err_set(e, ERR_INTERNAL, "out of memory");
}

struct transfers *transfers_new(struct event_base *base, struct tls *tls, const struct transfers_options *o,
                                struct err *e) {
    struct transfers *t = calloc(1, sizeof *t);
    if (!t || pthread_mutex_init(&t->lock, NULL)) {
        free(t);
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    t->tls = tls;
    t->o = *o;
    if (t->o.connections < 1) t->o.connections = 1;
    if (t->o.connections > WIRES) t->o.connections = WIRES;
    if (!t->o.frame_ms) t->o.frame_ms = LIMIT_KV_STALL_SECONDS * 1000;
    t->wake[0] = t->wake[1] = -1;
    if (!open_pipe(t, base, e)) return t;
    transfers_free(t);
    return NULL;
}

void transfers_free(struct transfers *t) {
    static const struct err ended = {.code = ERR_CANCELLED, .msg = "this node ends"};
    if (!t) return;
    pthread_mutex_lock(&t->lock);
    for (struct inflow *f = t->inflows; f; f = f->next) f->closed = true;
    for (struct outflow *f = t->outflows; f; f = f->next) f->closed = true;
    for (struct link *l = t->links; l; l = l->next) outlet_break_held(l, &ended);
    for (size_t i = 0; i < LIMIT_KV_CONNECTIONS; i++)
        if (t->inlets[i]) shutdown(t->inlets[i]->fd, SHUT_RDWR);
    pthread_mutex_unlock(&t->lock);
    while (t->links) outlet_free(t->links);
    for (size_t i = 0; i < LIMIT_KV_CONNECTIONS; i++)
        if (t->inlets[i]) inlet_free(t->inlets[i]);
    while (t->outflows) outflow_free(t->outflows);
    while (t->inflows) inflow_free(t->inflows);
    while (t->bursts) burst_free(t->bursts);
    while (t->sinks) sink_free(t->sinks);
    if (t->woken) event_free(t->woken);
    for (int i = 0; i < 2; i++)
        if (t->wake[i] >= 0) close(t->wake[i]);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void transfers_drop(struct transfers *t, const char *node) {
    static const struct err left = {.code = ERR_UNREACHABLE, .msg = "the other node cannot be reached any more"};
    pthread_mutex_lock(&t->lock);
    for (struct link *l = t->links; l; l = l->next)
        if (!strcmp(l->node, node)) outlet_break_held(l, &left);
    for (size_t i = 0; i < LIMIT_KV_CONNECTIONS; i++)
        if (t->inlets[i] && !strcmp(t->inlets[i]->node, node)) shutdown(t->inlets[i]->fd, SHUT_RDWR);
    inflow_left_held(t, node, &left);
    sink_left_held(t, node, &left);
    pthread_mutex_unlock(&t->lock);
}

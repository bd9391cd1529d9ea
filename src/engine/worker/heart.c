#include "engine/worker/heart.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

int64_t stillness_look(struct stillness *s, const struct activity *a, int64_t passed_ms) {
    bool busy = atomic_load(&a->busy);
    unsigned steps = atomic_load(&a->steps);
    s->ms = busy && steps == s->steps ? s->ms + passed_ms : 0;
    s->steps = steps;
    return s->ms;
}

static bool has_work(struct heart *h) {
    return atomic_load(&h->control.busy) || atomic_load(&h->compute.busy) || queue_length(h->queue) > 0;
}

// Whether there is something to do; where there is not, the next message wakes it.
static bool look_around(struct heart *h) {
    if (has_work(h)) return true;
    atomic_store(&h->asleep, true);
    if (!has_work(h)) return false; // asked after `asleep` was set: what begins from now on wakes it
    atomic_store(&h->asleep, false);
    return true;
}

void heart_reader(void *heart, bool waits) {
    struct heart *h = heart;
    if (waits) {
        activity_rest(&h->control);
        return;
    }
    activity_begin(&h->control);
    if (!atomic_exchange(&h->asleep, false)) return;
    while (write(h->wake[1], "", 1) < 0 && errno == EINTR) continue;
}

// Waits for one beat, or without work for the next message. 1: it is time; 0: look again; -1: the end.
static int wait_for_beat(struct heart *h, bool working) {
    struct pollfd p = {.fd = h->wake[0], .events = POLLIN};
    char byte;
    int rc = poll(&p, 1, working ? h->beat_ms : -1);
    if (rc < 0) return errno == EINTR ? 0 : -1;
    if (!rc) return 1;
    return read(h->wake[0], &byte, 1) == 1 ? 0 : -1;
}

static void *run(void *arg) {
    struct heart *h = arg;
    struct stillness control = {.ms = 0}, compute = {.ms = 0};
    for (;;) {
        bool working = look_around(h);
        int rc = wait_for_beat(h, working);
        if (rc < 0) return NULL;
        if (!rc) continue;
        struct worker_pulse p = {stillness_look(&control, &h->control, h->beat_ms),
                                 stillness_look(&compute, &h->compute, h->beat_ms)};
        if (channel_send(h->channel, pulse_encode(&p))) return NULL; // the daemon has gone
    }
}

int heart_start(struct heart *h, struct channel *c, struct queue *q, int beat_ms, struct err *e) {
    memset(h, 0, sizeof *h);
    h->channel = c;
    h->queue = q;
    h->beat_ms = beat_ms;
    if (pipe(h->wake)) return err_errno(e, "cannot make a pipe");
    fcntl(h->wake[0], F_SETFD, FD_CLOEXEC);
    fcntl(h->wake[1], F_SETFD, FD_CLOEXEC);
    int rc = pthread_create(&h->thread, NULL, run, h);
    if (!rc) return 0;
    close(h->wake[0]);
    close(h->wake[1]);
    return err_set(e, ERR_INTERNAL, "cannot start a thread: %s", strerror(rc));
}

void heart_stop(struct heart *h) {
    close(h->wake[1]);
    pthread_join(h->thread, NULL);
    close(h->wake[0]);
}

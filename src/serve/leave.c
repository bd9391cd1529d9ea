// Leaving: the peers are told as far as they can be reached, then the membership is forgotten.
#include "base/log.h"
#include "serve/cluster_internal.h"

#include <stdlib.h>

enum { POLL_MS = 100, TRIED_MS = 3000 };

struct leaving {
    struct cluster *c;
    struct call call;
    struct event *timer;
    uint64_t begun_ns;
    char cluster[ROSTER_NAME];
    bool told;
};

static void leaving_free(struct leaving *l) {
    l->c->leaving = NULL;
    if (l->timer) event_free(l->timer);
    free(l);
}

// A daemon that was started for this call must first find its peers.
static bool all_tried(const struct cluster *c) {
    for (const struct peer *p = peers_next(c->peers, NULL); p; p = peers_next(c->peers, p))
        if (!p->up && p->why.code == ERR_NONE && p->address[0]) return false;
    return true;
}

static void go(struct cluster *c) {
    gossip_left(c);
    log_info("this node leaves cluster '%s'", c->roster->cluster);
    membership_end(c);
}

static bool again_in(struct leaving *l, long ms) {
    struct timeval t = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    return !event_add(l->timer, &t);
}

static void step(struct leaving *l) {
    struct cluster *c = l->c;
    bool waiting = !l->told && c->roster && clock_mono_ns() - l->begun_ns < TRIED_MS * NS_PER_MS && !all_tried(c);
    if (waiting && again_in(l, POLL_MS)) return;
    if (!l->told && c->roster) {
        l->told = true;
        go(c);
        if (again_in(l, CLUSTER_PARTING_MS + POLL_MS)) return;
    }
    const struct call call = l->call;
    json_t *v = json_pack("{s:i, s:s}", "v", 1, "left", l->cluster);
    leaving_free(l);
    call_answer(&call, v);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    step(arg);
}

static void on_client_left(void *arg) {
    struct leaving *l = arg;
    struct cluster *c = l->c;
    bool told = l->told;
    leaving_free(l);
    if (!told && c->roster) go(c); // what was asked for is done all the same
}

void leave_end(struct cluster *c) {
    if (c->leaving) leaving_free(c->leaving); // its exchange is gone
}

void leave_start(const struct call *call) {
    struct cluster *c = call->s->cluster;
    struct err why = {.code = ERR_NONE};
    struct leaving *l = NULL;
    if (c->leaving)
        err_set(&why, ERR_BUSY, "this node is leaving already");
    else if (!membership_check(c, &why) && !(l = calloc(1, sizeof *l)))
        err_set(&why, ERR_INTERNAL, "out of memory");
    if (l) {
        *l = (struct leaving){.c = c, .call = *call, .begun_ns = clock_mono_ns()};
        snprintf(l->cluster, sizeof l->cluster, "%s", c->roster->cluster);
        c->leaving = l;
        if (!(l->timer = event_new(c->s->base, -1, 0, on_timer, l))) {
            err_set(&why, ERR_INTERNAL, "out of memory");
            leaving_free(l);
        }
    }
    if (why.code) {
        call_fail(call, &why);
        return;
    }
    http_on_close(call->x, on_client_left, l);
    step(l);
}

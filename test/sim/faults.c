// What goes wrong: workers and nodes die, stand still, lose their connections.
#include "place.h"

#include <stdlib.h>

enum { MS = 1000, SILENT_MS = 1800, FOREVER_PERCENT = 30 };

struct notice { // of a connection that broke
    struct cluster *of;
    int place;
    uint64_t epoch; // of the connection that came after
};

static void at_notice(struct cluster *c, int place, uint64_t delay, const uint64_t *frozen, event_fn *run) {
    struct notice *n = must_alloc(sizeof *n);
    *n = (struct notice){.of = c, .place = place, .epoch = c->orders[place].epoch};
    world_at(&c->w, delay, frozen, run, NULL, n);
}

static bool is_latest(const struct notice *n) { return n->of->orders[n->place].epoch == n->epoch; }

// ---------------------------------------------------------------- a worker
static void load(void *place, void *msg) {
    struct place *p = place;
    (void)msg;
    if (!p->up || p->loaded) return;
    p->loaded = true;
    place_admit(p);
}

void fault_cold(struct cluster *c, int place, uint64_t us) {
    struct place *p = &c->places[place];
    p->loaded = false;
    world_at(&c->w, us, &p->frozen, load, p, NULL);
}

static void end_worker(struct place *p) {
    p->life++;
    p->stepping = p->loaded = false;
}

void fault_crash(struct cluster *c, int place) {
    struct place *p = &c->places[place];
    if (!p->loaded || p->frozen > c->w.now) return;
    world_trace(&c->w, "CRASH of the worker at place %d", place);
    p->well_since = c->w.now;
    end_worker(p);
    for (int i = 0; i < SEQUENCES; i++) {
        struct seq *s = &p->seqs[i];
        if (s->state <= SEQ_QUEUED) continue;
        struct news n = {.kind = NEWS_FAILED, .sequence = s->open.sequence};
        err_set(&n.why, ERR_WORKER, "the worker died");
        place_tell(p, &n);
        place_release(p, s);
    }
    world_at(&c->w, world_between(&c->w, 50, 600) * MS, &p->frozen, load, p, NULL);
}

// ---------------------------------------------------------------- connections
static void lose_at_gateway(void *self, void *msg) {
    struct notice *n = msg;
    (void)self;
    if (!is_latest(n)) return;
    n->of->places[n->place].well_since = n->of->w.now;
    n->of->lost(n->of->arg, n->place);
}

// The leases of a gateway that is not heard any more end.
static void lose_at_place(void *self, void *msg) {
    struct notice *n = msg;
    struct place *p = &n->of->places[n->place];
    (void)self;
    for (int i = 0; i < SEQUENCES; i++)
        if (p->seqs[i].state != SEQ_NONE && p->seqs[i].link < n->epoch) place_release(p, &p->seqs[i]);
}

static void reconnect(void *self, void *msg) {
    struct notice *n = msg;
    struct place *p = &n->of->places[n->place];
    (void)self;
    if (!is_latest(n)) return;
    p->up = true;
    load(p, NULL);
    n->of->orders[n->place].up = n->of->news[n->place].up = true;
    for (int other = 0; other < n->of->n; other++)
        for (int i = 0; i < DATA_LINKS; i++) {
            bool both = n->of->places[other].up;
            n->of->data[n->place][other][i].up = n->of->data[other][n->place][i].up = both;
            n->of->peers[n->place][other].up = n->of->peers[other][n->place].up = both;
        }
    n->of->linked[n->place] = true;
    p->well_since = n->of->w.now;
    world_trace(&n->of->w, "place %d is connected again", n->place);
}

static void break_link(struct cluster *c, int place) {
    wire_break(&c->orders[place]);
    wire_break(&c->news[place]);
}

static void break_all(struct cluster *c, int place) {
    for (int other = 0; other < c->n; other++) {
        if (other == place) continue;
        stream_break(c, place, other);
        stream_break(c, other, place);
        wire_break(&c->peers[place][other]);
        wire_break(&c->peers[other][place]);
    }
}

static void restore_peers(struct cluster *c, int place) {
    for (int other = 0; other < c->n; other++)
        c->peers[place][other].up = c->peers[other][place].up = c->places[place].up && c->places[other].up;
}

void fault_unlink(struct cluster *c, int place) {
    if (!place || !c->orders[place].up) return;
    world_trace(&c->w, "UNLINK of place %d", place);
    c->places[place].well_since = c->w.now;
    break_link(c, place);
    uint64_t here = world_below(&c->w, SILENT_MS * MS), there = world_below(&c->w, SILENT_MS * MS);
    uint64_t after = (here > there ? here : there) + world_between(&c->w, 10, 1000) * MS;
    at_notice(c, place, here, NULL, lose_at_gateway);
    at_notice(c, place, there, &c->places[place].frozen, lose_at_place);
    at_notice(c, place, after, &c->places[place].frozen, reconnect);
}

void fault_gateway(struct cluster *c) {
    world_trace(&c->w, "KILL of the gateway");
    for (int i = 0; i < c->n; i++) {
        break_link(c, i);
        at_notice(c, i, i ? world_below(&c->w, SILENT_MS * MS) : 0, &c->places[i].frozen, lose_at_place);
    }
}

void fault_cut(struct cluster *c, int from, int to) {
    if (from == to) return;
    world_trace(&c->w, "CUT from place %d to %d", from, to);
    stream_break(c, from, to);
}

void fault_hole(struct cluster *c, int from, int to) {
    if (from == to) return;
    world_trace(&c->w, "HOLE from place %d to %d", from, to);
    c->holes++;
    for (int i = 0; i < DATA_LINKS; i++) c->data[from][to][i].hole = true;
}

// ---------------------------------------------------------------- a node
void fault_kill(struct cluster *c, int place) {
    struct place *p = &c->places[place];
    if (!place || !p->up) return;
    bool forever = world_chance(&c->w, FOREVER_PERCENT);
    world_trace(&c->w, "KILL of place %d%s", place, forever ? " for good" : "");
    p->well_since = c->w.now;
    p->up = false;
    p->frozen = 0;
    end_worker(p);
    for (int i = 0; i < SEQUENCES; i++)
        if (p->seqs[i].state != SEQ_NONE) place_release(p, &p->seqs[i]);
    break_link(c, place);
    break_all(c, place);
    at_notice(c, place, world_below(&c->w, 20 * MS), NULL, lose_at_gateway);
    if (!forever) at_notice(c, place, world_between(&c->w, 100, 3000) * MS, NULL, reconnect);
}

static void fall_silent(void *self, void *msg) {
    struct notice *n = msg;
    struct cluster *c = n->of;
    struct place *p = &c->places[n->place];
    (void)self;
    if (!is_latest(n) || p->frozen <= c->w.now) return; // it came back in time
    world_trace(&c->w, "place %d has been silent for too long", n->place);
    break_link(c, n->place);
    break_all(c, n->place);
    restore_peers(c, n->place);
    at_notice(c, n->place, 0, NULL, lose_at_gateway);
    at_notice(c, n->place, 0, &p->frozen, lose_at_place);
    at_notice(c, n->place, world_between(&c->w, 10, 1000) * MS, &p->frozen, reconnect);
}

void fault_freeze(struct cluster *c, int place) {
    struct place *p = &c->places[place];
    if (!place || !p->up || p->frozen > c->w.now) return;
    uint64_t ms = world_between(&c->w, 50, 6000);
    world_trace(&c->w, "FREEZE of place %d for %d ms", place, (int)ms);
    p->frozen = p->well_since = c->w.now + ms * MS;
    at_notice(c, place, SILENT_MS * MS, NULL, fall_silent);
}

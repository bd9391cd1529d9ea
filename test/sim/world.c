#include "world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void *must_alloc(size_t size) {
    void *p = calloc(1, size);
    if (!p) {
        fputs("sim: out of memory\n", stderr);
        exit(2);
    }
    return p;
}

void world_init(struct world *w, uint64_t seed, bool trace) {
    *w = (struct world){.random = seed * 0x9e3779b97f4a7c15u + 1, .trace = trace};
}

// ---------------------------------------------------------------- chance
static uint64_t draw(struct world *w) { // splitmix64
    uint64_t z = w->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t world_below(struct world *w, uint64_t n) { return n ? draw(w) % n : 0; }

uint64_t world_between(struct world *w, uint64_t least, uint64_t most) {
    return least + world_below(w, most - least + 1);
}

bool world_chance(struct world *w, unsigned percent) { return world_below(w, 100) < percent; }

// ---------------------------------------------------------------- what is said about it
void world_break(struct world *w, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    if (!*w->broken) vsnprintf(w->broken, sizeof w->broken, fmt, args);
    va_end(args);
}

void world_trace(const struct world *w, const char *fmt, ...) {
    va_list args;
    if (!w->trace) return;
    va_start(args, fmt);
    printf("%10.3f ms  ", (double)w->now / 1e3);
    vprintf(fmt, args);
    putchar('\n');
    va_end(args);
}

// ---------------------------------------------------------------- events: a heap, the earliest first
static bool earlier(const struct event *a, const struct event *b) {
    return a->at != b->at ? a->at < b->at : a->serial < b->serial;
}

static void push(struct world *w, struct event e) {
    if (w->n == w->cap) {
        w->cap = w->cap ? 2 * w->cap : 64;
        w->heap = realloc(w->heap, w->cap * sizeof *w->heap);
        if (!w->heap) abort();
    }
    size_t i = w->n++;
    for (; i && earlier(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct event pop(struct world *w) {
    struct event first = w->heap[0], last = w->heap[--w->n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->n; i = child) {
        if (child + 1 < w->n && earlier(&w->heap[child + 1], &w->heap[child])) child++;
        if (!earlier(&w->heap[child], &last)) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return first;
}

void world_at(struct world *w, uint64_t delay, const uint64_t *frozen, event_fn *run, void *self, void *msg) {
    push(w, (struct event){
                .at = w->now + delay, .serial = w->serial++, .frozen = frozen, .run = run, .self = self, .msg = msg});
}

bool world_turn(struct world *w) {
    if (!w->n) return false;
    struct event e = pop(w);
    w->now = e.at;
    if (e.frozen && e.at < *e.frozen) { // keeps its serial, and so its place among the others
        e.at = *e.frozen;
        push(w, e);
        return true;
    }
    w->happened++;
    e.run(e.self, e.msg);
    free(e.msg);
    return true;
}

// ---------------------------------------------------------------- wires
struct parcel {
    struct wire *wire;
    uint64_t epoch;
    event_fn *run;
    void *self, *msg;
};

static void deliver(void *self, void *msg) {
    struct parcel *p = msg;
    (void)self;
    if (p->epoch == p->wire->epoch && !p->wire->hole) p->run(p->self, p->msg);
    free(p->msg);
}

void world_close(struct world *w) {
    for (size_t i = 0; i < w->n; i++) {
        if (w->heap[i].run == deliver) free(((struct parcel *)w->heap[i].msg)->msg);
        free(w->heap[i].msg);
    }
    free(w->heap);
}

void wire_send(struct wire *c, int rows, event_fn *run, void *self, void *msg) {
    struct world *w = c->w;
    if (!c->up) {
        free(msg);
        return;
    }
    uint64_t at = w->now + c->latency + world_below(w, c->jitter + 1);
    if (at < c->busy) at = c->busy;
    c->busy = at + c->each * (uint64_t)rows;
    struct parcel *p = must_alloc(sizeof *p);
    *p = (struct parcel){.wire = c, .epoch = c->epoch, .run = run, .self = self, .msg = msg};
    world_at(w, c->busy - w->now, c->frozen, deliver, NULL, p);
}

void wire_break(struct wire *c) {
    c->up = false;
    c->epoch++;
    c->busy = 0;
}

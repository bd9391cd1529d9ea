// Jobs over two to four places, while anything may go wrong at any moment. Every run is made from its seed alone.
//
//     sim [--seed N] [--runs N] [--from N]     --seed replays one run and tells what happens
//
// What must hold: the client gets the tokens of an undisturbed run on one place, each once and in order, and an end, as
// long as any place stays well, and else an error; no order reaches a place that is not open; nobody
// computes from rows that are not there; in the end nothing is left open anywhere, and everything does end.
#include "gateway.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MS = 1000, FAULTS = 6, EVENTS_MOST = 2000000, MINUTES_MOST = 30, DEFAULT_RUNS = 1000 };

enum fault_kind { CRASH, KILL, FREEZE, UNLINK, CUT, HOLE, LEAVE, MOVE, GATEWAY, FAULT_KINDS };
struct fault {
    enum fault_kind kind;
    int place, other, job;
    int step;    // after so many orders and events; 0 = at a time
    uint64_t us; // the time, or so long after the step
};

struct sim {
    struct gateway g;
    struct fault faults[FAULTS];
    int n_faults;
    bool opaque;
};

// ---------------------------------------------------------------- what goes wrong, and when
static void happen(void *self, void *fault) {
    struct gateway *g = self;
    const struct fault *f = fault;
    static void (*const of_place[])(struct cluster *, int) = {
        [CRASH] = fault_crash, [KILL] = fault_kill, [FREEZE] = fault_freeze, [UNLINK] = fault_unlink};
    if (f->kind <= UNLINK)
        of_place[f->kind](&g->c, f->place);
    else if (f->kind == CUT)
        fault_cut(&g->c, f->place, f->other);
    else if (f->kind == HOLE)
        fault_hole(&g->c, f->place, f->other);
    else if (f->kind == LEAVE)
        gateway_leave(g, &g->jobs[f->job]);
    else if (f->kind == GATEWAY)
        gateway_die(g);
    else
        gateway_move(g, &g->jobs[f->job], f->place);
}

static void schedule_fault(struct gateway *g, const struct fault *f) {
    struct fault *copy = must_alloc(sizeof *copy);
    *copy = *f;
    world_at(&g->c.w, f->us, NULL, happen, g, copy);
}

// What goes wrong after a step mostly concerns the job that has just made it.
static void aim(struct gateway *g, const struct job *j, struct fault *f) {
    f->job = j->index;
    if (world_chance(&g->c.w, 30)) return;
    if (f->kind != MOVE) f->place = world_chance(&g->c.w, 50) ? j->plan.prefill : j->plan.decode;
    f->other = j->plan.decode;
    if (f->kind == CUT || f->kind == HOLE) f->place = j->plan.prefill;
}

static void on_step(struct gateway *g, const struct job *j) {
    struct sim *s = (struct sim *)g; // its first member
    for (int i = 0; i < s->n_faults; i++) {
        if (s->faults[i].step != g->steps) continue;
        aim(g, j, &s->faults[i]);
        schedule_fault(g, &s->faults[i]);
    }
}

static void plan_faults(struct sim *s) {
    struct world *w = &s->g.c.w;
    if (world_chance(w, 25)) {
        s->g.calm = true;
        return;
    }
    s->n_faults = (int)world_below(w, FAULTS + 1);
    for (int i = 0; i < s->n_faults; i++) {
        struct fault *f = &s->faults[i];
        *f = (struct fault){.kind = (enum fault_kind)world_below(w, i ? FAULT_KINDS - 1 : FAULT_KINDS),
                            .place = (int)world_below(w, (uint64_t)s->g.c.n),
                            .other = (int)world_below(w, (uint64_t)s->g.c.n),
                            .job = (int)world_below(w, (uint64_t)s->g.n_jobs),
                            .us = world_below(w, 1000 * MS)};
        if (world_chance(w, 30)) continue;
        f->step = 1 + (int)world_below(w, 60u * (unsigned)s->g.n_jobs);
        f->us = world_below(w, 2 * MS);
    }
    s->g.strays = world_chance(w, 30);
    s->g.refusals = world_chance(w, 20) ? 2 : 0;
    s->g.c.preempts = world_chance(w, 30) ? 3 : 0;
    if (world_chance(w, 10)) s->g.c.places[world_below(w, (uint64_t)s->g.c.n)].small = true;
}

// ---------------------------------------------------------------- the world
static void plan_wire(struct sim *s, struct wire *c, int to, uint64_t latency, uint64_t each) {
    struct world *w = &s->g.c.w;
    *c = (struct wire){.w = w,
                       .frozen = to == NOBODY ? NULL : &s->g.c.places[to].frozen,
                       .latency = latency,
                       .jitter = world_below(w, latency + 1),
                       .each = each,
                       .up = true};
}

static void plan_wires(struct sim *s) {
    static const uint64_t latencies[] = {50, 300, 2 * MS, 20 * MS}, rates[] = {2, 50, 500, 5 * MS};
    struct cluster *c = &s->g.c;
    for (int i = 0; i < c->n; i++) {
        uint64_t latency = i ? latencies[world_below(&c->w, 4)] : 20;
        plan_wire(s, &c->orders[i], i, latency, 0);
        plan_wire(s, &c->news[i], NOBODY, latency, 0);
        for (int k = 0; k < c->n; k++) {
            uint64_t between = latencies[world_below(&c->w, 4)], rate = rates[world_below(&c->w, 4)];
            plan_wire(s, &c->peers[i][k], k, between, 0);
            for (int d = 0; d < DATA_LINKS; d++) plan_wire(s, &c->data[i][k][d], k, between, rate);
        }
    }
}

static void plan_places(struct sim *s) {
    struct cluster *c = &s->g.c;
    struct world *w = &c->w;
    bool scarce = world_chance(w, 30);
    c->n = 2 + (int)world_below(w, PLACES - 1);
    c->caches = world_chance(w, 50) ? 70 : 0;
    for (int i = 0; i < c->n; i++) {
        c->places[i] = (struct place){.of = c,
                                      .index = i,
                                      .up = true,
                                      .loaded = true,
                                      .telling_last = world_chance(w, 50),
                                      .parallel = scarce ? 1 + (int)world_below(w, 2) : SEQUENCES,
                                      .queue = scarce ? 1 + (int)world_below(w, 3) : SEQUENCES,
                                      .slots = (scarce ? 1 : SEQUENCES) * STREAM_SLOTS,
                                      .prompt_us = world_between(w, 20, 1000),
                                      .token_us = world_between(w, 500, 20000),
                                      .step_us = world_between(w, 50, 1000),
                                      .install_us = world_chance(w, 20) ? world_between(w, 20, 400) * MS : 2 * MS};
        c->linked[i] = true;
        if (world_chance(w, 10)) fault_cold(c, i, world_below(w, 4000) * MS);
    }
    s->opaque = world_chance(w, 10);
    c->shape = (struct kv_shape){.form = s->opaque ? KV_OPAQUE : KV_ROWS,
                                 .dtype = KV_F16,
                                 .layers = 1 + (int32_t)world_below(w, 3),
                                 .unit = 1 << world_below(w, 6),
                                 .width = {4, 4}};
}

// ---------------------------------------------------------------- the jobs
static void begin(void *self, void *index) {
    struct gateway *g = self;
    gateway_begin(g, &g->jobs[*(int *)index]);
}

static void plan_job(struct sim *s, int index) {
    struct gateway *g = &s->g;
    struct world *w = &g->c.w;
    struct job *j = &g->jobs[index];
    int32_t unit = g->c.shape.unit;
    const int32_t lengths[] = {1, 2, unit - 1, unit, unit + 1, 2 * unit, 0, 0, 0, 0};
    *j = (struct job){.of = g, .index = index, .seed = world_below(w, UINT64_MAX)};
    j->n_prompt = lengths[world_below(w, 10)];
    if (j->n_prompt < 1) j->n_prompt = MODEL_PROMPT - (int32_t)world_below(w, MODEL_PROMPT);
    if (g->c.caches && world_chance(w, 30)) j->n_prompt = MODEL_PROMPT;
    for (int32_t i = 0; i < j->n_prompt; i++) j->prompt[i] = 1 + (int32_t)world_below(w, 999);
    j->most = 1 + (int32_t)world_below(w, MODEL_ANSWER);
    j->plan.prefill = j->plan.decode = (int)world_below(w, (uint64_t)g->c.n);
    if (world_chance(w, 75)) j->plan.decode = (int)world_below(w, (uint64_t)g->c.n);
    j->plan.zero_stall = !s->opaque && world_chance(w, 70); // a state that travels whole travels after a pause
    j->plan.head_ms = 1 + (long)world_below(w, FLOW_HEAD_MS);
    int *copy = must_alloc(sizeof *copy);
    *copy = index;
    world_at(w, world_below(w, 300 * MS), NULL, begin, g, copy);
}

// ---------------------------------------------------------------- a run
static void check_places(struct sim *s) {
    struct cluster *c = &s->g.c;
    for (int i = 0; i < c->n; i++) {
        struct place *p = &c->places[i];
        for (int k = 0; k < SEQUENCES; k++)
            if (p->seqs[k].state != SEQ_NONE)
                world_break(&c->w, "place %d still holds a sequence of job %d in state %d", i, p->seqs[k].open.job,
                            (int)p->seqs[k].state);
        if (p->slots_used) world_break(&c->w, "place %d still has %d slots taken", i, p->slots_used);
    }
}

static void check_jobs(struct sim *s) {
    for (int i = 0; i < s->g.n_jobs; i++)
        if (!s->g.jobs[i].over) world_break(&s->g.c.w, "job %d waits for ever", i);
}

static void close_places(struct cluster *c) {
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < SEQUENCES; k++) stream_refuse(&c->places[i], &c->places[i].seqs[k]);
}

// Returns whether everything held.
static bool run(uint64_t seed, bool trace, struct tally *tally) {
    struct sim *s = must_alloc(sizeof *s);
    struct world *w = &s->g.c.w;
    world_init(w, seed, trace);
    gateway_init(&s->g);
    s->g.tally = tally;
    s->g.stepped = on_step;
    plan_places(s);
    plan_wires(s);
    s->g.n_jobs = 1 + (int)world_below(w, JOBS);
    for (int i = 0; i < s->g.n_jobs; i++) plan_job(s, i);
    plan_faults(s);
    for (int i = 0; i < s->n_faults; i++)
        if (!s->faults[i].step) schedule_fault(&s->g, &s->faults[i]);
    while (!*w->broken && world_turn(w)) {
        if (w->happened > EVENTS_MOST || w->now > MINUTES_MOST * 60ull * 1000 * MS) world_break(w, "it does not end");
    }
    if (!*w->broken) check_jobs(s);
    if (!*w->broken) check_places(s);
    bool held = !*w->broken;
    if (!held) printf("sim: seed %" PRIu64 ": %s\n", seed, w->broken);
    gateway_close(&s->g);
    close_places(&s->g.c);
    world_close(w);
    free(s);
    return held;
}

// A long test in which something never happened does not show much.
static bool check_tally(const struct tally *t, uint64_t runs) {
    printf("sim: %" PRIu64 " runs, %" PRIu64 " jobs: %" PRIu64 " ended, %" PRIu64 " failed, %" PRIu64 " left; %" PRIu64
           " handed over, %" PRIu64 " fetched from, %" PRIu64 " fetches given up, %" PRIu64 " moved, %" PRIu64
           " resumed, %" PRIu64 " opened anew, %" PRIu64 " elsewhere; %" PRIu64 " gateways killed, %" PRIu64
           " cuts, %" PRIu64 " mended, %" PRIu64 " timeouts; handed to places that stayed behind %" PRIu64
           ", that opened late %" PRIu64 "; places lost while asked %" PRIu64 ", held %" PRIu64 ", running %" PRIu64
           ", pausing %" PRIu64 ", paused %" PRIu64 "\n",
           runs, t->jobs, t->ended, t->failed, t->left, t->handed, t->fetched, t->gave_up, t->moved, t->resumed,
           t->reopened, t->elsewhere, t->deaths, t->cuts, t->mended, t->timeouts, t->behind, t->late,
           t->losses[SPOT_ASKED], t->losses[SPOT_HELD], t->losses[SPOT_RUNNING], t->losses[SPOT_PAUSING],
           t->losses[SPOT_PAUSED]);
    const uint64_t seen[] = {t->ended,
                             t->failed,
                             t->left,
                             t->handed,
                             t->fetched,
                             t->gave_up,
                             t->moved,
                             t->resumed,
                             t->reopened,
                             t->elsewhere,
                             t->deaths,
                             t->cuts,
                             t->timeouts,
                             t->behind,
                             t->late,
                             t->mended,
                             t->losses[SPOT_ASKED],
                             t->losses[SPOT_HELD],
                             t->losses[SPOT_RUNNING],
                             t->losses[SPOT_PAUSING],
                             t->losses[SPOT_PAUSED]};
    bool all = true;
    for (size_t i = 0; i < sizeof seen / sizeof *seen; i++) all &= seen[i] > 0;
    if (!all && runs >= DEFAULT_RUNS) puts("sim: something never happened");
    return all || runs < DEFAULT_RUNS;
}

static bool number(const char *text, uint64_t *out) {
    char *end;
    *out = strtoull(text, &end, 10);
    return *text && !*end;
}

int main(int argc, char **argv) {
    uint64_t seed = 0, runs = DEFAULT_RUNS, from = 1;
    bool one = false, ok = true;
    for (int i = 1; i < argc && ok; i += 2) {
        uint64_t *out = !strcmp(argv[i], "--seed") ? &seed : !strcmp(argv[i], "--runs") ? &runs : &from;
        one |= out == &seed;
        ok = (out != &from || !strcmp(argv[i], "--from")) && i + 1 < argc && number(argv[i + 1], out);
    }
    if (!ok) {
        fputs("usage: sim [--seed N] [--runs N] [--from N]\n", stderr);
        return 2;
    }
    struct tally tally = {.jobs = 0};
    if (one) return !run(seed, true, &tally);
    for (uint64_t i = from; i < from + runs; i++) ok &= run(i, false, &tally);
    return !(check_tally(&tally, runs) && ok);
}

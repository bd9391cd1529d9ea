// Streams that come in: slots of an arena, filled by the threads of inlets.
#include "cluster/transfer_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- life
// The open stream of this number.
static struct inflow *find_held(const struct transfers *t, uint64_t stream) {
    for (struct inflow *f = t->inflows; f; f = f->next)
        if (f->spec.stream == stream && !f->closed) return f;
    return NULL;
}

static int take_slots(struct inflow *f, struct err *e) {
    int32_t n = f->spec.n_slots, *numbers = calloc((size_t)n, sizeof *numbers);
    int rc = numbers ? arena_take(f->spec.arena, n, numbers, e) : err_set(e, ERR_INTERNAL, "out of memory");
    for (int32_t i = 0; !rc && i < n; i++)
        f->slots[i] = (struct slot){.number = numbers[i], .memory = arena_slot(f->spec.arena, numbers[i])};
    free(numbers);
    return rc;
}

static struct inflow *make(struct transfers *t, const struct inflow_spec *spec, struct err *e) {
    struct arena *a = spec->arena;
    size_t slot_bytes = arena_slot_offset(a, 1) - arena_slot_offset(a, 0);
    struct assembly *assembly = assembly_new(&spec->shape, spec->first, spec->last, spec->n_slots, slot_bytes, e);
    if (!assembly) return NULL;
    struct inflow *f = calloc(1, sizeof *f);
    struct slot *slots = calloc((size_t)spec->n_slots, sizeof *slots);
    if (!f || !slots) {
        free(f);
        free(slots);
        assembly_free(assembly);
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *f = (struct inflow){.t = t, .spec = *spec, .assembly = assembly, .slots = slots};
    for (int32_t i = 0; i < spec->n_slots; i++) slots[i].number = -1;
    arena_ref(a);
    return f;
}

static int check_open(struct transfers *t, const struct inflow_spec *spec, struct err *e) {
    size_t n = 0;
    pthread_mutex_lock(&t->lock);
    bool twice = find_held(t, spec->stream) != NULL;
    for (const struct inflow *f = t->inflows; f; f = f->next) n++;
    pthread_mutex_unlock(&t->lock);
    if (twice) return err_set(e, ERR_INVALID, "a KV stream of this number is open already");
    if (n >= LIMIT_KV_STREAMS) return err_set(e, ERR_BUSY, "%zu KV streams come in already: try again later", n);
    if (!memchr(spec->from, 0, sizeof spec->from)) return err_set(e, ERR_INVALID, "a KV stream from nowhere");
    return 0;
}

struct inflow *inflow_open(struct transfers *t, const struct inflow_spec *spec, const struct inflow_events *ev,
                           void *arg, struct err *e) {
    struct inflow *f = check_open(t, spec, e) ? NULL : make(t, spec, e);
    if (!f) return NULL;
    f->ev = *ev;
    f->arg = arg;
    int rc = take_slots(f, e);
    pthread_mutex_lock(&t->lock);
    f->next = t->inflows;
    t->inflows = f;
    burst_yield_held(t, spec->from);
    pthread_mutex_unlock(&t->lock);
    if (!rc) return f;
    inflow_free(f);
    return NULL;
}

static void give_back(struct inflow *f) {
    for (int32_t i = 0; i < f->spec.n_slots; i++) {
        if (f->slots[i].number < 0 || f->slots[i].writers) continue;
        arena_give(f->spec.arena, f->slots[i].number);
        f->slots[i].number = -1;
    }
}

void inflow_close(struct inflow *f) {
    if (!f) return;
    pthread_mutex_lock(&f->t->lock);
    f->closed = true;
    give_back(f);
    transfers_wake_held(f->t);
    pthread_mutex_unlock(&f->t->lock);
}

void inflow_free(struct inflow *f) {
    struct transfers *t = f->t;
    pthread_mutex_lock(&t->lock);
    struct inflow **at = &t->inflows;
    while (*at != f) at = &(*at)->next;
    *at = f->next;
    pthread_mutex_unlock(&t->lock);
    give_back(f);
    arena_unref(f->spec.arena);
    assembly_free(f->assembly);
    free(f->slots);
    free(f);
}

void inflow_installed(struct inflow *f, int32_t slot) {
    pthread_mutex_lock(&f->t->lock);
    for (int32_t i = 0; i < f->spec.n_slots; i++) {
        if (f->slots[i].number != slot || !assembly_installed(f->assembly, i)) continue;
        log_warn("a unit was installed that KV stream %016llx has not brought", (unsigned long long)f->spec.stream);
    }
    pthread_mutex_unlock(&f->t->lock);
}

void inflow_figures(const struct inflow *f, struct flow_figures *out) {
    pthread_mutex_lock(&f->t->lock);
    *out = f->figures;
    out->upto = assembly_upto(f->assembly);
    pthread_mutex_unlock(&f->t->lock);
}

// ---------------------------------------------------------------- on the threads of inlets
static void fail_held(struct inflow *f, const struct err *why) {
    if (f->failed || f->closed) return;
    f->failed = true;
    f->why = *why;
    log_warn("a KV stream from node %s failed: %s", f->spec.from, why->msg);
    transfers_wake_held(f->t);
}

static int claim_held(struct inlet *from, const struct kvframe *f, struct claim *c, struct err *e) {
    struct inflow *in = find_held(from->t, f->stream);
    if (!in || strcmp(in->spec.from, from->node))
        return err_set(e, ERR_NOT_FOUND, "no KV stream %016llx is expected", (unsigned long long)f->stream);
    if (in->failed) return err_set(e, ERR_CANCELLED, "the KV stream has failed");
    in->fed |= 1ull << from->index;
    if (assembly_claim(in->assembly, f, &c->piece, e)) {
        fail_held(in, e);
        return -1;
    }
    struct slot *s = &in->slots[c->piece.slot];
    s->writers++;
    in->writers++;
    in->figures.wire = (enum kv_dtype)f->dtype;
    if (!in->figures.begun_ns) in->figures.begun_ns = clock_mono_ns();
    c->flow = in;
    c->to = s->memory + c->piece.offset;
    return 0;
}

int inflow_claim(struct inlet *from, const struct kvframe *f, struct claim *c, struct err *e) {
    pthread_mutex_lock(&from->t->lock);
    int rc = claim_held(from, f, c, e);
    pthread_mutex_unlock(&from->t->lock);
    return rc;
}

void inflow_arrived(const struct claim *c, uint32_t bytes, const struct err *why) {
    struct inflow *f = c->flow;
    struct transfers *t = f->t; // f may be freed as soon as the lock is open
    pthread_mutex_lock(&t->lock);
    f->slots[c->piece.slot].writers--;
    f->writers--;
    if (why) {
        fail_held(f, why);
    } else {
        f->figures.bytes += bytes;
        f->figures.last_ns = clock_mono_ns();
        if (assembly_arrived(f->assembly, &c->piece)) transfers_wake_held(t);
    }
    if (f->closed) transfers_wake_held(t);
    pthread_mutex_unlock(&t->lock);
}

void inflow_cut_held(struct transfers *t, int inlet, const struct err *why) {
    for (struct inflow *f = t->inflows; f; f = f->next) {
        if (why && f->fed >> inlet & 1) fail_held(f, why);
        f->fed &= ~(1ull << inlet);
    }
}

void inflow_left_held(struct transfers *t, const char *node, const struct err *why) {
    for (struct inflow *f = t->inflows; f; f = f->next)
        if (!strcmp(f->spec.from, node)) fail_held(f, why);
}

// ---------------------------------------------------------------- on the loop
// Tells the next thing; false where there is none.
static bool tell(struct inflow *f) {
    int32_t slot = -1, first = 0, count = 0;
    pthread_mutex_lock(&f->t->lock);
    bool unit = !f->closed && !f->told && assembly_next(f->assembly, &slot, &first, &count);
    bool failure = !f->closed && !f->told && !unit && f->failed;
    f->told |= failure;
    int32_t number = unit ? f->slots[slot].number : -1;
    pthread_mutex_unlock(&f->t->lock);
    if (unit) f->ev.unit(f->arg, number, first, count);
    if (failure) f->ev.failed(f->arg, &f->why);
    return unit || failure;
}

void inflow_settle(struct inflow *f) {
    while (tell(f)) continue;
    pthread_mutex_lock(&f->t->lock);
    if (f->closed) give_back(f);
    bool over = f->closed && !f->writers;
    pthread_mutex_unlock(&f->t->lock);
    if (over) inflow_free(f);
}

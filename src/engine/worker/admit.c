// How sequences get their places: a slot, what is in the KV cache already of what they need, and room for the rest.
#include "base/clock.h"
#include "engine/worker/compute_internal.h"

// ---------------------------------------------------------------- what is kept makes room
struct keeper *kept_begin(struct compute *c) {
    pthread_mutex_lock(&c->queue->lock);
    c->kept_changed = true;
    return &c->queue->kept;
}

void kept_end(struct compute *c) { pthread_mutex_unlock(&c->queue->lock); }

bool kept_evict(struct compute *c) {
    if (!c->queue->kept.n) return false;
    int32_t slot = keeper_take(kept_begin(c), 0);
    kept_end(c);
    llama_memory_seq_rm(c->memory, slot, -1, -1);
    c->slots[c->n_slots++] = slot;
    return true;
}

void kept_make_room(struct compute *c) {
    const struct lane *lanes[LIMIT_PARALLEL];
    int64_t needed = batch_cells(lanes, compute_lanes(c->queue, lanes));
    while (c->queue->kept.n && needed + keeper_cells(&c->queue->kept) > c->stats.cells_total) kept_evict(c);
}

void kept_forget(struct compute *c) {
    while (kept_evict(c)) continue;
}

// ---------------------------------------------------------------- what is there already
static int32_t free_slot(struct compute *c) {
    if (!c->n_slots) kept_evict(c);
    return c->slots[--c->n_slots];
}

// Of sequences that are computed: the one whose rows begin as s does.
static const struct sequence *best_running(const struct compute *c, const struct sequence *s, int32_t *shared) {
    const struct sequence *best = NULL;
    *shared = KEEP_LEAST;
    for (int32_t i = 0; i < c->queue->n_running; i++) {
        const struct sequence *one = c->queue->running[i];
        int32_t rows = one->lane.past < one->lane.len ? one->lane.past : one->lane.len;
        if (s->strict && one->exact < rows) rows = one->exact;
        int32_t same = one == s ? 0 : keep_shared(one->tokens, rows, s->tokens, s->lane.len);
        if (same < *shared) continue;
        *shared = same;
        best = one;
    }
    if (!best) *shared = 0;
    return best;
}

static void inherit(struct sequence *s, int32_t rows, int32_t exact) {
    s->lane.past = rows;
    s->exact = exact < rows ? exact : INT32_MAX;
}

static void copy(struct compute *c, struct sequence *s, int32_t slot, int32_t rows, int32_t exact) {
    s->slot = free_slot(c);
    llama_memory_seq_cp(c->memory, slot, s->slot, 0, rows); // both have the same cells
    inherit(s, rows, exact);
}

static void take_over(struct compute *c, struct sequence *s, int32_t i, int32_t rows) {
    int32_t exact = c->queue->kept.list[i].exact;
    s->slot = keeper_take(kept_begin(c), i);
    kept_end(c);
    llama_memory_seq_rm(c->memory, s->slot, rows, -1);
    inherit(s, rows, exact);
}

// The last token is always computed: its logits are wanted.
static void settle(struct compute *c, struct sequence *s) {
    if (s->bare) {
        s->slot = c->model->measuring;
        return;
    }
    int32_t shared = 0, copied = 0, most = s->lane.len - 1;
    int32_t best = c->keeps ? keeper_best(&c->queue->kept, s->tokens, s->lane.len, s->strict, &shared) : -1;
    const struct sequence *other = c->keeps ? best_running(c, s, &copied) : NULL;
    bool loses = best >= 0 && c->queue->kept.list[best].n - shared > KEEP_LOSS && c->n_slots + c->queue->kept.n > 1;
    if (other && copied > shared && c->n_slots + c->queue->kept.n > 0) {
        copy(c, s, other->slot, copied < most ? copied : most, other->exact);
    } else if (loses) {
        keeper_touch(kept_begin(c), best); // so that it is not the one that gives its slot
        kept_end(c);
        const struct kept *one = &c->queue->kept.list[c->queue->kept.n - 1];
        copy(c, s, one->slot, shared < most ? shared : most, one->exact);
    } else if (best >= 0) {
        take_over(c, s, best, shared < most ? shared : most);
    } else {
        s->slot = free_slot(c);
    }
}

// ---------------------------------------------------------------- admission
static bool is_measured(const struct compute *c) {
    for (int32_t i = 0; i < c->queue->n_running; i++)
        if (c->queue->running[i]->slot == c->model->measuring) return true;
    return false;
}

// Beside all that is kept. `s` runs already.
static bool has_bare_room(const struct compute *c, const struct sequence *s) {
    const struct lane *lanes[LIMIT_PARALLEL];
    int64_t needed = batch_cells(lanes, compute_lanes(c->queue, lanes)) + s->most - s->lane.len;
    return needed + keeper_cells(&c->queue->kept) <= c->stats.cells_total;
}

static bool fits(const struct sequence *s, void *arg) {
    const struct compute *c = arg;
    const struct lane *lanes[LIMIT_PARALLEL];
    int32_t n = compute_lanes(c->queue, lanes);
    if (s->bare) return !is_measured(c);
    bool slot = c->n_slots > 0 || c->queue->kept.n > 0;
    return slot && batch_admits(c->stats.cells_total, batch_cells(lanes, n), n, s->lane.len);
}

static void tell_begin(struct compute *c, struct sequence *s) {
    if (!s->begin) return;
    if (json_object_set_new(s->begin, "cached", json_integer(s->cached))) c->lost = true;
    member_tell(c, s->begin);
    s->begin = NULL;
}

void compute_admit(struct compute *c) {
    if (c->barred && c->queue->n_running) return;
    for (struct sequence *s; (s = queue_admit(c->queue, fits, c));) {
        settle(c, s);
        if (s->bare && !has_bare_room(c, s)) {
            member_fail(c, s, ERR_BUSY, "there is no room to measure beside what is computed and kept");
            continue;
        }
        if (s->started) continue; // it was preempted
        s->started = clock_mono_ns();
        s->cached = s->lane.past;
        if (!s->bare) c->stats.requests++;
        tell_begin(c, s);
    }
    kept_make_room(c);
}

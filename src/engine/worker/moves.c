// Sequences that move: held until another worker's rows are there, paused, and copied out.
#include "engine/worker/compute_internal.h"
#include "engine/worker/whole.h"

#include <stdio.h>
#include <stdlib.h>

// ---------------------------------------------------------------- go
static void run(struct compute *c, struct sequence *s) {
    struct lane *l = &s->lane;
    if (l->past >= l->len) { // the last token's logits are wanted: it is computed again
        l->past = c->model->info.kv.form == KV_ROWS ? l->len - 1 : 0; // a whole state cannot lose its end
        llama_memory_seq_rm(c->memory, s->slot, l->past, -1);
    }
    if (s->leaving.size) export_stop(&s->leaving); // of a state that is a past one from now on
    sequence_enter(s, STAGE_RUN);
}

static void run_when_ready(struct compute *c, struct sequence *s) {
    if (s->stage == STAGE_AWAIT && s->lane.past >= s->awaited) run(c, s);
}

// Each of these returns whether the sequence is still there.
static bool refuse(struct compute *c, struct sequence *s, enum err_code code, const char *why) {
    member_fail(c, s, code, why);
    return false;
}

static bool on_go(struct compute *c, struct sequence *s, const struct order *o) {
    if (s->stage == STAGE_RUN && !o->n && o->from < 0) return true; // the rows it waited for have come meanwhile
    if (s->stage == STAGE_RUN) return refuse(c, s, ERR_INVALID, "a sequence that runs cannot be started");
    if (o->from > s->most) return refuse(c, s, ERR_INVALID, "a sequence cannot wait for rows beyond its end");
    for (int32_t i = 0; i < o->n; i++) {
        if (o->generated[i] >= c->model->info.vocab)
            return refuse(c, s, ERR_INVALID, "a token that the model does not have");
        if (!member_replay_token(c, s, o->generated[i])) return false;
    }
    s->awaited = o->from;
    sequence_enter(s, STAGE_AWAIT);
    run_when_ready(c, s);
    return true;
}

// ---------------------------------------------------------------- rows
static bool on_export(struct compute *c, struct sequence *s, const struct order *o) {
    export_stop(&s->leaving);
    if (o->first < 0) return true;
    if (!c->blocks->memory) return refuse(c, s, ERR_INVALID, "the KV cache of this model cannot be streamed");
    s->own = INT32_MAX;
    export_start(&s->leaving, c->model->info.kv.form == KV_ROWS ? o->first : 0, o->units);
    return true;
}

static bool on_credit(struct compute *c, struct sequence *s, const struct order *o) {
    (void)c;
    s->leaving.credits = o->units > INT32_MAX - s->leaving.credits ? INT32_MAX : s->leaving.credits + o->units;
    return true;
}

static int install(struct compute *c, struct sequence *s, const struct order *o, unsigned char *unit, struct err *e) {
    const struct lane *lanes[LIMIT_PARALLEL];
    while (importer_install(&c->importer, unit, s->slot, o->first, o->count, e)) {
        if (e->code == ERR_BUSY && kept_evict(c)) continue;
        int32_t youngest = batch_youngest(lanes, compute_lanes(c->queue, lanes));
        if (e->code != ERR_BUSY || lanes[youngest]->parked) return -1;
        member_preempt(c, youngest);
    }
    return 0;
}

static bool on_state(struct compute *c, struct sequence *s, const struct order *o) {
    struct err e;
    if (o->first || o->count > c->model->info.kv.state)
        return refuse(c, s, ERR_INVALID, "a state that this sequence cannot have");
    const unsigned char *state = blocks_unit(c->blocks, o->offset, (size_t)o->count);
    if (!state) return refuse(c, s, ERR_INVALID, "a state that is not in the shared memory");
    if (whole_install(c->model->ctx, state, (size_t)o->count, s->slot, s->most, &s->lane.past, &e))
        return refuse(c, s, e.code, e.msg);
    member_tell(c, installed_encode(s->id, s->lane.past, o->slot));
    run_when_ready(c, s);
    return true;
}

static bool on_install(struct compute *c, struct sequence *s, const struct order *o) {
    const struct kv_shape *shape = &c->model->info.kv;
    struct err e = {.code = ERR_NONE};
    if (s->stage == STAGE_RUN) { // it was started without them: they come too late
        member_tell(c, installed_encode(s->id, s->lane.past, o->slot));
        return true;
    }
    if (shape->form == KV_OPAQUE) return on_state(c, s, o);
    if (o->count > shape->unit || o->first > s->most - o->count)
        return refuse(c, s, ERR_INVALID, "rows that this sequence cannot have");
    if (o->first != s->lane.past) return refuse(c, s, ERR_INVALID, "rows that do not follow those that are there");
    unsigned char *unit = blocks_unit(c->blocks, o->offset, kv_slot_bytes(shape, o->count));
    if (!unit) return refuse(c, s, ERR_INVALID, "rows that are not in the shared memory");
    if (install(c, s, o, unit, &e)) return refuse(c, s, e.code, e.msg);
    s->lane.past += o->count;
    if (o->coarse && o->first < s->exact) s->exact = o->first; // what is computed from them is no better
    if (s->leaving.on && s->lane.past > s->leaving.begun && o->first < s->own)
        s->own = o->first > s->leaving.begun ? o->first : s->leaving.begun;
    member_tell(c, installed_encode(s->id, s->lane.past, o->slot));
    run_when_ready(c, s);
    return true;
}

// ---------------------------------------------------------------- pause
static bool on_pause(struct compute *c, struct sequence *s, const struct order *o) {
    (void)c, (void)o;
    sequence_enter(s, STAGE_PAUSING);
    return true;
}

static int32_t rows_to_leave(const struct sequence *s) { return s->lane.past < s->own ? s->lane.past : s->own; }

static void tell_pause(struct compute *c, struct sequence *s) {
    if (s->stage != STAGE_PAUSING || (s->leaving.on && !export_done(&s->leaving, rows_to_leave(s)))) return;
    sequence_enter(s, STAGE_HELD);
    member_tell(c, paused_encode(s->id, s->drawn, s->lane.past));
}

// ---------------------------------------------------------------- orders
static void obey(struct compute *c, int32_t i) {
    static bool (*const handlers[ORDER_KINDS])(struct compute *, struct sequence *, const struct order *) = {
        on_go, on_export, on_credit, on_pause, on_install};
    struct sequence *s = c->queue->running[i];
    struct order *orders;
    bool lost, there = true;
    int32_t n = queue_take_orders(c->queue, i, &orders, &lost);
    for (int32_t k = 0; k < n; k++) {
        if (there) there = handlers[orders[k].kind](c, s, &orders[k]);
        order_free(&orders[k]);
    }
    free(orders);
    if (there && lost) member_fail(c, s, ERR_LIMIT, "more orders for this sequence than there is room for");
}

void moves_obey(struct compute *c) {
    for (int32_t i = c->queue->n_running - 1; i >= 0; i--)
        if (i < c->queue->n_running) obey(c, i);
}

// ---------------------------------------------------------------- rows that leave
void moves_begin(struct compute *c) {
    exporter_begin(&c->exporter);
    for (int32_t i = c->first, at = 0; i < c->end; at += c->shares[i++].count) {
        struct sequence *s = c->members[i];
        bool leave = s->leaving.on && s->own == INT32_MAX;
        struct exporting m = {s->id, leave ? &s->leaving : NULL, at, s->lane.past, c->shares[i].count};
        exporter_member(&c->exporter, &m);
    }
}

void moves_end(struct compute *c) { exporter_end(&c->exporter); }

static int take(struct compute *c, struct sequence *s, struct err *e) {
    if (c->model->info.kv.form == KV_ROWS)
        return exporter_take(&c->exporter, s->id, &s->leaving, s->slot, rows_to_leave(s), e);
    bool still = s->stage == STAGE_PAUSING || (s->stage == STAGE_HELD && s->drawn > 0);
    return still ? exporter_take_state(&c->exporter, s->id, &s->leaving, s->slot, s->lane.past, e) : 0;
}

void moves_take(struct compute *c) {
    for (int32_t i = c->queue->n_running - 1; i >= 0; i--) {
        struct sequence *s = c->queue->running[i];
        struct err e = {.code = ERR_NONE};
        int rc = take(c, s, &e);
        if (rc < 0)
            member_fail(c, s, e.code, e.msg);
        else
            tell_pause(c, s);
        c->again |= rc > 0;
    }
    c->lost |= c->exporter.lost;
}

// Sequences that move: orders to the worker, and what it tells of them.
#include "base/json.h"
#include "base/log.h"
#include "engine/client_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROOM_FIRST = 8 };

// ---------------------------------------------------------------- memory
static bool is_sized(const struct arena *a) { return a && arena_bytes(a) > 0; }

struct arena *engine_arena(const struct engine *w) {
    return is_sized(w->arena) ? w->arena : NULL;
}

int move_ready(struct engine *w) {
    struct err why;
    if (!w->arena || w->options.kv_buffer <= 0) return 0;
    if (arena_size(w->arena, &w->info.kv, (size_t)w->options.kv_buffer << 20, &why)) {
        snprintf(w->info.kv_why, sizeof w->info.kv_why, "%.127s", why.msg);
        log_warn("a sequence of '%s' cannot move to another node or from there: %s", w->options.model_name, why.msg);
        return 0;
    }
    struct arena_info a = {.bytes = (int64_t)arena_bytes(w->arena),
                           .block_bytes = (int64_t)arena_block_bytes(w->arena),
                           .blocks = arena_blocks(w->arena)};
    return engine_send(w, arena_encode(&a));
}

static int remember_slot(struct request *r, int32_t slot) {
    if (r->n_slots == r->room) {
        int32_t room = r->room ? 2 * r->room : ROOM_FIRST;
        int32_t *slots = realloc(r->slots, (size_t)room * sizeof *slots);
        if (!slots) return -1;
        r->slots = slots;
        r->room = room;
    }
    r->slots[r->n_slots++] = slot;
    return 0;
}

// Whether the request had this slot installed; it has no more.
static bool forget_slot(struct request *r, int32_t slot) {
    for (int32_t i = 0; i < r->n_slots; i++) {
        if (r->slots[i] != slot) continue;
        r->slots[i] = r->slots[--r->n_slots];
        return true;
    }
    return false;
}

void move_request_close(struct engine *w, struct request *r) {
    for (int32_t i = 0; i < r->n_slots && w->arena; i++) arena_unpin(w->arena, r->slots[i]);
    free(r->slots);
    r->slots = NULL;
    r->n_slots = 0;
}

// ---------------------------------------------------------------- orders
// Behind the request itself where that still waits for its worker.
static int order(struct engine *w, uint64_t id, const struct order *o, struct err *e) {
    struct request *r = request_find(w, id);
    if (!r) return 0;
    json_t *msg = order_encode(id, o);
    int rc = -1;
    if (r->sent) {
        rc = engine_send(w, json_incref(msg));
    } else {
        size_t before = r->frame.len;
        rc = frame_append(&r->frame, msg);
        w->waiting_bytes += r->frame.len - before;
    }
    json_decref(msg);
    return rc ? err_set(e, ERR_INTERNAL, "out of memory for an order to the worker of '%s'", w->options.model_name) : 0;
}

int engine_go(struct engine *w, uint64_t id, const int32_t *generated, int32_t n, int32_t from, struct err *e) {
    int32_t *tokens = NULL;
    if (n < 0 || (size_t)n > LIMIT_JSON_VALUES / 2 || from < -1)
        return err_set(e, ERR_INVALID, "a sequence cannot go on after %d tokens from position %d", n, from);
    if (n) {
        tokens = malloc((size_t)n * sizeof *tokens);
        if (!tokens) return err_set(e, ERR_INTERNAL, "out of memory");
        for (int32_t i = 0; i < n; i++) tokens[i] = generated[i];
    }
    int rc = order(w, id, &(struct order){.kind = ORDER_GO, .generated = tokens, .n = n, .from = from}, e);
    free(tokens);
    return rc;
}

int engine_export(struct engine *w, uint64_t id, int32_t first, int32_t credits, struct err *e) {
    if (first >= 0 && !engine_arena(w))
        return err_set(e, ERR_INVALID, "the KV cache of '%s' cannot be streamed: %s", w->options.model_name,
                       w->info.kv_why[0] ? w->info.kv_why : "no memory is shared with its worker");
    if (first >= 0 && arena_reserve(w->arena, e)) return -1;
    struct order o = {.kind = ORDER_EXPORT, .first = first < 0 ? -1 : first, .units = credits < 0 ? 0 : credits};
    return order(w, id, &o, e);
}

int engine_credit(struct engine *w, uint64_t id, int32_t units, struct err *e) {
    return units > 0 ? order(w, id, &(struct order){.kind = ORDER_CREDIT, .units = units}, e) : 0;
}

int engine_pause(struct engine *w, uint64_t id, struct err *e) {
    return order(w, id, &(struct order){.kind = ORDER_PAUSE}, e);
}

static bool is_unit(const struct worker_info *i, int32_t first, int32_t count) {
    if (i->kv.form == KV_OPAQUE) return first == 0 && count >= 1 && count <= i->kv.state;
    return first >= 0 && count >= 1 && count <= i->kv.unit && first <= i->ctx - count;
}

int engine_install(struct engine *w, uint64_t id, const struct engine_unit *u, struct err *e) {
    struct request *r = request_find(w, id);
    struct arena *a = engine_arena(w);
    if (!r) return 0;
    if (!a || !r->sent) return err_set(e, ERR_INVALID, "no memory is shared with the worker of this sequence");
    if (!is_unit(&w->info, u->first, u->count))
        return err_set(e, ERR_INVALID, "rows %d to %d are none of this model's", u->first, u->first + u->count - 1);
    if (arena_pin(a, u->slot)) return err_set(e, ERR_INVALID, "slot %d is not taken", u->slot);
    struct order o = {.kind = ORDER_INSTALL,
                      .slot = u->slot,
                      .offset = (int64_t)arena_slot_offset(a, u->slot),
                      .first = u->first,
                      .count = u->count,
                      .coarse = u->coarse};
    if (remember_slot(r, u->slot)) {
        arena_unpin(a, u->slot);
        return err_set(e, ERR_INTERNAL, "out of memory");
    }
    if (!order(w, id, &o, e)) return 0;
    forget_slot(r, u->slot);
    arena_unpin(a, u->slot);
    return -1;
}

int engine_give_blocks(struct engine *w, const struct arena *a, const int32_t *blocks, int32_t n) {
    if (!a || a != w->arena || n <= 0 || !w->link) return 0; // of a worker that has died
    json_t *free_ones = json_array();
    for (int32_t i = 0; i < n; i++)
        if (!arena_block_out(w->arena, blocks[i])) json_array_append_new(free_ones, json_integer(blocks[i]));
    return engine_send(w, json_pack("{s:s, s:o}", "t", "blocks", "free", free_ones));
}

// ---------------------------------------------------------------- what the worker says
static int on_rows(struct engine *w, uint64_t id, const json_t *item, struct err *e) {
    struct kv_rows rows;
    if (rows_decode(item, &w->info.kv, w->info.ctx, &rows, e)) return -1;
    if (arena_block_in(w->arena, rows.block)) return err_set(e, ERR_INVALID, "a block that the worker does not have");
    struct request *r = request_find(w, id); // each time: a callback may have cancelled it
    if (r && r->ev.rows)
        r->ev.rows(r->arg, &rows);
    else if (engine_give_blocks(w, w->arena, &rows.block, 1))
        return err_set(e, ERR_INTERNAL, "out of memory");
    return 0;
}

int move_on_rows(struct engine *w, const json_t *msg, struct err *e) {
    const json_t *item, *all = json_object_get(msg, "d");
    uint64_t id;
    size_t i;
    if (message_id(msg, &id, e)) return -1;
    if (!json_is_array(all) || !is_sized(w->arena)) return err_set(e, ERR_INVALID, "rows that nobody asked for");
    struct link *link = w->link;
    json_array_foreach(all, i, item) {
        if (on_rows(w, id, item, e)) return -1;
        if (w->link != link) break; // a callback has stopped this engine
    }
    return 0;
}

int move_on_installed(struct engine *w, struct request *r, const json_t *msg, struct err *e) {
    int32_t upto, slot;
    if (installed_decode(msg, &upto, &slot, e)) return -1;
    if (upto > w->info.ctx || !forget_slot(r, slot))
        return err_set(e, ERR_INVALID, "rows installed that nobody has sent");
    arena_unpin(w->arena, slot);
    if (!r->gone && r->ev.installed) r->ev.installed(r->arg, upto, slot);
    return 0;
}

int move_on_paused(struct engine *w, struct request *r, const json_t *msg, struct err *e) {
    int32_t tokens, past;
    if (paused_decode(msg, &tokens, &past, e)) return -1;
    if (tokens > w->info.ctx || past > w->info.ctx) return err_set(e, ERR_INVALID, "a pause beyond the context");
    if (!r->gone && r->ev.paused) r->ev.paused(r->arg, tokens, past);
    return 0;
}

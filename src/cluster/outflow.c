// Streams that go out: blocks of an arena, each a parcel for the wires of a link.
#include "cluster/transfer_internal.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- life
static int check_spec(const struct outflow_spec *s, struct err *e) {
    if (kv_shape_check(&s->shape, e)) return -1;
    if ((unsigned)s->wire >= KV_DTYPES || !memchr(s->to, 0, sizeof s->to))
        return err_set(e, ERR_INVALID, "a KV stream of an unknown type, or to nowhere");
    for (int k = 0; s->shape.form == KV_ROWS && k < KV_KINDS; k++)
        if (s->wire == KV_Q8_0 && s->shape.width[k] % 32)
            return err_set(e, ERR_INVALID, "rows of %d elements cannot travel as q8_0", s->shape.width[k]);
    if (!arena_blocks(s->arena)) return err_set(e, ERR_INVALID, "no memory is shared with the model's worker");
    return 0;
}

static int count_held(const struct transfers *t) {
    int n = 0;
    for (const struct outflow *f = t->outflows; f; f = f->next) n++;
    return n;
}

struct outflow *outflow_open(struct transfers *t, const struct outflow_spec *spec, const struct outflow_events *ev,
                             void *arg, struct err *e) {
    struct link like;
    if (check_spec(spec, e) || outlet_find(t, spec->to, &like, e)) return NULL;
    struct outflow *f = calloc(1, sizeof *f);
    struct parcel *parcels = calloc((size_t)arena_blocks(spec->arena), sizeof *parcels);
    struct link *l = NULL;
    pthread_mutex_lock(&t->lock);
    if (!f || !parcels)
        err_set(e, ERR_INTERNAL, "out of memory");
    else if (count_held(t) >= (int)LIMIT_KV_STREAMS)
        err_set(e, ERR_BUSY, "%u KV streams go out already: try again later", LIMIT_KV_STREAMS);
    else
        l = outlet_get_held(t, &like, e);
    if (l) {
        *f = (struct outflow){
            .next = t->outflows, .t = t, .spec = *spec, .ev = *ev, .arg = arg, .link = l, .parcels = parcels};
        arena_ref(spec->arena);
        t->outflows = f;
        l->flows++;
        burst_yield_held(t, spec->to);
    }
    pthread_mutex_unlock(&t->lock);
    if (l) return f;
    free(f);
    free(parcels);
    return NULL;
}

static void leave_held(struct outflow *f) {
    if (!f->link) return;
    outlet_take_back_held(f->link, f);
    outlet_left_held(f->link);
    f->link = NULL;
}

void outflow_close(struct outflow *f) {
    if (!f) return;
    pthread_mutex_lock(&f->t->lock);
    f->closed = true;
    leave_held(f);
    transfers_wake_held(f->t);
    pthread_mutex_unlock(&f->t->lock);
}

void outflow_free(struct outflow *f) {
    struct outflow **at = &f->t->outflows;
    pthread_mutex_lock(&f->t->lock);
    while (*at != f) at = &(*at)->next;
    *at = f->next;
    pthread_mutex_unlock(&f->t->lock);
    arena_unref(f->spec.arena);
    free(f->parcels);
    free(f);
}

void outflow_figures(const struct outflow *f, struct flow_figures *out) {
    pthread_mutex_lock(&f->t->lock);
    *out = f->figures;
    pthread_mutex_unlock(&f->t->lock);
}

// ---------------------------------------------------------------- rows
static int rows_parcel(const struct outflow *f, int32_t layer, enum kv_kind kind, int32_t first, int32_t count,
                       struct parcel *p, struct err *e) {
    const struct kv_shape *s = &f->spec.shape;
    if (layer < 0 || layer >= s->layers || (unsigned)kind >= KV_KINDS || first < 0 || count < 1 || count > s->unit ||
        first > INT32_MAX - count || count * kv_row_bytes(s, kind, s->dtype) > arena_block_bytes(f->spec.arena))
        return err_set(e, ERR_INVALID, "%d rows from %d of layer %d do not fit the model", count, first, layer);
    size_t bytes = (size_t)count * kv_row_bytes(s, kind, f->spec.wire);
    if (bytes > LIMIT_KV_FRAME) return err_set(e, ERR_LIMIT, "%zu bytes of rows are too many for a frame", bytes);
    p->head = (struct kvframe){.type = KVFRAME_ROWS,
                               .kind = (uint8_t)kind,
                               .dtype = (uint8_t)f->spec.wire,
                               .stream = f->spec.stream,
                               .layer = (uint32_t)layer,
                               .first = (uint32_t)first,
                               .count = (uint32_t)count,
                               .length = (uint32_t)bytes};
    p->elements = f->spec.wire == s->dtype ? 0 : (size_t)count * (size_t)s->width[kind];
    return 0;
}

// Of a state, `first` and `count` are the offset and the length of the whole; a block holds as much as fits.
static int state_parcel(const struct outflow *f, int32_t layer, enum kv_kind kind, int32_t first, int32_t count,
                        struct parcel *p, struct err *e) {
    size_t room = arena_block_bytes(f->spec.arena);
    if (layer || (int)kind || first < 0 || first >= count || first % ASSEMBLY_GRAIN)
        return err_set(e, ERR_INVALID, "byte %d of a state of %d bytes makes no sense", first, count);
    size_t bytes = (size_t)(count - first) < room ? (size_t)(count - first) : room / ASSEMBLY_GRAIN * ASSEMBLY_GRAIN;
    if (bytes > LIMIT_KV_FRAME) return err_set(e, ERR_LIMIT, "%zu bytes of a state are too many for a frame", bytes);
    p->head = (struct kvframe){.type = KVFRAME_STATE,
                               .stream = f->spec.stream,
                               .first = (uint32_t)first,
                               .count = (uint32_t)count,
                               .length = (uint32_t)bytes};
    p->elements = 0;
    return 0;
}

int outflow_rows(struct outflow *f, int32_t layer, enum kv_kind kind, int32_t first, int32_t count, int32_t block,
                 struct err *e) {
    struct parcel *p = arena_block(f->spec.arena, block) ? &f->parcels[block] : NULL;
    if (!p) return err_set(e, ERR_INVALID, "there is no block %d", block);
    pthread_mutex_lock(&f->t->lock);
    int rc = -1;
    if (!f->link)
        err_set(e, f->why.code, "%s", f->why.msg);
    else if (p->out)
        err_set(e, ERR_INVALID, "block %d is on its way already", block);
    else
        rc = (f->spec.shape.form == KV_ROWS ? rows_parcel : state_parcel)(f, layer, kind, first, count, p, e);
    if (!rc) {
        p->flow = f;
        p->block = block;
        p->rows = arena_block(f->spec.arena, block);
        p->out = true;
        f->n_out++;
        outlet_put_held(f->link, p);
    }
    pthread_mutex_unlock(&f->t->lock);
    return rc;
}

// ---------------------------------------------------------------- from the wires
void outflow_done_held(struct parcel *p) {
    p->next = p->flow->done;
    p->flow->done = p;
    transfers_wake_held(p->flow->t);
}

void outflow_fail_held(struct outflow *f, const struct err *why) {
    if (!f->link) return;
    leave_held(f);
    f->failed = true;
    f->why = *why;
    if (!f->closed) log_warn("a KV stream to node %s failed: %s", f->spec.to, why->msg);
    transfers_wake_held(f->t);
}

// ---------------------------------------------------------------- on the loop
// Tells the next thing; false where there is none.
static bool tell(struct outflow *f) {
    pthread_mutex_lock(&f->t->lock);
    struct parcel *p = f->done;
    bool failure = !p && f->failed && !f->closed && !f->told;
    if (p) {
        f->done = p->next;
        p->out = false;
        f->n_out--;
    }
    f->told |= failure;
    pthread_mutex_unlock(&f->t->lock);
    if (p && f->ev.sent) f->ev.sent(f->arg, p->block);
    if (p) arena_return(f->spec.arena, p->block);
    if (failure) f->ev.failed(f->arg, &f->why);
    return p || failure;
}

void outflow_settle(struct outflow *f) {
    while (tell(f)) continue;
    pthread_mutex_lock(&f->t->lock);
    bool over = f->closed && !f->n_out;
    pthread_mutex_unlock(&f->t->lock);
    if (over) outflow_free(f);
}

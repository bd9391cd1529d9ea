#include "cluster/assembly.h"
#include "base/limits.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static_assert((int)KVFRAME_KINDS == (int)KV_KINDS && (int)KVFRAME_DTYPES == (int)KV_DTYPES, "the wire's names");

enum state { FREE, FILLING, COMPLETE, TOLD };

struct unit {
    enum state state;
    int32_t first, count;
    size_t missing;    // pieces of rows; bytes of a state
    uint64_t *claimed; // a bit per layer and kind; per grain of a state
};

struct assembly {
    struct kv_shape shape;
    int dtype;          // of the frames so far; -1 = none came
    int32_t next, last; // position of the next unit to tell
    int32_t n_units;    // = slots
    size_t slot_bytes, words;
    struct unit *units;
    uint64_t *bits;
};

static size_t grains(size_t bytes) { return (bytes + ASSEMBLY_GRAIN - 1) / ASSEMBLY_GRAIN; }

static int check_spec(const struct kv_shape *s, int32_t first, int32_t last, int32_t n_slots, size_t slot_bytes,
                      struct err *e) {
    if (kv_shape_check(s, e)) return -1;
    if (first < 0 || last <= first) return err_set(e, ERR_INVALID, "no positions from %d to %d", first, last);
    if (n_slots < 1 || n_slots > (int32_t)LIMIT_KV_SLOTS || !slot_bytes || slot_bytes > INT32_MAX)
        return err_set(e, ERR_INVALID, "%d slots of %zu bytes", n_slots, slot_bytes);
    if (s->form == KV_ROWS && kv_slot_bytes(s, s->unit) > slot_bytes)
        return err_set(e, ERR_INVALID, "units of %zu bytes in slots of %zu", kv_slot_bytes(s, s->unit), slot_bytes);
    return 0;
}

struct assembly *assembly_new(const struct kv_shape *shape, int32_t first, int32_t last, int32_t n_slots,
                              size_t slot_bytes, struct err *e) {
    if (check_spec(shape, first, last, n_slots, slot_bytes, e)) return NULL;
    if (shape->form == KV_OPAQUE) n_slots = 1; // a state is one unit
    size_t bits = shape->form == KV_ROWS ? (size_t)shape->layers * KV_KINDS : grains(slot_bytes);
    struct assembly *a = malloc(sizeof *a);
    struct unit *units = calloc((size_t)n_slots, sizeof *units);
    uint64_t *all = calloc((size_t)n_slots * ((bits + 63) / 64), sizeof *all);
    if (!a || !units || !all) {
        free(a);
        free(units);
        free(all);
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *a = (struct assembly){.shape = *shape,
                           .dtype = -1,
                           .next = first,
                           .last = last,
                           .n_units = n_slots,
                           .slot_bytes = slot_bytes,
                           .words = (bits + 63) / 64,
                           .units = units,
                           .bits = all};
    for (int32_t i = 0; i < n_slots; i++) units[i].claimed = all + (size_t)i * a->words;
    return a;
}

void assembly_free(struct assembly *a) {
    if (!a) return;
    free(a->units);
    free(a->bits);
    free(a);
}

// ---------------------------------------------------------------- units
// The unit of exactly these positions; *clash is set where another one has some of them.
static struct unit *find_unit(const struct assembly *a, int32_t first, int32_t count, bool *clash) {
    *clash = false;
    for (int32_t i = 0; i < a->n_units; i++) {
        struct unit *u = &a->units[i];
        if (u->state == FREE || u->state == TOLD) continue; // what was told lies before a->next
        if (u->first == first && u->count == count) return u;
        if (u->first < first + count && first < u->first + u->count) *clash = true;
    }
    return NULL;
}

static struct unit *free_unit(const struct assembly *a) {
    for (int32_t i = 0; i < a->n_units; i++)
        if (a->units[i].state == FREE) return &a->units[i];
    return NULL;
}

static bool all_free(const struct unit *u, size_t from, size_t to) {
    for (size_t i = from; i < to; i++)
        if (u->claimed[i / 64] >> i % 64 & 1) return false;
    return true;
}

// Takes bits [from, to) of the unit [first, first + count), which is begun where it is not there yet.
static int take(struct assembly *a, int32_t first, int32_t count, size_t missing, size_t from, size_t to,
                struct unit **out, struct err *e) {
    bool clash;
    struct unit *u = find_unit(a, first, count, &clash);
    if (!u && clash) return err_set(e, ERR_INVALID, "%d from %d overlaps with another unit", count, first);
    if (u && (u->state != FILLING || !all_free(u, from, to)))
        return err_set(e, ERR_INVALID, "the same rows from %d for a second time", first);
    if (!u) {
        u = free_unit(a);
        if (!u) return err_set(e, ERR_BUSY, "a unit from %d, and no slot is free: more than was granted", first);
        memset(u->claimed, 0, a->words * sizeof *u->claimed);
        u->state = FILLING;
        u->first = first;
        u->count = count;
        u->missing = missing;
    }
    for (size_t i = from; i < to; i++) u->claimed[i / 64] |= 1ull << i % 64;
    *out = u;
    return 0;
}

// ---------------------------------------------------------------- frames
static int check_rows(const struct assembly *a, const struct kvframe *f, struct err *e) {
    const struct kv_shape *s = &a->shape;
    int64_t first = f->first, end = first + f->count;
    if (f->type != KVFRAME_ROWS || s->form != KV_ROWS)
        return err_set(e, ERR_INVALID, "a piece of a state where rows are expected");
    if (f->kind >= KV_KINDS || f->dtype >= KV_DTYPES || f->layer >= (uint32_t)s->layers)
        return err_set(e, ERR_INVALID, "rows of layer %u, and there are %d", f->layer, s->layers);
    if (a->dtype >= 0 && f->dtype != a->dtype)
        return err_set(e, ERR_INVALID, "rows as %s, and those before came as %s",
                       kv_dtype_name((enum kv_dtype)f->dtype), kv_dtype_name((enum kv_dtype)a->dtype));
    if (!f->count || f->count > (uint32_t)s->unit)
        return err_set(e, ERR_INVALID, "a unit of %u rows, the most is %d", f->count, s->unit);
    if (first < a->next)
        return err_set(e, ERR_INVALID, "rows from %u, and all before %d are there already", f->first, a->next);
    if (end > a->last)
        return err_set(e, ERR_INVALID, "rows up to %lld, beyond the last one, %d", (long long)end, a->last);
    if (f->dtype == KV_Q8_0 && s->width[f->kind] % 32)
        return err_set(e, ERR_INVALID, "rows of %d elements cannot be q8_0", s->width[f->kind]);
    size_t want = f->count * kv_row_bytes(s, (enum kv_kind)f->kind, (enum kv_dtype)f->dtype);
    if (f->length != want) return err_set(e, ERR_INVALID, "%u bytes of rows instead of %zu", f->length, want);
    return 0;
}

static int claim_rows(struct assembly *a, const struct kvframe *f, struct piece *p, struct err *e) {
    const struct kv_shape *s = &a->shape;
    struct unit *u;
    if (check_rows(a, f, e)) return -1;
    enum kv_kind kind = (enum kv_kind)f->kind;
    int32_t first = (int32_t)f->first, count = (int32_t)f->count, layer = (int32_t)f->layer;
    size_t bit = f->layer * (size_t)KV_KINDS + f->kind;
    if (take(a, first, count, (size_t)s->layers * KV_KINDS, bit, bit + 1, &u, e)) return -1;
    a->dtype = f->dtype;
    *p = (struct piece){.slot = (int32_t)(u - a->units),
                        .offset = kv_plane_offset(s, count, layer, kind),
                        .bytes = f->count * kv_row_bytes(s, kind, s->dtype),
                        .elements = f->count * (size_t)s->width[kind],
                        .from = (enum kv_dtype)f->dtype,
                        .to = s->dtype};
    return 0;
}

static int check_state(const struct assembly *a, const struct kvframe *f, struct err *e) {
    uint64_t end = (uint64_t)f->first + f->length;
    if (f->type != KVFRAME_STATE) return err_set(e, ERR_INVALID, "rows where a piece of a state is expected");
    if (a->next == INT32_MAX) return err_set(e, ERR_INVALID, "a piece of a state that is complete already");
    if (f->count > a->slot_bytes || f->count > INT32_MAX)
        return err_set(e, ERR_LIMIT, "a state of %u bytes, and there is room for %zu", f->count, a->slot_bytes);
    if (!f->length || end > f->count || f->first % ASSEMBLY_GRAIN || (end % ASSEMBLY_GRAIN && end != f->count))
        return err_set(e, ERR_INVALID, "%u bytes from byte %u of a state of %u bytes", f->length, f->first, f->count);
    return 0;
}

static int claim_state(struct assembly *a, const struct kvframe *f, struct piece *p, struct err *e) {
    struct unit *u;
    if (check_state(a, f, e)) return -1;
    size_t from = f->first / ASSEMBLY_GRAIN, to = grains((size_t)f->first + f->length);
    if (take(a, 0, (int32_t)f->count, f->count, from, to, &u, e)) return -1;
    *p = (struct piece){.slot = (int32_t)(u - a->units), .offset = f->first, .bytes = f->length};
    return 0;
}

int assembly_claim(struct assembly *a, const struct kvframe *f, struct piece *p, struct err *e) {
    return a->shape.form == KV_ROWS ? claim_rows(a, f, p, e) : claim_state(a, f, p, e);
}

bool assembly_arrived(struct assembly *a, const struct piece *p) {
    struct unit *u = &a->units[p->slot];
    u->missing -= a->shape.form == KV_ROWS ? 1 : p->bytes;
    if (!u->missing) u->state = COMPLETE;
    return !u->missing;
}

// ---------------------------------------------------------------- in order
static struct unit *complete_from(const struct assembly *a, int32_t at) {
    for (int32_t i = 0; i < a->n_units; i++) {
        struct unit *u = &a->units[i];
        if (u->state == COMPLETE && (u->first == at || a->shape.form == KV_OPAQUE)) return u;
    }
    return NULL;
}

bool assembly_next(struct assembly *a, int32_t *slot, int32_t *first, int32_t *count) {
    struct unit *u = complete_from(a, a->next);
    if (!u) return false;
    *slot = (int32_t)(u - a->units);
    *first = u->first;
    *count = u->count;
    u->state = TOLD;
    a->next = a->shape.form == KV_ROWS ? u->first + u->count : INT32_MAX;
    return true;
}

int assembly_installed(struct assembly *a, int32_t slot) {
    if (slot < 0 || slot >= a->n_units || a->units[slot].state != TOLD) return -1;
    a->units[slot].state = FREE;
    return 0;
}

int32_t assembly_upto(const struct assembly *a) {
    int32_t at = a->next;
    for (const struct unit *u; a->shape.form == KV_ROWS && (u = complete_from(a, at));) at = u->first + u->count;
    return at;
}

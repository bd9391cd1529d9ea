#include "engine/kv.h"
#include "base/limits.h"

#include <stdbool.h>
#include <string.h>

enum { Q8_0_ELEMENTS = 32, Q8_0_BYTES = 34 };
static const char *const dtype_names[KV_DTYPES] = {"f16", "q8_0"};

const char *kv_dtype_name(enum kv_dtype d) { return dtype_names[d]; }

int kv_dtype_of(const char *name, enum kv_dtype *out) {
    for (int d = 0; d < KV_DTYPES; d++) {
        if (strcmp(name, dtype_names[d])) continue;
        *out = (enum kv_dtype)d;
        return 0;
    }
    return -1;
}

size_t kv_bytes(enum kv_dtype d, size_t elements) {
    return d == KV_F16 ? 2 * elements : elements / Q8_0_ELEMENTS * Q8_0_BYTES;
}

size_t kv_row_bytes(const struct kv_shape *s, enum kv_kind k, enum kv_dtype d) {
    return kv_bytes(d, (size_t)s->width[k]);
}

size_t kv_token_bytes(const struct kv_shape *s, enum kv_dtype d) {
    return (size_t)s->layers * (kv_row_bytes(s, KV_K, d) + kv_row_bytes(s, KV_V, d));
}

static size_t plane_bytes(const struct kv_shape *s, int32_t rows, enum kv_kind k) {
    return (size_t)s->plane + (size_t)rows * kv_row_bytes(s, k, s->dtype);
}

size_t kv_plane_offset(const struct kv_shape *s, int32_t rows, int32_t layer, enum kv_kind k) {
    size_t at = (size_t)s->head + (size_t)rows * (size_t)s->cell + (size_t)s->middle;
    if (k == KV_V) at += (size_t)s->layers * plane_bytes(s, rows, KV_K);
    return at + (size_t)layer * plane_bytes(s, rows, k) + (size_t)s->plane;
}

size_t kv_slot_bytes(const struct kv_shape *s, int32_t rows) {
    return kv_plane_offset(s, rows, s->layers, KV_V) - (size_t)s->plane;
}

size_t kv_slot_most(const struct kv_shape *s) {
    return s->form == KV_OPAQUE ? (size_t)s->state : kv_slot_bytes(s, s->unit);
}

static bool within(int32_t v, int32_t lo, unsigned hi) { return v >= lo && v <= (int32_t)hi; }

int kv_shape_check(const struct kv_shape *s, struct err *e) {
    if ((int)s->form == KV_OPAQUE)
        return within(s->state, 0, LIMIT_KV_STATE)
                   ? 0
                   : err_set(e, ERR_INVALID, "the state of a sequence has %d bytes", s->state);
    if ((int)s->form != KV_ROWS || (unsigned)s->dtype >= KV_DTYPES)
        return err_set(e, ERR_INVALID, "a KV cache of an unknown form or type");
    if (!within(s->layers, 1, LIMIT_KV_LAYERS) || !within(s->unit, 1, LIMIT_KV_ROWS))
        return err_set(e, ERR_INVALID, "a KV cache of %d layers, in units of %d rows", s->layers, s->unit);
    for (int k = 0; k < KV_KINDS; k++)
        if (!within(s->width[k], 1, LIMIT_KV_WIDTH) || (s->dtype == KV_Q8_0 && s->width[k] % Q8_0_ELEMENTS))
            return err_set(e, ERR_INVALID, "a KV cache whose rows have %d elements", s->width[k]);
    if (!within(s->head, 0, LIMIT_KV_HEAD) || !within(s->cell, 0, LIMIT_KV_HEAD) ||
        !within(s->middle, 0, LIMIT_KV_HEAD) || !within(s->plane, 0, LIMIT_KV_HEAD))
        return err_set(e, ERR_INVALID, "a KV cache whose state makes no sense");
    if (kv_slot_bytes(s, s->unit) > LIMIT_KV_SLOT)
        return err_set(e, ERR_LIMIT, "a unit of the KV cache has %zu bytes, the most is %u", kv_slot_bytes(s, s->unit),
                       LIMIT_KV_SLOT);
    return 0;
}

#include "engine/worker/layout.h"
#include "base/limits.h"

#include <stdlib.h>
#include <string.h>

enum { PLANE_MOST = 64, NUMBER = 4 /* bytes of a number in a state */ };

static uint32_t number_at(const unsigned char *at) {
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

static size_t rows_bytes(const struct kv_shape *s, enum kv_kind k, int32_t count) {
    return (size_t)count * kv_row_bytes(s, k, s->dtype);
}

// ---------------------------------------------------------------- writing
static size_t plane_part(const struct kv_shape *s, int32_t layer, enum kv_kind k) {
    return (size_t)(s->head + s->cell + s->middle) + (size_t)(k * s->layers + layer) * (size_t)s->plane;
}

void layout_frame(const struct layout *l, unsigned char *blob, int32_t first, int32_t count) {
    const struct kv_shape *s = &l->shape;
    size_t cell = (size_t)s->cell, at = (size_t)s->head;
    memcpy(blob, l->parts, at);
    memcpy(blob + l->count_at, &(uint32_t){(uint32_t)count}, NUMBER);
    for (int32_t i = 0; i < count; i++, at += cell) {
        memcpy(blob + at, l->parts + s->head, cell);
        memcpy(blob + at, &(int32_t){first + i}, NUMBER);
    }
    memcpy(blob + at, l->parts + s->head + s->cell, (size_t)s->middle);
    for (int k = 0; k < KV_KINDS; k++)
        for (int32_t layer = 0; layer < s->layers; layer++)
            memcpy(blob + kv_plane_offset(s, count, layer, (enum kv_kind)k) - s->plane,
                   l->parts + plane_part(s, layer, (enum kv_kind)k), (size_t)s->plane);
}

// ---------------------------------------------------------------- reading
bool layout_rows(const struct layout *l, const unsigned char *blob, size_t size, int32_t first, int32_t count,
                 int32_t *row_at) {
    const struct kv_shape *s = &l->shape;
    if (size != kv_slot_bytes(s, count) || number_at(blob + l->count_at) != (uint32_t)count) return false;
    for (int32_t i = 0; i < count; i++) row_at[i] = -1;
    for (int32_t i = 0; i < count; i++) {
        int64_t position = (int32_t)number_at(blob + s->head + (size_t)i * (size_t)s->cell), at = position - first;
        if (at < 0 || at >= count || row_at[at] >= 0) return false;
        row_at[at] = i;
    }
    return true;
}

// ---------------------------------------------------------------- learning
// What a further row takes, and what is there without any: size = fixed + count * row. -1 where the samples disagree.
static int sizes_of(const struct sample *samples, int n, int64_t *fixed, int64_t *row) {
    int64_t rows = samples[0].count - samples[1].count, bytes = (int64_t)samples[0].size - (int64_t)samples[1].size;
    if (rows <= 0 || bytes <= 0 || bytes % rows) return -1;
    *row = bytes / rows;
    *fixed = (int64_t)samples[0].size - samples[0].count * *row;
    for (int i = 0; i < n; i++)
        if ((int64_t)samples[i].size != *fixed + samples[i].count * *row) return -1;
    return *fixed > 0 ? 0 : -1;
}

// The bytes in front of each plane, such that the rows known stand where they must. Planes end the blob.
static int find_planes(struct kv_shape *s, const struct sample *a, int64_t fixed,
                       const unsigned char *const *rows[KV_KINDS]) {
    for (s->plane = 0; s->plane <= PLANE_MOST; s->plane++) {
        int64_t front = fixed - 2 * (int64_t)s->layers * s->plane;
        if (front < NUMBER || front > (int64_t)LIMIT_KV_HEAD) continue;
        s->head = (int32_t)front;
        s->middle = 0;
        bool all = true;
        for (int k = 0; k < KV_KINDS && all; k++)
            for (int32_t layer = 0; layer < s->layers && all; layer++)
                all = !memcmp(a->blob + kv_plane_offset(s, a->count, layer, (enum kv_kind)k), rows[k][layer],
                              rows_bytes(s, (enum kv_kind)k, a->count));
        if (all) return 0;
    }
    return -1;
}

static bool cells_begin(const struct kv_shape *s, const struct sample *a, int32_t at) {
    for (int32_t i = 0; i < a->count; i++)
        if (number_at(a->blob + at + (size_t)i * (size_t)s->cell) != (uint32_t)(a->first + i)) return false;
    return true;
}

// Divides what stands in front of the planes into head, cells and middle.
static int find_cells(struct kv_shape *s, const struct sample *samples, int n) {
    int32_t front = s->head;
    for (s->head = NUMBER; s->head <= front; s->head++) {
        int fit = 0;
        while (fit < n && cells_begin(s, &samples[fit], s->head)) fit++;
        s->middle = front - s->head;
        if (fit == n) return 0;
    }
    return -1;
}

static int find_count(struct layout *l, const struct sample *samples, int n) {
    for (l->count_at = 0; l->count_at + NUMBER <= l->shape.head; l->count_at++) {
        int fit = 0;
        while (fit < n && number_at(samples[fit].blob + l->count_at) == (uint32_t)samples[fit].count) fit++;
        if (fit == n) return 0;
    }
    return -1;
}

static int copy_parts(struct layout *l, const struct sample *a) {
    const struct kv_shape *s = &l->shape;
    l->parts = malloc(plane_part(s, s->layers, KV_V) + 1);
    if (!l->parts) return -1;
    memcpy(l->parts, a->blob, (size_t)(s->head + s->cell));
    memcpy(l->parts + s->head + s->cell, a->blob + s->head + (size_t)a->count * (size_t)s->cell, (size_t)s->middle);
    for (int k = 0; k < KV_KINDS; k++)
        for (int32_t layer = 0; layer < s->layers; layer++)
            memcpy(l->parts + plane_part(s, layer, (enum kv_kind)k),
                   a->blob + kv_plane_offset(s, a->count, layer, (enum kv_kind)k) - s->plane, (size_t)s->plane);
    return 0;
}

// Whether the sample, written anew around its rows, is the same to the byte.
static bool writes_the_same(const struct layout *l, const struct sample *a) {
    const struct kv_shape *s = &l->shape;
    unsigned char *copy = malloc(a->size);
    if (!copy) return false;
    memset(copy, 0xA5, a->size);
    for (int k = 0; k < KV_KINDS; k++)
        for (int32_t layer = 0; layer < s->layers; layer++) {
            size_t at = kv_plane_offset(s, a->count, layer, (enum kv_kind)k);
            memcpy(copy + at, a->blob + at, rows_bytes(s, (enum kv_kind)k, a->count));
        }
    layout_frame(l, copy, a->first, a->count);
    bool same = !memcmp(copy, a->blob, a->size);
    free(copy);
    return same;
}

static int learn(struct layout *l, const struct sample *samples, int n, const unsigned char *const *rows[KV_KINDS],
                 struct err *e) {
    struct kv_shape *s = &l->shape;
    int64_t fixed, row;
    if (n < LAYOUT_SAMPLES || sizes_of(samples, n, &fixed, &row))
        return err_set(e, ERR_INVALID, "its state does not grow by the same with each token");
    int64_t cell = row - (int64_t)kv_token_bytes(s, s->dtype);
    if (cell < NUMBER || cell > (int64_t)LIMIT_KV_HEAD)
        return err_set(e, ERR_INVALID, "its state holds %lld bytes per token, its rows %zu", (long long)row,
                       kv_token_bytes(s, s->dtype));
    s->cell = (int32_t)cell;
    if (find_planes(s, &samples[0], fixed, rows))
        return err_set(e, ERR_INVALID, "its rows do not stand in its state one after the other");
    if (find_cells(s, samples, n) || find_count(l, samples, n))
        return err_set(e, ERR_INVALID, "its state does not tell positions in a known way");
    if (kv_shape_check(s, e)) return -1;
    if (copy_parts(l, &samples[0])) return err_set(e, ERR_INTERNAL, "out of memory");
    for (int i = 0; i < n; i++)
        if (!writes_the_same(l, &samples[i]))
            return err_set(e, ERR_INVALID, "its state holds more than rows and positions");
    return 0;
}

int layout_learn(struct layout *l, const struct kv_shape *s, const struct sample *samples, int n,
                 const unsigned char *const *rows[KV_KINDS], struct err *e) {
    *l = (struct layout){.shape = *s};
    if (!learn(l, samples, n, rows, e)) return 0;
    layout_close(l);
    return -1;
}

void layout_close(struct layout *l) {
    free(l->parts);
    l->parts = NULL;
    l->shape = (struct kv_shape){.form = KV_OPAQUE};
}

// The form of libllama's state of one sequence, learned from samples instead of known: engine/kv.h shows its parts.
// Everything that is not rows is taken over from the samples; what varies in it is found (the number of cells, the
// position in each cell), and that nothing else does is proven by writing the samples anew. Pure; any thread.
#pragma once

#include "engine/kv.h"
#include <stdbool.h>

struct sample { // the state of a sequence that holds positions [first, first + count)
    const unsigned char *blob;
    size_t size;
    int32_t first, count;
};

struct layout {
    struct kv_shape shape;
    unsigned char *parts; // head, one cell, middle, then a head for each plane; owned
    int32_t count_at;     // in the head: uint32 of the number of cells
};

enum { LAYOUT_SAMPLES = 3 }; // at least so many, of different sizes, the first being the largest

// The shape's dtype, layers, unit and widths are given. rows[kind][layer]: the rows of samples[0]. ERR_INVALID where
// the samples are of no such form.
int layout_learn(struct layout *l, const struct kv_shape *s, const struct sample *samples, int n,
                 const unsigned char *const *rows[KV_KINDS], struct err *e) MUST_USE;
void layout_close(struct layout *l);

// Writes everything that stands around the rows of a unit of `count` rows.
void layout_frame(const struct layout *l, unsigned char *blob, int32_t first, int32_t count);

// Where the rows of positions [first, first + count) stand in a blob of just these: row_at[i] for position first + i.
// False where the blob holds anything else.
bool layout_rows(const struct layout *l, const unsigned char *blob, size_t size, int32_t first, int32_t count,
                 int32_t *row_at);

// The KV cache as both sides of a KV stream see it: rows of K and V, one per layer and position, carried in units.
// Pure; any thread.
//
// A unit is rows of consecutive positions [first, first + rows) of every layer, K and V: what is installed at once. It
// is assembled in a slot of shared memory, laid out as libllama's own state of a sequence, so that the worker installs
// it without another copy:
//     head | rows x cell | middle | layers x (plane | rows x K row) | layers x (plane | rows x V row)
// The layout is proven when a model is loaded (engine/worker/probe.h). Models whose memory is not of this form
// (sliding windows, recurrent, hybrid) have form KV_OPAQUE: the state of a sequence travels whole, once it is paused,
// in pieces that each begin at a multiple of KV_GRAIN, and is installed at once.
#pragma once

#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

enum kv_kind { KV_K, KV_V, KV_KINDS };
enum kv_dtype { KV_F16, KV_Q8_0, KV_DTYPES };
enum kv_form { KV_ROWS, KV_OPAQUE };
enum { KV_GRAIN = 64 };

struct kv_shape {
    enum kv_form form;
    enum kv_dtype dtype;               // of the cache
    int32_t layers;                    // that have rows
    int32_t unit;                      // most rows of a unit
    int32_t width[KV_KINDS];           // elements of a row
    int32_t head, cell, middle, plane; // bytes, see above
    int32_t state;                     // KV_OPAQUE: most bytes of a state, 0 = it cannot travel; else 0
};

const char *kv_dtype_name(enum kv_dtype d);            // "f16", "q8_0"
int kv_dtype_of(const char *name, enum kv_dtype *out); // -1: unknown

// Bytes of `elements` numbers; q8_0 packs 32 of them into 34 bytes, so that elements must be a multiple of 32 there.
size_t kv_bytes(enum kv_dtype d, size_t elements);
size_t kv_row_bytes(const struct kv_shape *s, enum kv_kind k, enum kv_dtype d);
size_t kv_token_bytes(const struct kv_shape *s, enum kv_dtype d); // of all layers, K and V

size_t kv_slot_bytes(const struct kv_shape *s, int32_t rows);
size_t kv_slot_most(const struct kv_shape *s); // of a unit, or of a state
size_t kv_plane_offset(const struct kv_shape *s, int32_t rows, int32_t layer, enum kv_kind k); // of its first row

// Refuses shapes whose sizes would overflow or exceed the bounds of base/limits.h (a worker's word is not trusted).
int kv_shape_check(const struct kv_shape *s, struct err *e) MUST_USE;

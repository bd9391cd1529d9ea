// One frame of a KV stream on the wire: a head of KVFRAME_BYTES, then `length` bytes. All numbers little-endian.
//     0 magic "NKV1" | 4 type | 5 kind | 6 dtype | 7 zero | 8 stream u64 | 16 layer u32 | 20 first u32 | 24 count u32 |
//     28 length u32 | 32 checksum u64 (XXH3 of the payload, seeded with that of the 32 bytes before)
// Of a piece of a state, kind, dtype and layer are 0; of a probe, which carries bytes that mean nothing, first and
// count are, too. Pure; any thread.
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KVFRAME_BYTES = 40, KVFRAME_KINDS = 2, KVFRAME_DTYPES = 2 };           // enum kv_kind's and kv_dtype's
enum kvframe_type { KVFRAME_ROWS = 1, KVFRAME_STATE = 2, KVFRAME_PROBE = 3 }; // of a layer; of an opaque state

struct kvframe {
    enum kvframe_type type;
    uint8_t kind, dtype; // enum kv_kind, enum kv_dtype: what the payload holds
    uint64_t stream;
    uint32_t layer;
    uint32_t first, count; // positions; of a state: offset in bytes, total bytes
    uint32_t length;
    uint64_t checksum;
};

void kvframe_encode(const struct kvframe *f, uint8_t out[KVFRAME_BYTES]); // without computing the checksum
// Fails on a wrong magic, an unknown type, a kind or dtype out of range, a length of 0 or above LIMIT_KV_FRAME (of a
// probe LIMIT_KV_PROBE), and where `first` and `count` do not fit together or are 2^31 and more. *f is valid only after
// success.
int kvframe_decode(const uint8_t in[KVFRAME_BYTES], struct kvframe *f, struct err *e) MUST_USE;
uint64_t kvframe_checksum(const struct kvframe *f, const void *payload); // of the head's fields and f->length bytes

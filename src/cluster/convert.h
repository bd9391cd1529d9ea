// Rows between the cache's type and the wire's. q8_0 is ggml's block_q8_0, bit for bit as quantize_row_q8_0_ref makes
// it: 32 numbers share a f16 scale d = amax / 127 and are kept as round(x / d), 34 bytes; |error| <= amax / 254 (and
// what rounding the scale to f16 adds, at most amax / 2048). Not a number counts as 0, infinite as the largest f16.
// Pure; any thread.
#pragma once

#include "engine/kv.h"

// `elements` is a multiple of 32 where one side is q8_0; memory need not be aligned and must not overlap. The same
// types are a copy.
void convert_rows(enum kv_dtype from, const void *src, enum kv_dtype to, void *dst, size_t elements);

// The same without SIMD, for tests: every path gives the same bits.
void convert_rows_portable(enum kv_dtype from, const void *src, enum kv_dtype to, void *dst, size_t elements);
const char *convert_path(void); // "avx2", "neon" or "portable": what convert_rows uses here

#include "serve/wire.h"

enum { PACKED = 32 }; // elements of a block of q8_0

enum kv_dtype wire_choose(const struct kv_shape *shape, double rows_s, double bytes_s) {
    if (shape->form != KV_ROWS || shape->dtype != KV_F16 || !(rows_s > 0) || !(bytes_s > 0)) return shape->dtype;
    if (shape->width[KV_K] % PACKED || shape->width[KV_V] % PACKED) return KV_F16;
    double needed = rows_s * (double)kv_token_bytes(shape, KV_F16) * WIRE_MARGIN;
    return needed <= bytes_s ? KV_F16 : KV_Q8_0;
}

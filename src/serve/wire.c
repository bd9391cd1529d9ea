#include "serve/wire.h"

#include <stdbool.h>
#include <string.h>

enum { PACKED = 32 }; // elements of a block of q8_0

static bool packs(const struct kv_shape *s) {
    return s->form == KV_ROWS && s->dtype == KV_F16 && !(s->width[KV_K] % PACKED) && !(s->width[KV_V] % PACKED);
}

enum kv_dtype wire_choose(const struct kv_shape *shape, double rows_s, double bytes_s) {
    if (!packs(shape) || !(rows_s > 0) || !(bytes_s > 0)) return shape->dtype;
    double needed = rows_s * (double)kv_token_bytes(shape, KV_F16) * WIRE_MARGIN;
    return needed <= bytes_s ? KV_F16 : KV_Q8_0;
}

enum kv_dtype wire_type(const struct kv_shape *shape, const char *wish, double rows_s, double bytes_s) {
    enum kv_dtype wished;
    if (kv_dtype_of(wish, &wished)) return wire_choose(shape, rows_s, bytes_s);
    return packs(shape) ? wished : shape->dtype;
}

const char *wire_wish(const char *const *words, int n) {
    for (int i = 0; i < n; i++)
        if (*words[i] && strcmp(words[i], "auto") != 0) return words[i];
    return "";
}

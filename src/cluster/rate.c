#include "cluster/rate.h"

void rate_begin(struct rate *r, uint64_t skip_bytes, uint64_t skip_ns) {
    *r = (struct rate){.skip_bytes = skip_bytes, .skip_ns = skip_ns};
}

void rate_add(struct rate *r, uint64_t bytes, uint64_t now_ns) {
    if (!r->bytes) {
        r->first_bytes = bytes;
        r->begun_ns = now_ns;
    }
    r->bytes += bytes;
    r->last_ns = now_ns;
    if (r->warm || (r->bytes < r->skip_bytes && now_ns - r->begun_ns < r->skip_ns)) return;
    r->warm = true;
    r->marked_bytes = r->bytes;
    r->mark_ns = now_ns;
}

bool rate_get(const struct rate *r, uint64_t *bytes, uint64_t *ns) {
    bool warm = r->warm && r->bytes > r->marked_bytes && r->last_ns > r->mark_ns;
    *bytes = r->bytes - (warm ? r->marked_bytes : r->first_bytes);
    *ns = r->last_ns - (warm ? r->mark_ns : r->begun_ns);
    return *bytes && *ns;
}

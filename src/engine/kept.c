#include "engine/kept.h"

static const uint64_t ODD = 0x9e3779b97f4a7c15u;

// An odd multiplication carries each bit upwards, a shift brings the upper half down again.
static uint64_t mixed(uint64_t hash, int32_t token) {
    hash = (hash ^ (uint32_t)token) * ODD;
    return hash ^ hash >> 32;
}

void kept_hashes(const int32_t *tokens, int32_t n, uint64_t *out) {
    uint64_t hash = ODD;
    for (int32_t i = 0; i < n; i++) out[i] = hash = mixed(hash, tokens[i]);
}

static void add(struct kept_marks *m, const uint64_t *hashes, int32_t tokens) {
    if (m->n < KEPT_MARKS) m->list[m->n++] = (struct kept_mark){tokens, hashes[tokens - 1]};
}

void kept_add(struct kept_marks *m, const uint64_t *hashes, int32_t n) {
    int64_t block = KEPT_BLOCK;
    if (n < 1) return;
    while (n / block >= KEPT_EACH) block *= 2;
    add(m, hashes, n);
    for (int64_t at = block; at < n; at += block) add(m, hashes, (int32_t)at);
}

int32_t kept_shared(const struct kept_marks *m, const uint64_t *hashes, int32_t n) {
    int32_t best = 0;
    for (int32_t i = 0; i < m->n; i++) {
        const struct kept_mark *one = &m->list[i];
        if (one->tokens > best && one->tokens <= n && hashes[one->tokens - 1] == one->hash) best = one->tokens;
    }
    return best;
}

json_t *kept_encode(const struct kept_marks *m) {
    json_t *list = json_array();
    for (int32_t i = 0; i < m->n; i++)
        json_array_append_new(list, json_pack("[i, I]", (int)m->list[i].tokens, (json_int_t)m->list[i].hash));
    return list;
}

int kept_decode(const json_t *list, struct kept_marks *m, struct err *e) {
    m->n = 0;
    if (list && !json_is_null(list) && !json_is_array(list)) return err_param(e, "kept", "'kept' is no list");
    for (size_t i = 0; i < json_array_size(list) && i < KEPT_MARKS; i++) {
        const json_t *one = json_array_get(list, i), *tokens = json_array_get(one, 0), *hash = json_array_get(one, 1);
        json_int_t n = json_integer_value(tokens);
        if (json_array_size(one) != 2 || !json_is_integer(tokens) || !json_is_integer(hash) || n < 1 || n > INT32_MAX) {
            m->n = 0;
            return err_param(e, "kept", "a mark of what is kept is [tokens, hash]");
        }
        m->list[m->n++] = (struct kept_mark){(int32_t)n, (uint64_t)json_integer_value(hash)};
    }
    return 0;
}

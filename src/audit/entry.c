#include "audit/entry.h"
#include "audit/crc32c.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LENGTH = 4, CRC = 4 };

static const char *const names[ENTRY_RECORDS] = {
    [ENTRY_INTENT] = "intent",   [ENTRY_DENY] = "deny",       [ENTRY_PREFILL_DONE] = "prefill_done",
    [ENTRY_KV_SENT] = "kv_sent", [ENTRY_KV_RECV] = "kv_recv", [ENTRY_OUTCOME] = "outcome",
    [ENTRY_POLICY] = "policy",   [ENTRY_ROSTER] = "roster",   [ENTRY_AGENT] = "agent",
    [ENTRY_PRUNE] = "prune",     [ENTRY_RECOVER] = "recover", [ENTRY_GAP] = "gap",
    [ENTRY_RESERVE] = "reserve", [ENTRY_WITNESS] = "witness",
};

const char *entry_type_name(enum entry_type t) { return (unsigned)t < ENTRY_RECORDS ? names[t] : NULL; }

static void put32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t check_of(const uint8_t head[ENTRY_HEAD], const void *data, size_t n) {
    uint32_t crc = crc32c(0, head, LENGTH);
    crc = crc32c(crc, head + LENGTH + CRC, 1);
    return crc32c(crc, data, n);
}

void entry_head(enum entry_type type, const void *data, size_t n, uint8_t out[ENTRY_HEAD]) {
    assert(n <= ENTRY_MAX);
    put32(out, (uint32_t)n);
    out[LENGTH + CRC] = (uint8_t)type;
    put32(out + LENGTH, check_of(out, data, n));
}

int entry_read(const uint8_t *p, size_t n, struct entry *f, size_t *used) {
    if (n < ENTRY_HEAD) return 0;
    size_t len = get32(p);
    enum entry_type type = p[LENGTH + CRC];
    if (len > ENTRY_MAX || (!entry_type_name(type) && type != ENTRY_CHECKPOINT)) return -1;
    if (n - ENTRY_HEAD < len) return 0;
    if (get32(p + LENGTH) != check_of(p, p + ENTRY_HEAD, len)) return -1;
    *f = (struct entry){.type = type, .data = (const char *)p + ENTRY_HEAD, .n = len};
    *used = ENTRY_HEAD + len;
    return 1;
}

void record_begin_write(const struct record_begin *r, char out[RECORD_BEGIN], size_t *n) {
    int len =
        snprintf(out, RECORD_BEGIN, "{\"v\":1,\"seq\":%" PRIu64 ",\"type\":\"%s\",", r->seq, entry_type_name(r->type));
    if (r->intent != RECORD_ALONE)
        len += snprintf(out + len, RECORD_BEGIN - (size_t)len, "\"intent\":%" PRIu64 ",", r->intent);
    *n = (size_t)len;
}

// ---------------------------------------------------------------- reading
static bool take(const char **p, size_t *n, const char *word) {
    size_t len = strlen(word);
    if (*n < len || memcmp(*p, word, len) != 0) return false;
    *p += len;
    *n -= len;
    return true;
}

static bool take_number(const char **p, size_t *n, uint64_t *out) {
    const char *at = *p, *end = *p + *n;
    uint64_t v = 0;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        if (v > (UINT64_MAX >> 1) / 10 - 1) return false;
        v = v * 10 + (uint64_t)(*at - '0');
    }
    if (at == *p || (**p == '0' && at - *p > 1)) return false;
    *n -= (size_t)(at - *p);
    *p = at;
    *out = v;
    return true;
}

bool record_begin_read(const struct entry *f, struct record_begin *out) {
    const char *p = f->data, *name = entry_type_name(f->type);
    size_t n = f->n;
    *out = (struct record_begin){.type = f->type, .intent = RECORD_ALONE};
    if (!name || !take(&p, &n, "{\"v\":1,\"seq\":") || !take_number(&p, &n, &out->seq) ||
        !take(&p, &n, ",\"type\":\"") || !take(&p, &n, name) || !take(&p, &n, "\",") || f->data[f->n - 1] != '}')
        return false;
    return !take(&p, &n, "\"intent\":") || (take_number(&p, &n, &out->intent) && take(&p, &n, ","));
}

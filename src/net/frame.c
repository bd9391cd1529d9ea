#include "net/frame.h"
#include "base/limits.h"

#include <string.h>
#include <xxhash.h>

enum { AT_TYPE = 4, AT_KIND, AT_DTYPE, AT_ZERO, AT_STREAM = 8, AT_LAYER = 16, AT_FIRST = 20, AT_COUNT = 24 };
enum { AT_LENGTH = 28, AT_CHECKSUM = 32, HASHED = AT_CHECKSUM };
static const char magic[] = {'N', 'K', 'V', '1'};

static void put(uint8_t *out, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) out[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t get(const uint8_t *in, int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint64_t)in[i] << 8 * i;
    return v;
}

static uint32_t get32(const uint8_t *in) { return (uint32_t)get(in, 4); }

void kvframe_encode(const struct kvframe *f, uint8_t out[KVFRAME_BYTES]) {
    memcpy(out, magic, sizeof magic);
    out[AT_TYPE] = (uint8_t)f->type;
    out[AT_KIND] = f->kind;
    out[AT_DTYPE] = f->dtype;
    out[AT_ZERO] = 0;
    put(out + AT_STREAM, f->stream, 8);
    put(out + AT_LAYER, f->layer, 4);
    put(out + AT_FIRST, f->first, 4);
    put(out + AT_COUNT, f->count, 4);
    put(out + AT_LENGTH, f->length, 4);
    put(out + AT_CHECKSUM, f->checksum, 8);
}

static int check_rows(const struct kvframe *f, struct err *e) {
    if (f->kind >= KVFRAME_KINDS || f->dtype >= KVFRAME_DTYPES)
        return err_set(e, ERR_INVALID, "a frame of an unknown kind %u or type %u", f->kind, f->dtype);
    if (!f->count || f->first > INT32_MAX || f->count > INT32_MAX - f->first)
        return err_set(e, ERR_INVALID, "a frame of %u rows from position %u", f->count, f->first);
    return 0;
}

static int check_state(const struct kvframe *f, struct err *e) {
    if (f->kind || f->dtype || f->layer) return err_set(e, ERR_INVALID, "a frame of a state that names rows");
    if (f->count > INT32_MAX || f->first >= f->count || f->length > f->count - f->first)
        return err_set(e, ERR_INVALID, "a frame with %u bytes from byte %u of a state of %u bytes", f->length, f->first,
                       f->count);
    return 0;
}

static int check_probe(const struct kvframe *f, struct err *e) {
    if (f->kind || f->dtype || f->layer || f->first || f->count)
        return err_set(e, ERR_INVALID, "a frame of a probe that names rows");
    if (f->length <= LIMIT_KV_PROBE) return 0;
    return err_set(e, ERR_INVALID, "a frame of a probe of %u bytes, the most is %u", f->length, LIMIT_KV_PROBE);
}

int kvframe_decode(const uint8_t in[KVFRAME_BYTES], struct kvframe *f, struct err *e) {
    if (memcmp(in, magic, sizeof magic) || in[AT_ZERO]) return err_set(e, ERR_INVALID, "not a frame of a KV stream");
    *f = (struct kvframe){.type = (enum kvframe_type)in[AT_TYPE],
                          .kind = in[AT_KIND],
                          .dtype = in[AT_DTYPE],
                          .stream = get(in + AT_STREAM, 8),
                          .layer = get32(in + AT_LAYER),
                          .first = get32(in + AT_FIRST),
                          .count = get32(in + AT_COUNT),
                          .length = get32(in + AT_LENGTH),
                          .checksum = get(in + AT_CHECKSUM, 8)};
    if (!f->length || f->length > LIMIT_KV_FRAME)
        return err_set(e, ERR_INVALID, "a frame of %u bytes, the most is %u", f->length, LIMIT_KV_FRAME);
    if (f->type == KVFRAME_ROWS) return check_rows(f, e);
    if (f->type == KVFRAME_STATE) return check_state(f, e);
    if (f->type == KVFRAME_PROBE) return check_probe(f, e);
    return err_set(e, ERR_INVALID, "a frame of an unknown type %d", (int)f->type);
}

uint64_t kvframe_checksum(const struct kvframe *f, const void *payload) {
    uint8_t head[KVFRAME_BYTES];
    kvframe_encode(f, head);
    return XXH3_64bits_withSeed(payload, f->length, XXH3_64bits(head, HASHED));
}

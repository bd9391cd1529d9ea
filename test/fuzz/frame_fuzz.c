// net/frame and cluster/assembly: a receiver that is fed by a hostile sender, without sockets. Input: a byte that
// chooses the model, then orders: a head as 40 raw bytes, a head from a few small numbers, the arrival of a claimed
// frame's bytes, telling, installing. A shadow of the slots watches that nobody writes outside, nobody writes twice,
// and that what is told is whole.
#include "base/limits.h"
#include "cluster/assembly.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FIRST = 8, LAST = 60, SLOTS = 3, LAYERS = 3, UNIT = 16, STATE = 5000, PENDING = 32, ROOM = 32 << 10 };
enum mark { UNTOUCHED, CLAIMED, ARRIVED };

static struct receiver {
    struct kv_shape shape;
    struct assembly *a;
    size_t slot_bytes;
    uint8_t marks[SLOTS][ROOM];
    struct piece pending[PENDING];
    int n_pending;
    enum kv_dtype wire; // of the rows so far; KV_DTYPES: none came
    int32_t upto;
    bool held[SLOTS]; // told and not installed
} r;

struct input {
    const uint8_t *at;
    size_t left;
};

static uint8_t next_byte(struct input *in) {
    if (!in->left) return 0;
    in->left--;
    return *in->at++;
}

static void check(bool ok) {
    if (!ok) abort();
}

static void start(uint8_t model) {
    struct err e;
    memset(&r, 0, sizeof r);
    r.shape = (struct kv_shape){.form = KV_ROWS,
                                .dtype = model & 2 ? KV_Q8_0 : KV_F16,
                                .layers = LAYERS,
                                .unit = UNIT,
                                .width = {64, model & 2 ? 32 : 20},
                                .head = 10,
                                .cell = 6,
                                .middle = 4,
                                .plane = 12};
    if (model & 1) r.shape = (struct kv_shape){.form = KV_OPAQUE};
    r.slot_bytes = model & 1 ? STATE : kv_slot_bytes(&r.shape, UNIT);
    check(r.slot_bytes <= ROOM);
    r.a = assembly_new(&r.shape, FIRST, LAST, SLOTS, r.slot_bytes, &e);
    check(r.a != NULL);
    r.upto = FIRST;
    r.wire = KV_DTYPES;
}

static void mark(const struct piece *p, enum mark from, enum mark to) {
    uint8_t *at = r.marks[p->slot] + p->offset;
    for (size_t i = 0; i < p->bytes; i++) {
        check(at[i] == from);
        at[i] = (uint8_t)to;
    }
}

static void offer(const struct kvframe *f) {
    struct err e = {.code = ERR_NONE};
    struct piece p;
    if (r.n_pending == PENDING) return;
    if (assembly_claim(r.a, f, &p, &e)) {
        check(e.code != ERR_NONE && e.msg[0]);
        return;
    }
    check(f->type != KVFRAME_PROBE); // a measurement's bytes have no place in a cache
    check(p.slot >= 0 && p.slot < SLOTS && p.offset <= r.slot_bytes && p.bytes <= r.slot_bytes - p.offset);
    check(!r.held[p.slot] && p.bytes > 0);
    check(r.shape.form == KV_OPAQUE || p.bytes == kv_bytes(p.to, p.elements));
    check(r.shape.form == KV_OPAQUE ? p.bytes == f->length : f->length == kv_bytes(p.from, p.elements));
    check(r.shape.form == KV_OPAQUE || r.wire == KV_DTYPES || r.wire == p.from); // all rows travel as one type
    r.wire = p.from;
    mark(&p, UNTOUCHED, CLAIMED);
    r.pending[r.n_pending++] = p;
}

static void raw_head(struct input *in) {
    uint8_t head[KVFRAME_BYTES], again[KVFRAME_BYTES];
    struct kvframe f;
    struct err e = {.code = ERR_NONE};
    for (size_t i = 0; i < sizeof head; i++) head[i] = next_byte(in);
    if (kvframe_decode(head, &f, &e)) {
        check(e.code != ERR_NONE);
        return;
    }
    kvframe_encode(&f, again);
    check(!memcmp(head, again, sizeof head));
    check(f.length > 0 && f.length <= (f.type == KVFRAME_PROBE ? LIMIT_KV_PROBE : LIMIT_KV_FRAME));
    offer(&f);
}

static void small_head(struct input *in) {
    struct kvframe f = {.type = KVFRAME_ROWS};
    uint8_t what = next_byte(in);
    f.layer = what & 3;
    f.kind = what >> 2 & 1;
    f.dtype = what >> 3 & 1;
    f.first = next_byte(in);
    f.count = next_byte(in);
    if (r.shape.form == KV_ROWS) {
        f.length = (uint32_t)(f.count * kv_row_bytes(&r.shape, (enum kv_kind)f.kind, (enum kv_dtype)f.dtype));
    } else {
        f = (struct kvframe){.type = KVFRAME_STATE, .first = f.first * 64, .count = 4800 + f.count % 2 * 77};
        f.length = (what + 1u) * 64;
        if (f.first + f.length > f.count) f.length = f.count - f.first;
    }
    f.length += what >> 6 == 3 ? 1 : 0;
    offer(&f);
}

static void arrive(struct input *in) {
    if (!r.n_pending) return;
    int i = next_byte(in) % r.n_pending;
    struct piece p = r.pending[i];
    r.pending[i] = r.pending[--r.n_pending];
    mark(&p, CLAIMED, ARRIVED);
    assembly_arrived(r.a, &p);
}

static void check_whole(int32_t slot, int32_t count) {
    if (r.shape.form == KV_OPAQUE) {
        for (int32_t i = 0; i < count; i++) check(r.marks[slot][i] == ARRIVED);
        return;
    }
    for (int32_t layer = 0; layer < LAYERS; layer++) {
        for (int k = 0; k < KV_KINDS; k++) {
            size_t at = kv_plane_offset(&r.shape, count, layer, (enum kv_kind)k);
            size_t n = (size_t)count * kv_row_bytes(&r.shape, (enum kv_kind)k, r.shape.dtype);
            for (size_t i = 0; i < n; i++) check(r.marks[slot][at + i] == ARRIVED);
        }
    }
}

static void tell(void) {
    int32_t slot, first, count, upto = assembly_upto(r.a);
    if (!assembly_next(r.a, &slot, &first, &count)) {
        check(r.shape.form == KV_OPAQUE || upto == r.upto);
        return;
    }
    check(slot >= 0 && slot < SLOTS && !r.held[slot] && count > 0);
    if (r.shape.form == KV_ROWS) check(first == r.upto && first + count <= LAST && first + count <= upto);
    check_whole(slot, count);
    r.upto = first + count;
    r.held[slot] = true;
}

static void install(struct input *in) {
    int32_t slot = (int32_t)next_byte(in) - 1;
    bool fine = slot >= 0 && slot < SLOTS && r.held[slot];
    check(assembly_installed(r.a, slot) == (fine ? 0 : -1));
    if (!fine) return;
    r.held[slot] = false;
    memset(r.marks[slot], UNTOUCHED, sizeof r.marks[slot]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    start(next_byte(&in));
    for (int orders = 0; in.left && orders < 2000; orders++) {
        switch (next_byte(&in) % 5) {
        case 0: raw_head(&in); break;
        case 1: small_head(&in); break;
        case 2: arrive(&in); break;
        case 3: tell(); break;
        default: install(&in); break;
        }
    }
    assembly_free(r.a);
    return 0;
}

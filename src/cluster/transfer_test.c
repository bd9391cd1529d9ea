// KV streams over real sockets, between two nodes in one process and from senders that do what they like.
#include "base/limits.h"
#include "base/log.h"
#include "cluster/convert.h"
#include "cluster/datalink.h"
#include "cluster/transfer.h"
#include "cluster/transfer_fixture.h"
#include "net/frame.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>

#include <cmocka.h>

enum { LAYERS = 3, UNIT = 32, WIDTH = 64, PIECES = LAYERS * KV_KINDS, STREAMS = 8, ARENA = 1 << 20, HANG_S = 60 };

static struct event_base *base;
static struct side side[SIDES];
static struct event *hang;
static bool hung;
static struct err e;

static struct kv_shape shape_of(enum kv_dtype dtype) {
    return (struct kv_shape){.form = KV_ROWS,
                             .dtype = dtype,
                             .layers = LAYERS,
                             .unit = UNIT,
                             .width = {WIDTH, WIDTH / 2},
                             .head = 16,
                             .cell = 12,
                             .middle = 8,
                             .plane = 20};
}

static void on_hang(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what, (void)arg;
    hung = true;
}

#define RUN_UNTIL(condition)                                                                                           \
    do {                                                                                                               \
        while (!(condition) && !hung) assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);                         \
        assert_false(hung);                                                                                            \
    } while (0)

static uint64_t seed;
static uint32_t pick(uint32_t n) { // splitmix64
    uint64_t z = seed += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (uint32_t)((z >> 32) % n);
}

static int open_world(int connections, uint64_t rekey_bytes, enum kv_dtype first, enum kv_dtype second) {
    seed = 7;
    hung = false;
    base = event_base_new();
    hang = event_new(base, -1, 0, on_hang, NULL);
    struct timeval t = {.tv_sec = HANG_S};
    if (!base || !hang || event_add(hang, &t)) return -1;
    for (int i = 0; i < SIDES; i++) {
        struct kv_shape s = shape_of(i ? second : first);
        side_init(&side[i], side, i, base, connections, rekey_bytes);
        side_share(&side[i], &s, ARENA);
    }
    return 0;
}

static int setup(void **arg) {
    (void)arg;
    return open_world(2, 1ull << 40, KV_F16, KV_F16);
}

static int teardown(void **arg) {
    (void)arg;
    return sides_end(side, hang, base);
}

// ---------------------------------------------------------------- rows that are known everywhere
static uint16_t number(uint64_t stream, int32_t layer, int kind, int32_t at, int32_t i) { // a finite half
    uint64_t z = (stream * 31 + (uint64_t)layer) * 1009 + (uint64_t)kind * 7 + (uint64_t)at * 65537 + (uint64_t)i * 13;
    z *= 0x9e3779b97f4a7c15ull;
    return (uint16_t)((z >> 40 & 0x8fff) | 0x3000);
}

// The rows as a cache of that type has them.
static void make_rows(uint64_t stream, int32_t layer, int kind, int32_t first, int32_t count, enum kv_dtype dtype,
                      void *out) {
    uint16_t half[UNIT * WIDTH];
    int32_t width = kind ? WIDTH / 2 : WIDTH;
    for (int32_t r = 0; r < count; r++)
        for (int32_t i = 0; i < width; i++) half[r * width + i] = number(stream, layer, kind, first + r, i);
    convert_rows(KV_F16, half, dtype, out, (size_t)(count * width));
}

// ---------------------------------------------------------------- a stream with both its ends
struct unit {
    int32_t first, count;
};

struct stream {
    uint64_t number;
    struct side *from, *to;
    struct outflow *out;
    struct inflow *in;
    struct kv_shape shape_out, shape_in;
    enum kv_dtype wire;
    int32_t first, last, n_slots;
    // sending
    struct unit units[512];
    int n_units, credits;
    int begun, left[512]; // pieces of a unit that are not handed over yet, as bits
    int32_t blocks[4096]; // free ones
    int n_blocks, out_blocks;
    // receiving
    int32_t upto, held[64], slow;
    int n_held, units_in;
    struct err why_out, why_in;
    int failed_out, failed_in;
};

static struct stream streams[STREAMS];

static void feed(struct stream *s);

static void on_sent(void *arg, int32_t block) {
    struct stream *s = arg;
    assert_true(s->out_blocks > 0);
    s->out_blocks--;
    memset(arena_block(s->from->arena, block), 0xee, arena_block_bytes(s->from->arena)); // used anew, at once
    s->blocks[s->n_blocks++] = block;
    if (s->out) feed(s);
}

static void on_out_failed(void *arg, const struct err *why) {
    struct stream *s = arg;
    s->failed_out++;
    s->why_out = *why;
}

static void on_in_failed(void *arg, const struct err *why) {
    struct stream *s = arg;
    s->failed_in++;
    s->why_in = *why;
}

static void check_unit(const struct stream *s, int32_t slot, int32_t first, int32_t count) {
    uint8_t rows[UNIT * WIDTH * 2], travelled[UNIT * WIDTH * 2], want[UNIT * WIDTH * 2];
    const uint8_t *at = arena_slot(s->to->arena, slot);
    for (int32_t layer = 0; layer < LAYERS; layer++) {
        for (int k = 0; k < KV_KINDS; k++) {
            size_t n = (size_t)(count * s->shape_in.width[k]);
            make_rows(s->number, layer, k, first, count, s->shape_out.dtype, rows);
            convert_rows_portable(s->shape_out.dtype, rows, s->wire, travelled, n);
            convert_rows_portable(s->wire, travelled, s->shape_in.dtype, want, n);
            assert_memory_equal(at + kv_plane_offset(&s->shape_in, count, layer, (enum kv_kind)k), want,
                                kv_bytes(s->shape_in.dtype, n));
        }
    }
}

static void install(struct stream *s, int32_t slot) {
    inflow_installed(s->in, slot);
    s->credits++; // over the control link, in earnest
    feed(s);
}

static void on_unit(void *arg, int32_t slot, int32_t first, int32_t count) {
    struct stream *s = arg;
    assert_int_equal(first, s->upto);
    check_unit(s, slot, first, count);
    s->upto = first + count;
    s->units_in++;
    if (s->slow)
        s->held[s->n_held++] = slot;
    else
        install(s, slot);
}

static const struct outflow_events out_events = {on_sent, on_out_failed};
static const struct inflow_events in_events = {on_unit, on_in_failed};

// Hands over what credits and blocks allow, the pieces of all begun units in any order.
static void feed(struct stream *s) {
    while (s->n_blocks && s->out && !s->failed_out) {
        int candidates[512], n = 0;
        while (s->begun < s->n_units && s->credits > 0) {
            s->left[s->begun++] = (1 << PIECES) - 1;
            s->credits--;
        }
        for (int i = 0; i < s->begun; i++)
            if (s->left[i]) candidates[n++] = i;
        if (!n) return;
        int u = candidates[pick((uint32_t)n)], piece = (int)pick(PIECES);
        while (!(s->left[u] >> piece & 1)) piece = (piece + 1) % PIECES;
        int32_t block = s->blocks[--s->n_blocks];
        make_rows(s->number, piece / 2, piece % 2, s->units[u].first, s->units[u].count, s->shape_out.dtype,
                  arena_block(s->from->arena, block));
        int rc =
            outflow_rows(s->out, piece / 2, (enum kv_kind)(piece % 2), s->units[u].first, s->units[u].count, block, &e);
        if (rc) { // failed already, and not told yet
            s->blocks[s->n_blocks++] = block;
            return;
        }
        s->left[u] &= ~(1 << piece);
        s->out_blocks++;
    }
}

static struct inflow_spec in_spec(const struct stream *s) {
    struct inflow_spec spec = {.stream = s->number,
                               .shape = s->shape_in,
                               .first = s->first,
                               .last = s->last,
                               .n_slots = s->n_slots,
                               .arena = s->to->arena};
    memcpy(spec.from, s->from->id, NODE_ID);
    return spec;
}

static void open_in(struct stream *s) {
    struct inflow_spec spec = in_spec(s);
    s->in = inflow_open(s->to->t, &spec, &in_events, s, &e);
    assert_non_null(s->in);
}

static void open_out(struct stream *s) {
    struct outflow_spec spec = {.stream = s->number, .shape = s->shape_out, .wire = s->wire, .arena = s->from->arena};
    memcpy(spec.to, s->to->id, NODE_ID);
    s->credits = s->n_slots;
    s->out = outflow_open(s->from->t, &spec, &out_events, s, &e);
    assert_non_null(s->out);
}

// Prepares stream i with n_blocks blocks of its own; n positions in units of any size.
static struct stream *prepare(int i, int from, enum kv_dtype wire, int32_t n, int n_blocks) {
    struct stream *s = &streams[i];
    memset(s, 0, sizeof *s);
    static uint64_t number_of_all; // late frames of a stream must not meet another one of its number
    s->number = ++number_of_all;
    s->from = &side[from];
    s->to = &side[!from];
    s->shape_out = shape_of(KV_F16);
    s->shape_in = shape_of(KV_F16);
    s->wire = wire;
    s->first = s->upto = (int32_t)pick(1000);
    s->last = s->first + n;
    s->n_slots = 3;
    for (int32_t at = s->first; at < s->last;) {
        int32_t left = s->last - at, count = (int32_t)pick(UNIT) + 1;
        s->units[s->n_units++] = (struct unit){at, count < left ? count : left};
        at += count;
    }
    assert_true((i + 1) * n_blocks <= arena_blocks(s->from->arena));
    for (int b = 0; b < n_blocks; b++) s->blocks[s->n_blocks++] = i * n_blocks + b;
    return s;
}

static struct stream *start(int i, int from, enum kv_dtype wire, int32_t n, int n_blocks) {
    struct stream *s = prepare(i, from, wire, n, n_blocks);
    open_in(s);
    open_out(s);
    feed(s);
    return s;
}

static void close_in(struct stream *s) {
    inflow_close(s->in);
    s->in = NULL;
}

static void close_out(struct stream *s) {
    outflow_close(s->out);
    s->out = NULL;
    RUN_UNTIL(!s->out_blocks);
}

static void finish(struct stream *s) {
    RUN_UNTIL(s->upto == s->last || s->failed_in || s->failed_out);
    assert_int_equal(s->upto, s->last);
    assert_int_equal(s->units_in, s->n_units);
    RUN_UNTIL(!s->out_blocks);
    assert_int_equal(s->failed_in + s->failed_out, 0);
    close_in(s);
    close_out(s);
}

static int32_t free_slots(const struct side *s) {
    int32_t slots[LIMIT_KV_SLOTS], n = arena_slots(s->arena);
    while (n > 0 && arena_take(s->arena, n, slots, &e)) n--;
    for (int32_t i = 0; i < n; i++) arena_give(s->arena, slots[i]);
    return n;
}

// ---------------------------------------------------------------- streams that go well
static void any_order(void **arg) {
    (void)arg;
    struct flow_figures in, out;
    struct stream *s = start(0, 0, KV_F16, 2000, 40);
    RUN_UNTIL(s->upto == s->last);
    RUN_UNTIL(!s->out_blocks);
    inflow_figures(s->in, &in);
    outflow_figures(s->out, &out);
    assert_int_equal(in.upto, s->last);
    assert_int_equal(in.bytes, 2000 * kv_token_bytes(&s->shape_in, KV_F16));
    assert_int_equal(out.bytes, in.bytes);
    assert_true(in.begun_ns && in.begun_ns <= in.last_ns && out.begun_ns && out.begun_ns <= out.last_ns);
    finish(s);
    RUN_UNTIL(side[1].accepted == 2); // connections; the second one may have been too late to be of use
    assert_int_equal(side[0].accepted, 0);
    RUN_UNTIL(free_slots(&side[1]) == arena_slots(side[1].arena));
}

static void both_ways(void **arg) {
    (void)arg;
    for (int i = 0; i < 6; i++) start(i, i % 2, i % 3 ? KV_F16 : KV_Q8_0, 400, 8);
    for (int i = 0; i < 6; i++) finish(&streams[i]);
    start(6, 0, KV_Q8_0, 100, 8); // over connections that are there already
    finish(&streams[6]);
    RUN_UNTIL(side[0].accepted == 2 && side[1].accepted == 2);
}

static int setup_q8_cache(void **arg) {
    (void)arg;
    return open_world(1, 1ull << 40, KV_F16, KV_Q8_0);
}

// Each side converts where its cache has another type than the wire.
static void caches_of_two_types(void **arg) {
    (void)arg;
    for (int i = 0; i < 4; i++) {
        struct stream *s = prepare(i, i / 2, i % 2 ? KV_F16 : KV_Q8_0, 300, 6);
        if (i / 2)
            s->shape_out = shape_of(KV_Q8_0);
        else
            s->shape_in = shape_of(KV_Q8_0);
        open_in(s);
        open_out(s);
        feed(s);
    }
    for (int i = 0; i < 4; i++) finish(&streams[i]);
}

static int setup_rekey(void **arg) {
    (void)arg;
    return open_world(2, 10000, KV_F16, KV_F16);
}

static void new_keys_on_the_way(void **arg) {
    (void)arg;
    start(0, 0, KV_F16, 3000, 20); // 1.7 MB: a hundred times each
    finish(&streams[0]);
}

// A receiver that installs late: its stream stands still within what was granted, and others go on.
static void slow_receiver(void **arg) {
    (void)arg;
    struct stream *s = prepare(0, 0, KV_F16, 500, 20);
    s->slow = 1;
    open_in(s);
    open_out(s);
    feed(s);
    RUN_UNTIL(s->n_held == s->n_slots);
    start(1, 0, KV_F16, 500, 20);
    finish(&streams[1]);
    assert_int_equal(s->n_held, s->n_slots);
    assert_int_equal(s->begun, s->n_slots);
    while (s->upto < s->last) {
        install(s, s->held[--s->n_held]);
        RUN_UNTIL(s->n_held == s->n_slots || s->upto == s->last);
    }
    finish(s);
}

// ---------------------------------------------------------------- a state
static struct unit state_told;
static int32_t state_slot = -1;

static void on_state(void *arg, int32_t slot, int32_t offset, int32_t bytes) {
    (void)arg;
    state_slot = slot;
    state_told = (struct unit){offset, bytes};
}

// The memory of a model with rows serves for it as well.
static void a_state(void **arg) {
    (void)arg;
    static const struct inflow_events events = {on_state, on_in_failed};
    struct stream *s = prepare(0, 0, KV_F16, 1, 8);
    int32_t room = (int32_t)arena_block_bytes(s->from->arena), total = 3 * room + 777;
    struct inflow_spec in = in_spec(s);
    struct outflow_spec out = {.stream = s->number, .shape.form = KV_OPAQUE, .arena = s->from->arena};
    memcpy(out.to, s->to->id, NODE_ID);
    in.shape = out.shape;
    s->in = inflow_open(s->to->t, &in, &events, s, &e);
    s->out = outflow_open(s->from->t, &out, &out_events, s, &e);
    assert_true(s->in && s->out);
    assert_int_equal(outflow_rows(s->out, 0, KV_K, 32, total, 0, &e), -1);
    assert_int_equal(outflow_rows(s->out, 1, KV_K, 0, total, 0, &e), -1);
    assert_int_equal(outflow_rows(s->out, 0, KV_K, total, total, 0, &e), -1);
    for (int32_t i = 3; i >= 0; i--) {
        uint8_t *block = arena_block(s->from->arena, i);
        for (int32_t k = 0; k < room; k++) block[k] = (uint8_t)((i * room + k) * 7 >> 3);
        s->out_blocks++;
        assert_int_equal(outflow_rows(s->out, 0, KV_K, i * room, total, i, &e), 0);
    }
    s->n_units = 0;
    struct outflow *open = s->out;
    s->out = NULL; // nothing is fed
    RUN_UNTIL(state_slot >= 0 && !s->out_blocks);
    assert_true(state_told.first == 0 && state_told.count == total);
    const uint8_t *got = arena_slot(s->to->arena, state_slot);
    for (int32_t k = 0; k < total; k++) assert_int_equal(got[k], (uint8_t)(k * 7 >> 3));
    inflow_installed(s->in, state_slot);
    close_in(s);
    outflow_close(open);
}

// ---------------------------------------------------------------- orders that make no sense
static void refused_orders(void **arg) {
    (void)arg;
    struct stream *s = prepare(0, 0, KV_F16, 100, 8);
    struct inflow_spec in = in_spec(s);
    open_in(s);
    assert_null(inflow_open(s->to->t, &in, &in_events, s, &e)); // the same number
    assert_int_equal(e.code, ERR_INVALID);
    in.stream++;
    in.n_slots = arena_slots(s->to->arena);
    assert_null(inflow_open(s->to->t, &in, &in_events, s, &e));
    assert_int_equal(e.code, ERR_BUSY);
    in.n_slots = 0;
    assert_null(inflow_open(s->to->t, &in, &in_events, s, &e));
    in.n_slots = 1;
    in.first = in.last;
    assert_null(inflow_open(s->to->t, &in, &in_events, s, &e));
    open_out(s);
    static const struct {
        int32_t layer, kind, first, count, block;
    } wrong[] = {{-1, 0, 0, 1, 0}, {LAYERS, 0, 0, 1, 0},  {0, 2, 0, 1, 0},         {0, -1, 0, 1, 0},
                 {0, 0, -1, 1, 0}, {0, 0, 0, 0, 0},       {0, 0, 0, UNIT + 1, 0},  {0, 0, 0, INT32_MAX, 0},
                 {0, 0, 0, 1, -1}, {0, 0, 0, 1, 1 << 20}, {0, 0, INT32_MAX, 1, 0}, {0, 0, INT32_MAX - 3, 4, 0}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(outflow_rows(s->out, wrong[i].layer, (enum kv_kind)wrong[i].kind, wrong[i].first,
                                      wrong[i].count, wrong[i].block, &e),
                         -1);
    make_rows(s->number, 0, 0, s->first, 1, KV_F16, arena_block(s->from->arena, 5));
    s->out_blocks++;
    assert_int_equal(outflow_rows(s->out, 0, KV_K, s->first, 1, 5, &e), 0);
    assert_int_equal(outflow_rows(s->out, 1, KV_K, s->first, 1, 5, &e), -1); // that block is on its way
    assert_non_null(strstr(e.msg, "on its way"));
    close_out(s);
    close_in(s);
}

// ---------------------------------------------------------------- senders that do what they like
struct hostile {
    struct side *as, *to;
    SSL *ssl;
    uint8_t bytes[1 << 16];
    size_t n;
    bool cut;     // the connection, instead of ending it
    int pause[2]; // where there is a pipe: what is written from `pause_at` waits for a byte in it
    size_t pause_at;
    bool drips; // what is written from there comes byte by byte
    atomic_bool enough;
    pthread_t thread;
    int rc;
};
static struct hostile hostile;

static void drip(struct hostile *h) {
    struct err why;
    for (size_t i = h->pause_at; i < h->n && !atomic_load(&h->enough); i++) {
        if (tls_write(h->ssl, h->bytes + i, 1, &why)) return; // cut off
        usleep(5000);
    }
}

static void *be_hostile(void *arg) {
    struct hostile *h = arg;
    struct err why;
    atomic_bool stop = false;
    char byte;
    int fd = datalink_dial("127.0.0.1", h->to->port, &stop, &why);
    h->rc = fd < 0 || tls_connect(h->ssl, fd, 0, &why) || tls_read(h->ssl, &byte, 1, &why);
    if (!h->rc) h->rc = tls_write(h->ssl, h->bytes, h->pause_at, &why);
    if (!h->rc && h->pause[0]) h->rc = read(h->pause[0], &byte, 1) != 1;
    if (!h->rc && h->drips)
        drip(h);
    else if (!h->rc)
        h->rc = tls_write(h->ssl, h->bytes + h->pause_at, h->n - h->pause_at, &why);
    if (h->cut) SSL_set_shutdown(h->ssl, SSL_SENT_SHUTDOWN);
    tls_close(h->ssl, fd);
    return NULL;
}

static void hostile_new(struct side *as, struct side *to) {
    memset(&hostile, 0, sizeof hostile);
    hostile.as = as;
    hostile.to = to;
    hostile.ssl = tls_client(as->key.tls, TLS_DATA, to->key.pin, &e);
    assert_non_null(hostile.ssl);
}

static void hostile_start(void) {
    if (!hostile.pause[0] && !hostile.drips) hostile.pause_at = hostile.n;
    assert_int_equal(pthread_create(&hostile.thread, NULL, be_hostile, &hostile), 0);
}

static void hostile_end(void) {
    pthread_join(hostile.thread, NULL);
    assert_int_equal(hostile.rc, 0);
    for (int i = 0; i < 2; i++)
        if (hostile.pause[i]) close(hostile.pause[i]);
}

static struct kvframe frame_of(const struct stream *s, int piece, int32_t first, int32_t count) {
    return (struct kvframe){.type = KVFRAME_ROWS,
                            .kind = (uint8_t)(piece % 2),
                            .dtype = KV_F16,
                            .stream = s->number,
                            .layer = (uint32_t)(piece / 2),
                            .first = (uint32_t)first,
                            .count = (uint32_t)count,
                            .length = (uint32_t)((size_t)count * kv_row_bytes(&s->shape_in, piece % 2, KV_F16))};
}

// Appends a frame with the rows that belong there, or as many bytes as it says.
static void says(struct kvframe f) {
    uint8_t rows[UNIT * WIDTH * 2] = {0};
    if (f.layer < LAYERS && f.kind < 2 && f.count <= UNIT)
        make_rows(f.stream, (int32_t)f.layer, f.kind, (int32_t)f.first, (int32_t)f.count, KV_F16, rows);
    assert_true(hostile.n + KVFRAME_BYTES + f.length <= sizeof hostile.bytes && f.length <= sizeof rows);
    f.checksum ^= kvframe_checksum(&f, rows); // a checksum that is set is a damage
    kvframe_encode(&f, hostile.bytes + hostile.n);
    memcpy(hostile.bytes + hostile.n + KVFRAME_BYTES, rows, f.length);
    hostile.n += KVFRAME_BYTES + f.length;
}

static void says_unit(const struct stream *s, int32_t first, int32_t count) {
    for (int piece = 0; piece < PIECES; piece++) says(frame_of(s, piece, first, count));
}

// Stream 0 is the victim, stream 1 shares its connection and must not be harmed.
static void two_streams(void) {
    for (int i = 0; i < 2; i++) {
        struct stream *s = prepare(i, 0, KV_F16, 40, 0);
        s->credits = 1000;
        open_in(s);
    }
    hostile_new(&side[0], &side[1]);
}

// The reason is one of two: the loop may have told of the unit before, or not.
static void harms_only_itself(struct kvframe f, const char *why, const char * or) {
    struct stream *victim = &streams[0], *other = &streams[1];
    says_unit(other, other->first, 8);
    says_unit(victim, victim->first, 8);
    says(f);
    says_unit(other, other->first + 8, 32);
    says_unit(victim, victim->first + 8, 8); // too late
    hostile_start();
    RUN_UNTIL(other->upto == other->last && victim->failed_in);
    hostile_end();
    assert_int_equal(victim->failed_in, 1);
    assert_true(strstr(victim->why_in.msg, why) || strstr(victim->why_in.msg, or));
    assert_int_equal(victim->upto, victim->first + 8); // what was complete was told before
    assert_int_equal(other->failed_in, 0);
    close_in(victim);
    close_in(other);
}

static void refused_frames(void **arg) {
    (void)arg;
    for (int what = 0; what < 12; what++) {
        two_streams();
        const struct stream *s = &streams[0];
        struct kvframe f = frame_of(s, 0, s->first + 8, 8);
        const char *why = "", * or = "never";
        switch (what) {
        case 0: f.checksum = 1, why = "damaged rows"; break;
        case 1: f.first -= 8, why = "there already", or = "second time"; break;
        case 2: f.first -= 1, why = "there already", or = "overlaps"; break;
        case 3: f.layer = LAYERS, why = "layer"; break;
        case 4: f.first = (uint32_t)s->last - 7, why = "beyond"; break;
        case 5: f.length--, why = "bytes of rows"; break;
        case 6: f.dtype = KV_Q8_0, why = "those before came as f16"; break;
        case 7: f = frame_of(s, 0, s->first, UNIT), f.count = UNIT + 1, why = "most is"; break;
        case 8:
            f = (struct kvframe){.type = KVFRAME_STATE, .stream = s->number, .count = 64, .length = 64};
            why = "where rows are expected";
            break;
        case 9: says(f), why = "second time"; break;
        case 10: says(f), f.first += 7, why = "overlaps"; break;
        default:
            for (int i = 0; i < s->n_slots; i++) says(frame_of(s, 1, s->first + 10 + i, 1));
            f = frame_of(s, 1, s->first + 30, 1), why = "no slot is free";
        }
        if (what < 9)
            harms_only_itself(f, why, or);
        else { // told out of order here: only the failure counts
            says(f);
            hostile_start();
            RUN_UNTIL(streams[0].failed_in);
            hostile_end();
            assert_non_null(strstr(streams[0].why_in.msg, why));
            assert_int_equal(streams[1].failed_in, 0);
            close_in(&streams[0]);
            close_in(&streams[1]);
        }
    }
    RUN_UNTIL(free_slots(&side[1]) == arena_slots(side[1].arena));
}

// Streams that nobody expects, or expects from someone else, cost nothing but their bytes.
static void strangers(void **arg) {
    (void)arg;
    two_streams();
    struct stream *s = &streams[0], *mine = &streams[1];
    close_in(mine);
    struct inflow_spec spec = in_spec(mine);
    memcpy(spec.from, side[1].id, NODE_ID); // of another node than the one that sends
    mine->in = inflow_open(mine->to->t, &spec, &in_events, mine, &e);
    assert_non_null(mine->in);
    struct kvframe f = frame_of(s, 0, s->first, 8);
    f.stream = 77;
    says(f);
    says_unit(mine, mine->first, 8);
    says(f);
    says_unit(s, s->first, 20);
    says_unit(s, s->first + 20, 20);
    hostile_start();
    RUN_UNTIL(s->upto == s->last);
    hostile_end();
    assert_true(!mine->units_in && !mine->failed_in && !s->failed_in);
    close_in(s);
    close_in(mine);
}

// Where the framing is broken nothing on that connection can be trusted any more: its streams fail, others do not.
static void broken_framing(void **arg) {
    (void)arg;
    for (int what = 0; what < 5; what++) {
        two_streams();
        struct stream *s = &streams[0], *other = &streams[1];
        says_unit(s, s->first, 8);
        struct kvframe f = frame_of(s, 0, s->first + 8, 8);
        size_t at = hostile.n;
        says(f);
        switch (what) {
        case 0: hostile.bytes[at] = 'X'; break;
        case 1: memset(hostile.bytes + at + 28, 0xff, 4); break; // a giant length
        case 2: hostile.bytes[at + 4] = 9; break;                // an unknown type
        case 3: hostile.n = at + 17; break;                      // cut within a head
        default: hostile.n = at + KVFRAME_BYTES + 5;             // cut within the rows
        }
        hostile.cut = true;
        hostile_start();
        RUN_UNTIL(s->failed_in);
        hostile_end();
        assert_int_equal(s->upto, s->first + 8);
        assert_int_equal(other->failed_in, 0);
        close_in(s);
        start(2, 0, KV_F16, 50, 8); // other connections
        finish(&streams[2]);
        close_in(other);
    }
}

// A frame has a time to be there, from its first byte on: one that drips ends its connection, within the rows as well
// as within a head.
static void dripping_frames(void **arg) {
    (void)arg;
    transfers_free(side[1].t);
    side[1].frame_ms = 50;
    side_start(&side[1], 2, 1ull << 40);
    for (int within = 0; within < 2; within++) {
        two_streams();
        struct stream *s = &streams[0];
        says_unit(s, s->first, 8);
        hostile.pause_at = hostile.n + (within ? 5 : KVFRAME_BYTES + 5);
        says(frame_of(s, 0, s->first + 8, 8));
        hostile.drips = true;
        hostile_start();
        RUN_UNTIL(s->failed_in);
        atomic_store(&hostile.enough, true);
        hostile_end();
        assert_int_equal(s->upto, s->first + 8);
        assert_non_null(strstr(s->why_in.msg, "too long"));
        assert_int_equal(streams[1].failed_in, 0);
        close_in(s);
        close_in(&streams[1]);
    }
}

// A connection that ends properly between two frames harms nobody; the next one goes on.
static void proper_end(void **arg) {
    (void)arg;
    two_streams();
    struct stream *s = &streams[0];
    says_unit(s, s->first, 8);
    hostile_start();
    RUN_UNTIL(s->upto == s->first + 8);
    hostile_end();
    hostile_new(&side[0], &side[1]);
    says_unit(s, s->first + 8, 32);
    hostile_start();
    RUN_UNTIL(s->upto == s->last);
    hostile_end();
    assert_int_equal(s->failed_in, 0);
    close_in(s);
    close_in(&streams[1]);
}

// A stream is closed while a thread writes into one of its slots: that slot alone comes back later.
static void closed_under_a_writer(void **arg) {
    (void)arg;
    for (int cut = 0; cut < 2; cut++) {
        int32_t all = arena_slots(side[1].arena);
        two_streams();
        struct stream *s = &streams[0];
        struct flow_figures figures;
        close_in(&streams[1]);
        RUN_UNTIL(free_slots(&side[1]) == all - s->n_slots);
        says(frame_of(s, 0, s->first, 8));
        hostile.pause_at = hostile.n - 100;
        assert_int_equal(pipe(hostile.pause), 0);
        if (cut) hostile.n -= 50;
        hostile.cut = cut;
        hostile_start();
        for (figures.begun_ns = 0; !figures.begun_ns && !hung;) { // until its thread is in the middle of the frame
            inflow_figures(s->in, &figures);
            assert_int_equal(event_base_loop(base, EVLOOP_NONBLOCK), 0);
        }
        close_in(s);
        assert_int_equal(free_slots(&side[1]), all - 1);
        assert_int_equal(event_base_loop(base, EVLOOP_NONBLOCK), 0);
        assert_int_equal(free_slots(&side[1]), all - 1);
        assert_int_equal(write(hostile.pause[1], "", 1), 1);
        RUN_UNTIL(free_slots(&side[1]) == all);
        hostile_end();
        assert_int_equal(s->failed_in, 0); // nobody wants to know any more
    }
}

// ---------------------------------------------------------------- connections that break
static void nobody_there(void **arg) {
    (void)arg;
    struct stream *s = prepare(0, 0, KV_F16, 100, 8);
    evconnlistener_free(side[1].listener);
    side[1].listener = NULL;
    open_out(s);
    feed(s);
    RUN_UNTIL(s->failed_out && !s->out_blocks);
    assert_int_equal(s->failed_out, 1);
    assert_int_equal(s->why_out.code, ERR_UNREACHABLE);
    assert_non_null(strstr(s->why_out.msg, "refused"));
    assert_int_equal(s->n_blocks, 8); // each came back once
    assert_int_equal(outflow_rows(s->out, 0, KV_K, s->first, 1, 0, &e), -1);
    close_out(s);
    struct outflow_spec spec = {.stream = 1, .to = "nobody", .shape = s->shape_out, .arena = s->from->arena};
    assert_null(outflow_open(s->from->t, &spec, &out_events, s, &e));
    assert_int_equal(e.code, ERR_UNREACHABLE);
}

static void not_trusted(void **arg) {
    (void)arg;
    struct stream *s = prepare(0, 0, KV_F16, 100, 8);
    tls_trust(side[1].key.tls, NULL, NULL);
    open_out(s);
    feed(s);
    RUN_UNTIL(s->failed_out && !s->out_blocks);
    assert_non_null(strstr(s->why_out.msg, "does not trust this node's key"));
    assert_int_equal(side[1].accepted, 0);
    close_out(s);
    tls_trust(side[1].key.tls, side_trusts, &side[1]);
    start(0, 0, KV_F16, 100, 8); // the next stream finds its way
    finish(&streams[0]);
}

static void wrong_key(void **arg) {
    (void)arg;
    struct stream *s = prepare(0, 0, KV_F16, 100, 8);
    side[1].key.pin[5] ^= 1;
    open_out(s);
    feed(s);
    RUN_UNTIL(s->failed_out && !s->out_blocks);
    assert_non_null(strstr(s->why_out.msg, "not one that is trusted"));
    close_out(s);
}

// Both ends hear of a connection that is cut in the middle, by either one; the next streams open new connections.
static void cut(void **arg) {
    (void)arg;
    for (int by = 0; by < SIDES; by++) {
        struct stream *s = prepare(0, 0, KV_F16, 2000, 20);
        s->slow = 1;
        open_in(s);
        open_out(s);
        feed(s);
        RUN_UNTIL(s->n_held == s->n_slots);
        transfers_drop(side[by].t, side[!by].id);
        RUN_UNTIL(s->failed_in && s->failed_out && !s->out_blocks);
        assert_true(s->failed_in == 1 && s->failed_out == 1);
        assert_int_equal(s->n_blocks, 20);
        close_in(s);
        close_out(s);
        int before = side[1].accepted;
        start(1, 0, KV_F16, 300, 20);
        finish(&streams[1]);
        assert_true(side[1].accepted > before);
    }
}

// A peer that says nothing any more, and no connection that breaks: what is known about it from elsewhere ends the
// streams with it, those of a sender that waits for it and of a receiver in the middle of a frame.
static void silent_sender(void **arg) {
    (void)arg;
    struct stream *s = prepare(0, 0, KV_F16, 2000, 20);
    side[1].deaf = true;
    open_out(s);
    feed(s);
    assert_int_equal(event_base_loop(base, EVLOOP_NONBLOCK), 0);
    assert_int_equal(s->failed_out, 0);
    transfers_drop(side[0].t, side[1].id);
    RUN_UNTIL(s->failed_out && !s->out_blocks);
    assert_int_equal(s->failed_out, 1);
    assert_non_null(strstr(s->why_out.msg, "cannot be reached any more")); // not the limits of a socket
    assert_int_equal(s->n_blocks, 20);
    close_out(s);
    side[1].deaf = false;
    start(1, 0, KV_F16, 300, 20);
    finish(&streams[1]);
}

static void silent_in_a_frame(void **arg) {
    (void)arg;
    int32_t all = arena_slots(side[1].arena);
    two_streams();
    struct stream *s = &streams[0], *other = &streams[1];
    says_unit(s, s->first, 8);
    says(frame_of(s, 0, s->first + 8, 8));
    hostile.pause_at = hostile.n - 100;
    assert_int_equal(pipe(hostile.pause), 0);
    hostile_start();
    RUN_UNTIL(s->upto == s->first + 8);
    transfers_drop(side[1].t, side[0].id);
    RUN_UNTIL(s->failed_in && other->failed_in);
    assert_int_equal(s->upto, s->first + 8); // what is complete stays
    close_in(s);
    close_in(other);
    RUN_UNTIL(free_slots(&side[1]) == all);
    assert_int_equal(write(hostile.pause[1], "", 1), 1);
    pthread_join(hostile.thread, NULL); // whether it could write the rest or not
    for (int i = 0; i < 2; i++) close(hostile.pause[i]);
}

// The other node's program ends and comes back while nothing flows: the connections of before are not used again.
static void restarted(void **arg) {
    (void)arg;
    start(0, 0, KV_F16, 100, 8);
    finish(&streams[0]);
    int before = side[1].accepted;
    transfers_free(side[1].t);
    side_start(&side[1], 2, 1ull << 40);
    start(1, 0, KV_F16, 100, 8);
    finish(&streams[1]);
    assert_true(side[1].accepted > before);
}

// Streams are closed at any moment; every block comes back.
static void closed_early(void **arg) {
    (void)arg;
    for (int round = 0; round < 30; round++) {
        struct stream *s = start(0, round % 2, KV_Q8_0, 1000, 20);
        int units = round % 7;
        RUN_UNTIL(s->units_in >= units);
        if (round % 3) close_in(s);
        close_out(s);
        assert_int_equal(s->n_blocks, 20);
        if (s->in) close_in(s);
        assert_int_equal(s->failed_in + s->failed_out, 0);
    }
    for (int i = 0; i < SIDES; i++) RUN_UNTIL(free_slots(&side[i]) == arena_slots(side[i].arena));
}

// teardown frees the transfers with everything under way
static void ended_in_the_middle(void **arg) {
    (void)arg;
    for (int i = 0; i < 4; i++) start(i, i % 2, KV_F16, 3000, 10);
    RUN_UNTIL(streams[0].units_in > 1 && streams[1].units_in > 1);
}

static void ended_while_connecting(void **arg) {
    (void)arg;
    side[1].deaf = true; // its kernel accepts, nobody answers
    struct stream *s = prepare(0, 0, KV_F16, 100, 8);
    open_out(s);
    feed(s);
    for (int i = 0; i < 5; i++) assert_int_equal(event_base_loop(base, EVLOOP_NONBLOCK), 0);
}

int main(void) {
    log_set_level(LOG_ERROR); // refusals are what most of this is about
#define WITH(make, name) cmocka_unit_test_setup_teardown(name, make, teardown)
#define TEST(name)       WITH(setup, name)
    const struct CMUnitTest tests[] = {
        TEST(any_order),
        TEST(both_ways),
        WITH(setup_q8_cache, caches_of_two_types),
        WITH(setup_rekey, new_keys_on_the_way),
        TEST(slow_receiver),
        TEST(a_state),
        TEST(refused_orders),
        TEST(refused_frames),
        TEST(strangers),
        TEST(broken_framing),
        TEST(dripping_frames),
        TEST(proper_end),
        TEST(closed_under_a_writer),
        TEST(nobody_there),
        TEST(not_trusted),
        TEST(wrong_key),
        TEST(cut),
        TEST(silent_sender),
        TEST(silent_in_a_frame),
        TEST(restarted),
        TEST(closed_early),
        TEST(ended_in_the_middle),
        TEST(ended_while_connecting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

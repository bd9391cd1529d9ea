// How fast KV rows go from one node's memory to another's over loopback, and what that costs: both nodes are in this
// process, so that the CPU time is that of both ends together.
//   bench_link [GIGABYTES]
// The model is Llama 3.1 8B's: 32 layers with rows of 1024 numbers, f16 caches, units of 512 positions.
#include "base/clock.h"
#include "cluster/convert.h"
#include "cluster/transfer_fixture.h"

#include <sys/resource.h>

enum { LAYERS = 32, WIDTH = 1024, UNIT = 512, SLOTS = 3, ARENA_MB = 384 };

struct bench {
    struct event_base *base;
    struct side side[SIDES];
    struct kv_shape shape;
    struct outflow *out;
    struct inflow *in;
    int32_t units, begun, credits, piece; // units in all; begun; may still be begun; next piece of the begun one
    int32_t free_blocks[4096], n_free, installed;
};

static void fail(const char *what, const struct err *why) {
    fprintf(stderr, "bench_link: %s: %s\n", what, why->msg);
    exit(1);
}

static void feed(struct bench *b) {
    struct err e;
    while (b->n_free) {
        if (!b->piece) {
            if (b->begun == b->units || !b->credits) return;
            b->credits--;
            b->begun++;
        }
        int32_t block = b->free_blocks[--b->n_free];
        if (outflow_rows(b->out, b->piece / 2, (enum kv_kind)(b->piece % 2), (b->begun - 1) * UNIT, UNIT, block, &e))
            fail("cannot send", &e);
        b->piece = (b->piece + 1) % (LAYERS * KV_KINDS);
    }
}

static void on_sent(void *arg, int32_t block) {
    struct bench *b = arg;
    b->free_blocks[b->n_free++] = block;
    if (b->out) feed(b);
}

static void on_unit(void *arg, int32_t slot, int32_t first, int32_t count) {
    struct bench *b = arg;
    (void)first, (void)count;
    inflow_installed(b->in, slot);
    b->installed++;
    b->credits++;
    feed(b);
}

static void on_failed(void *arg, const struct err *why) {
    (void)arg;
    fail("the stream failed", why);
}

static void open_flows(struct bench *b, uint64_t stream, enum kv_dtype wire) {
    static const struct outflow_events out_events = {on_sent, on_failed};
    static const struct inflow_events in_events = {on_unit, on_failed};
    struct inflow_spec in = {
        .stream = stream, .shape = b->shape, .last = b->units * UNIT, .n_slots = SLOTS, .arena = b->side[1].arena};
    struct outflow_spec out = {.stream = stream, .shape = b->shape, .wire = wire, .arena = b->side[0].arena};
    struct err e;
    memcpy(in.from, b->side[0].id, NODE_ID);
    memcpy(out.to, b->side[1].id, NODE_ID);
    b->in = inflow_open(b->side[1].t, &in, &in_events, b, &e);
    b->out = b->in ? outflow_open(b->side[0].t, &out, &out_events, b, &e) : NULL;
    if (!b->out) fail("cannot open", &e);
}

static void stream(struct bench *b, uint64_t number, int32_t units, enum kv_dtype wire) {
    b->units = units;
    b->begun = b->piece = b->installed = 0;
    b->credits = SLOTS;
    open_flows(b, number, wire);
    feed(b);
    while (b->installed < b->units) event_base_loop(b->base, EVLOOP_ONCE);
    inflow_close(b->in);
    outflow_close(b->out);
    b->out = NULL;
    while (b->n_free < arena_blocks(b->side[0].arena)) event_base_loop(b->base, EVLOOP_ONCE);
}

static int64_t cpu_us(void) { // of this process, all threads
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000ll + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

static void measure(int connections, enum kv_dtype wire, double gigabytes) {
    static struct bench b;
    b = (struct bench){.base = event_base_new(),
                       .shape = {.form = KV_ROWS,
                                 .dtype = KV_F16,
                                 .layers = LAYERS,
                                 .unit = UNIT,
                                 .width = {WIDTH, WIDTH},
                                 .head = 16,
                                 .cell = 12,
                                 .middle = 8,
                                 .plane = 20}};
    if (!b.base) abort();
    for (int i = 0; i < SIDES; i++) {
        side_init(&b.side[i], b.side, i, b.base, connections, 100ull << 30);
        side_share(&b.side[i], &b.shape, (size_t)ARENA_MB << 20);
    }
    for (int32_t i = 0; i < arena_blocks(b.side[0].arena); i++) {
        uint16_t *row = arena_block(b.side[0].arena, i);
        for (size_t k = 0; k < arena_block_bytes(b.side[0].arena) / 2; k++)
            row[k] = (uint16_t)((k * 40503 & 0x8fff) | 0x3000);
        b.free_blocks[b.n_free++] = i;
    }
    stream(&b, 1, SLOTS, wire); // connects, and touches all memory once
    double unit_bytes = UNIT * (double)kv_token_bytes(&b.shape, wire), bytes = 0;
    int64_t cpu = cpu_us();
    uint64_t began = clock_mono_ns();
    int32_t units = (int32_t)(gigabytes * 1e9 / unit_bytes) + 1;
    stream(&b, 2, units, wire);
    bytes = units * unit_bytes;
    double seconds = (double)(clock_mono_ns() - began) / 1e9;
    printf("{\"bench\":\"link\",\"connections\":%d,\"wire\":\"%s\",\"gbit_s\":%.2f,\"cpu_s_per_gb\":%.3f,"
           "\"tokens_s\":%.0f}\n",
           connections, kv_dtype_name(wire), bytes * 8 / 1e9 / seconds, (double)(cpu_us() - cpu) / 1e6 / (bytes / 1e9),
           units * UNIT / seconds);
    fflush(stdout);
    for (int i = 0; i < SIDES; i++) side_close(&b.side[i]);
    event_base_loop(b.base, EVLOOP_NONBLOCK);
    event_base_free(b.base);
}

int main(int argc, char **argv) {
    double gigabytes = argc > 1 ? strtod(argv[1], NULL) : 4;
    if (!(gigabytes > 0 && gigabytes <= 10000)) {
        fprintf(stderr, "usage: bench_link [GIGABYTES]\n");
        return 2;
    }
    printf("conversion: %s\n", convert_path());
    for (int wire = 0; wire < KV_DTYPES; wire++)
        for (int connections = 1; connections <= 4; connections *= 2)
            measure(connections, (enum kv_dtype)wire, gigabytes);
    return 0;
}

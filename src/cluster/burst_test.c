// Measurements of a link over real sockets: between two nodes in one process, and from a sender that does what it
// likes.
#include "base/clock.h"
#include "base/limits.h"
#include "cluster/burst.h"
#include "cluster/datalink.h"
#include "cluster/transfer_fixture.h"
#include "net/frame.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

enum { HANG_S = 60, UNIT = 32, ARENA = 1 << 20 };
static const uint64_t most = 3 << 20, number = 77;

static struct event_base *base;
static struct side side[SIDES];
static struct event *hang;
static bool hung;
static struct err e;
static const struct kv_shape shape = {.form = KV_ROWS,
                                      .dtype = KV_F16,
                                      .layers = 2,
                                      .unit = UNIT,
                                      .width = {64, 64},
                                      .head = 16,
                                      .cell = 12,
                                      .middle = 8,
                                      .plane = 20};

struct end { // of a measurement: what it told
    int told;
    bool failed;
    struct err why;
    struct burst_figures figures;
};

static void on_hang(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what, (void)arg;
    hung = true;
}

#define RUN_UNTIL(condition)                                                                                           \
    do {                                                                                                               \
        while (!(condition) && !hung) assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);                         \
        assert_false(hung);                                                                                            \
    } while (0)

static int setup(void **arg) {
    (void)arg;
    struct timeval t = {.tv_sec = HANG_S};
    hung = false;
    base = event_base_new();
    hang = event_new(base, -1, 0, on_hang, NULL);
    if (!base || !hang || event_add(hang, &t)) return -1;
    for (int i = 0; i < SIDES; i++) {
        side_init(&side[i], side, i, base, 2, 1 << 20); // keys change under way
        side_share(&side[i], &shape, ARENA);
    }
    return 0;
}

static int end_world(void **arg) {
    (void)arg;
    return sides_end(side, hang, base);
}

static void on_done(void *arg, const struct burst_figures *f, const struct err *why) {
    struct end *end = arg;
    end->told++;
    end->failed = why != NULL;
    if (why) end->why = *why;
    end->figures = *f;
}

static struct burst_spec spec_of(int other, uint64_t bytes, uint64_t ns) {
    struct burst_spec s = {.number = number, .bytes = bytes, .ns = ns};
    memcpy(s.node, side[other].id, NODE_ID);
    return s;
}

static struct burst *open_burst(int from, uint64_t bytes, uint64_t ns, struct end *end) {
    struct burst_spec s = spec_of(1 - from, bytes, ns);
    *end = (struct end){.told = 0};
    return burst_open(side[from].t, &s, on_done, end, &e);
}

static struct sink *open_sink(int at, uint64_t bytes, struct end *end) {
    struct burst_spec s = spec_of(1 - at, bytes, NS_PER_S);
    *end = (struct end){.told = 0};
    return sink_open(side[at].t, &s, on_done, end, &e);
}

// ---------------------------------------------------------------- as it should be
static void measures(void **arg) {
    (void)arg;
    for (int from = 0; from < SIDES; from++) {
        struct end sent, came;
        struct sink *sink = open_sink(1 - from, most, &came);
        uint64_t before = clock_mono_ns();
        struct burst *probe = open_burst(from, most, 5 * NS_PER_S, &sent);
        assert_true(sink && probe);
        RUN_UNTIL(sent.told);
        assert_false(sent.failed);
        assert_int_equal(sent.figures.total, most);
        assert_true(sent.figures.cpu_ns > 0);
        assert_int_equal(sent.figures.bytes, most);
        assert_true(sent.figures.ns > 0 && sent.figures.ns <= clock_mono_ns() - before);
        sink_await(sink, sent.figures.total);
        RUN_UNTIL(came.told);
        assert_false(came.failed);
        assert_int_equal(came.figures.total, most);
        assert_true(came.figures.cpu_ns > 0 && came.figures.ns > 0);
        // what is measured is what followed the beginning
        assert_true(came.figures.bytes > 0 && came.figures.bytes <= most - most / 5);
        assert_int_equal(came.figures.bytes % LIMIT_KV_PROBE, 0);
        burst_close(probe);
        sink_close(sink);
        assert_true(sent.told == 1 && came.told == 1);
    }
}

static void ends_with_its_time(void **arg) {
    (void)arg;
    struct end sent, came;
    struct sink *sink = open_sink(1, LIMIT_PROBE_BYTES, &came);
    struct burst *probe = open_burst(0, LIMIT_PROBE_BYTES, 20 * NS_PER_MS, &sent);
    RUN_UNTIL(sent.told);
    assert_true(sent.figures.total > 0 && sent.figures.total < LIMIT_PROBE_BYTES);
    sink_await(sink, sent.figures.total);
    RUN_UNTIL(came.told);
    assert_int_equal(came.figures.total, sent.figures.total);
    burst_close(probe);
    sink_close(sink);
}

static void closed_under_way(void **arg) {
    (void)arg;
    struct end sent, came;
    for (int i = 0; i < 20; i++) {
        struct sink *sink = open_sink(1, most, &came);
        struct burst *probe = open_burst(0, most, NS_PER_S, &sent);
        assert_true(sink && probe);
        for (int n = 0; n < i; n++) assert_int_equal(event_base_loop(base, EVLOOP_NONBLOCK) < 0, 0);
        burst_close(probe);
        sink_close(sink);
        assert_true(sent.told <= 1 && !came.told);
    }
    struct burst *left = open_burst(0, LIMIT_PROBE_BYTES, NS_PER_S, &sent); // teardown ends it
    assert_non_null(left);
    RUN_UNTIL(side[1].accepted);
}

// ---------------------------------------------------------------- what it gives way to
static void on_unit(void *arg, int32_t slot, int32_t first, int32_t count) {
    (void)arg, (void)slot, (void)first, (void)count;
}
static void on_failed(void *arg, const struct err *why) { (void)arg, (void)why; }

static struct inflow *open_inflow(int at) {
    static const struct inflow_events events = {on_unit, on_failed};
    struct inflow_spec s = {.stream = 5, .shape = shape, .last = 64, .n_slots = 1, .arena = side[at].arena};
    memcpy(s.from, side[1 - at].id, NODE_ID);
    return inflow_open(side[at].t, &s, &events, NULL, &e);
}

static struct outflow *open_outflow(int from) {
    static const struct outflow_events events = {NULL, on_failed};
    struct outflow_spec s = {.stream = 5, .shape = shape, .wire = KV_F16, .arena = side[from].arena};
    memcpy(s.to, side[1 - from].id, NODE_ID);
    return outflow_open(side[from].t, &s, &events, NULL, &e);
}

static void streams_come_first(void **arg) {
    (void)arg;
    struct end end;
    for (int way = 0; way < 2; way++) {
        struct burst *probe = open_burst(0, LIMIT_PROBE_BYTES, 9 * NS_PER_S, &end);
        assert_non_null(probe);
        assert_false(transfers_busy(side[0].t, side[1].id));
        struct inflow *in = way ? open_inflow(0) : NULL;
        struct outflow *out = way ? NULL : open_outflow(0);
        assert_true(in || out);
        assert_true(transfers_busy(side[0].t, side[1].id));
        RUN_UNTIL(end.told);
        assert_true(end.failed && end.why.code == ERR_BUSY);
        burst_close(probe);
        assert_null(open_burst(0, most, NS_PER_S, &end));
        assert_int_equal(e.code, ERR_BUSY);
        assert_null(open_sink(0, most, &end));
        assert_int_equal(e.code, ERR_BUSY);
        inflow_close(in);
        outflow_close(out);
        assert_false(transfers_busy(side[0].t, side[1].id));
    }
}

static void one_at_a_time(void **arg) {
    (void)arg;
    struct end first, second;
    struct burst *probe = open_burst(0, LIMIT_PROBE_BYTES, 9 * NS_PER_S, &first);
    assert_non_null(probe);
    assert_null(open_burst(0, most, NS_PER_S, &second));
    assert_int_equal(e.code, ERR_BUSY);
    assert_null(open_sink(0, most, &second)); // nor from there
    assert_int_equal(e.code, ERR_BUSY);
    burst_close(probe);
    struct sink *sink = open_sink(0, most, &first);
    assert_non_null(sink);
    assert_null(open_burst(0, most, NS_PER_S, &second));
    assert_int_equal(e.code, ERR_BUSY);
    struct sink *newer = open_sink(0, most, &second); // its sender has given the other one up
    assert_non_null(newer);
    RUN_UNTIL(first.told);
    assert_true(first.failed && first.why.code == ERR_CANCELLED && !second.told);
    sink_close(sink);
    sink_close(newer);
}

static void bounds(void **arg) {
    (void)arg;
    struct end end;
    assert_null(open_burst(0, 0, NS_PER_S, &end));
    assert_null(open_burst(0, LIMIT_PROBE_BYTES + 1, NS_PER_S, &end));
    assert_null(open_burst(0, most, 0, &end));
    assert_null(open_burst(0, most, (LIMIT_PROBE_SECONDS + 1) * NS_PER_S, &end));
    assert_null(open_sink(0, LIMIT_PROBE_BYTES + 1, &end));
    assert_int_equal(e.code, ERR_INVALID);
    struct burst_spec nowhere = {.number = number, .node = "0123", .bytes = most, .ns = NS_PER_S};
    assert_null(burst_open(side[0].t, &nowhere, on_done, &end, &e));
    assert_int_equal(e.code, ERR_UNREACHABLE);
}

static void peer_goes(void **arg) {
    (void)arg;
    struct end sent, came;
    struct sink *sink = open_sink(1, LIMIT_PROBE_BYTES, &came);
    struct burst *probe = open_burst(0, LIMIT_PROBE_BYTES, 9 * NS_PER_S, &sent);
    assert_true(sink && probe);
    RUN_UNTIL(side[1].accepted);
    transfers_drop(side[1].t, side[0].id);
    RUN_UNTIL(sent.told && came.told);
    assert_true(sent.failed && came.failed);
    assert_int_equal(sent.why.code, ERR_UNREACHABLE);
    assert_int_equal(came.why.code, ERR_UNREACHABLE);
    burst_close(probe);
    sink_close(sink);
}

// ---------------------------------------------------------------- a sender that does what it likes
enum { SAYS = 64 };
static struct {
    pthread_t thread;
    struct kvframe frames[SAYS];
    int n;
    atomic_bool over;
} hostile;

static void *say_all(void *arg) {
    static const uint8_t payload[LIMIT_KV_PROBE + 1];
    atomic_bool stop = false;
    struct err why;
    uint8_t head[KVFRAME_BYTES], byte;
    SSL *ssl = arg;
    int fd = datalink_dial("127.0.0.1", side[1].port, &stop, &why);
    int rc = fd < 0 || tls_connect(ssl, fd, clock_mono_ns() + 20 * NS_PER_S, &why) || tls_read(ssl, &byte, 1, &why);
    for (int i = 0; i < hostile.n && !rc; i++) {
        struct kvframe f = hostile.frames[i];
        size_t n = f.length <= sizeof payload ? f.length : sizeof payload;
        if (!f.checksum) f.checksum = kvframe_checksum(&f, payload);
        kvframe_encode(&f, head);
        rc = tls_write(ssl, head, sizeof head, &why) || tls_write(ssl, payload, n, &why);
    }
    shutdown(fd, SHUT_WR);
    if (!rc && tls_read(ssl, &byte, 1, &why) == 0) abort(); // waits until the other side has read all, or enough
    tls_close(ssl, fd);
    atomic_store(&hostile.over, true);
    return NULL;
}

static void says(struct kvframe f) { hostile.frames[hostile.n++] = f; }

static void hostile_runs(void) {
    SSL *ssl = tls_client(side[0].key.tls, TLS_DATA, side[1].key.pin, &e);
    struct timeval soon = {.tv_usec = 5000};
    assert_non_null(ssl);
    atomic_store(&hostile.over, false);
    assert_int_equal(pthread_create(&hostile.thread, NULL, say_all, ssl), 0);
    while (!atomic_load(&hostile.over) && !hung) {
        event_base_loopexit(base, &soon);
        assert_true(event_base_loop(base, 0) >= 0);
    }
    assert_false(hung);
    pthread_join(hostile.thread, NULL);
    hostile.n = 0;
}

static struct kvframe frame_of(uint32_t length) {
    return (struct kvframe){.type = KVFRAME_PROBE, .stream = number, .length = length};
}

static void endless_and_strange(void **arg) {
    (void)arg;
    struct end came;
    struct sink *sink = open_sink(1, 4 * LIMIT_KV_PROBE, &came);
    struct kvframe other = frame_of(100);
    other.stream = number + 1;
    says(other);
    for (int i = 0; i < 40; i++) says(frame_of(LIMIT_KV_PROBE)); // ten times what was agreed on
    hostile_runs();
    struct burst_figures f;
    sink_figures(sink, &f);
    assert_int_equal(f.total, 4 * LIMIT_KV_PROBE);
    sink_await(sink, 5 * LIMIT_KV_PROBE); // a lie: no harm but to itself
    sink_close(sink);
    assert_int_equal(came.told, 0);
    for (int i = 0; i < 20; i++) says(frame_of(LIMIT_KV_PROBE)); // nobody waits for any
    hostile_runs();
}

static void another_peers_number(void **arg) {
    (void)arg;
    struct end came;
    struct burst_spec s = spec_of(1, most, NS_PER_S); // of node 1, but node 0 sends
    struct sink *sink = sink_open(side[1].t, &s, on_done, memset(&came, 0, sizeof came), &e);
    struct burst_figures f;
    assert_non_null(sink);
    says(frame_of(LIMIT_KV_PROBE));
    hostile_runs();
    sink_figures(sink, &f);
    assert_int_equal(f.total, 0);
    sink_close(sink);
}

static void damaged(void **arg) {
    (void)arg;
    struct end came;
    struct sink *sink = open_sink(1, most, &came);
    struct kvframe bad = frame_of(1000);
    bad.checksum = 1;
    says(frame_of(1000));
    says(bad);
    says(frame_of(1000)); // the connection lives on, the measurement does not
    hostile_runs();
    RUN_UNTIL(came.told);
    assert_true(came.failed);
    assert_non_null(strstr(came.why.msg, "damaged"));
    assert_int_equal(came.figures.total, 1000);
    assert_int_equal(came.told, 1);
    sink_close(sink);
}

static void broken_heads(void **arg) {
    (void)arg;
    for (int what = 0; what < 5; what++) {
        struct end came;
        struct sink *sink = open_sink(1, LIMIT_PROBE_BYTES, &came);
        struct kvframe f = frame_of(LIMIT_KV_PROBE + 1);
        struct burst_figures figures;
        switch (what) {
        case 0: break;
        case 1: f.length = UINT32_MAX; break;
        case 2: f.length = 0; break;
        case 3: f = frame_of(100), f.layer = 1; break;
        default: f = frame_of(100), f.count = 1;
        }
        f.checksum = 1;
        says(frame_of(100));
        says(f);
        for (int i = 0; i < 8; i++) says(frame_of(LIMIT_KV_PROBE)); // not read any more
        hostile_runs();
        sink_figures(sink, &figures);
        assert_int_equal(figures.total, 100);
        sink_close(sink);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, end_world)
    const struct CMUnitTest tests[] = {
        TEST(measures),         TEST(ends_with_its_time),
        TEST(closed_under_way), TEST(streams_come_first),
        TEST(one_at_a_time),    TEST(bounds),
        TEST(peer_goes),        TEST(endless_and_strange),
        TEST(damaged),          TEST(another_peers_number),
        TEST(broken_heads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

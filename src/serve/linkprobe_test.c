// What a sender makes of the receiver's report. The connections, and what is sent over them, are made up.
#include "base/clock.h"
#include "serve/linkprobe.h"
#include "serve/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define TOTAL (4u << 20)

static struct serve s;
static struct {
    struct burst_spec spec;
    burst_done done;
    void *arg;
    uint64_t n; // of the probe, as it was asked for
    int told;
    bool failed;
    struct linkprobe_result result;
    struct err why;
} world;

// ---------------------------------------------------------------- the world
int node_send(const struct serve *serve, const char *id, const json_t *msg, struct err *e) {
    (void)serve, (void)e;
    assert_string_equal(id, "bbbb");
    world.n = (uint64_t)json_integer_value(json_object_get(msg, "n"));
    return 0;
}

struct transfers *cluster_transfers(const struct cluster *c) {
    assert_null(c);
    return NULL;
}

bool transfers_busy(struct transfers *t, const char *node) {
    (void)t, (void)node;
    return false;
}

struct burst *burst_open(struct transfers *t, const struct burst_spec *spec, burst_done done, void *arg,
                         struct err *e) {
    (void)t, (void)e;
    world.spec = *spec;
    world.done = done;
    world.arg = arg;
    return (struct burst *)&world; // only passed on
}

void burst_close(struct burst *p) { assert_true(!p || p == (struct burst *)&world); }

struct sink *sink_open(struct transfers *t, const struct burst_spec *spec, burst_done done, void *arg, struct err *e) {
    (void)t, (void)spec, (void)done, (void)arg, (void)e;
    fail();
    return NULL;
}

void sink_await(struct sink *k, uint64_t total) { (void)k, (void)total; }
void sink_figures(struct sink *k, struct burst_figures *out) { (void)k, (void)out; }
void sink_close(struct sink *k) { assert_null(k); }

static void on_done(void *arg, const struct linkprobe_result *r, const struct err *why) {
    assert_ptr_equal(arg, &world);
    world.told++;
    world.failed = !r;
    if (r) world.result = *r;
    if (why) world.why = *why;
}

static int setup(void **state) {
    (void)state;
    memset(&world, 0, sizeof world);
    return (s.base = event_base_new()) ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    event_base_free(s.base);
    return 0;
}

// TOTAL bytes were sent within sent_ns; what is made of that report is in `world`.
static void measure(uint64_t sent_ns, struct burst_figures report) {
    struct err e;
    const struct burst_figures sent = {.total = TOTAL, .bytes = TOTAL, .ns = sent_ns};
    const struct timespec a_while = {.tv_nsec = 2 * NS_PER_MS}; // so that some time has passed in all
    struct linkprobe *p = linkprobe_start(&s, "bbbb", TOTAL, 250, on_done, &world, &e);
    assert_non_null(p);
    world.told = 0;
    linkprobe_heard(p, &(struct probemsg){.type = PROBEMSG_READY, .n = world.n});
    assert_int_equal(world.spec.bytes, TOTAL);
    nanosleep(&a_while, NULL);
    world.done(world.arg, &sent, NULL);
    assert_int_equal(world.told, 0);
    linkprobe_heard(p, &(struct probemsg){.type = PROBEMSG_REPORT, .n = world.n, .figures = report});
    assert_int_equal(world.told, 1);
    linkprobe_end(p);
}

// ---------------------------------------------------------------- tests
static void test_sound_reports_count(void **state) {
    (void)state;
    measure(NS_PER_MS, (struct burst_figures){.total = TOTAL, .bytes = TOTAL / 2, .ns = NS_PER_MS, .cpu_ns = 7});
    assert_false(world.failed);
    assert_true(world.result.sent == TOTAL && world.result.bytes == TOTAL / 2);
    assert_int_equal(world.result.ns, NS_PER_MS); // the receiver needed longer for these than the sender
    assert_int_equal(world.result.cpu_there_ns, 7);
}

static void test_bytes_arrive_not_much_faster_than_they_left(void **state) {
    (void)state;
    measure(40 * NS_PER_MS, (struct burst_figures){.total = TOTAL, .bytes = TOTAL / 2, .ns = 10000});
    assert_false(world.failed);
    assert_int_equal(world.result.bytes, TOTAL / 2);
    assert_int_equal(world.result.ns, 20 * NS_PER_MS / LINKPROBE_FASTER);
    measure(40 * NS_PER_MS, (struct burst_figures){.total = TOTAL, .bytes = TOTAL / 2, .ns = NS_PER_MS});
}

static void test_absurd_reports_are_refused(void **state) {
    static const struct {
        struct burst_figures report;
        const char *words;
    } cases[] = {
        {{.total = TOTAL, .bytes = TOTAL, .ns = 3600 * NS_PER_S}, "longer time"},
        {{.total = TOTAL + 1, .bytes = TOTAL, .ns = NS_PER_MS}, "not sent"},
        {{.total = TOTAL}, "too little"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        measure(NS_PER_MS, cases[i].report);
        assert_true(world.failed);
        if (!strstr(world.why.msg, cases[i].words)) fail_msg("%s", world.why.msg);
    }
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_sound_reports_count),
                                       TEST(test_bytes_arrive_not_much_faster_than_they_left),
                                       TEST(test_absurd_reports_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// The worker's sign of life: when it beats, and what it says of the threads. Nothing here depends on how long a beat
// is.
#include "engine/worker/heart.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct world {
    int daemon; // the daemon's end of the socket
    struct channel here, there;
    struct queue queue;
    struct heart heart;
};

static void start(struct world *t) {
    int ends[2];
    struct err e;
    memset(t, 0, sizeof *t);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    t->daemon = ends[1];
    channel_init(&t->here, ends[0]);
    channel_init(&t->there, ends[1]);
    queue_init(&t->queue);
    assert_int_equal(heart_start(&t->heart, &t->here, &t->queue, 1, &e), 0);
}

static void finish(struct world *t) {
    heart_stop(&t->heart);
    close(t->here.fd);
    if (t->daemon >= 0) close(t->daemon);
    channel_close(&t->here);
    channel_close(&t->there);
    queue_close(&t->queue);
}

static struct worker_pulse hear(struct world *t) {
    struct worker_pulse p;
    struct err e;
    json_t *msg;
    assert_int_equal(channel_read(&t->there, &msg, &e), 1);
    assert_string_equal(json_string_value(json_object_get(msg, "t")), "pulse");
    assert_int_equal(pulse_decode(msg, &p, &e), 0);
    json_decref(msg);
    return p;
}

static void until_asleep(struct world *t) {
    while (!atomic_load(&t->heart.asleep)) usleep(100);
}

// What was said before does not count.
static bool is_quiet(const struct world *t) {
    struct pollfd p = {.fd = t->daemon, .events = POLLIN};
    char bytes[4096];
    while (recv(t->daemon, bytes, sizeof bytes, MSG_DONTWAIT) > 0) continue;
    return poll(&p, 1, 20) == 0;
}

static void test_stillness(void **state) {
    (void)state;
    struct activity a = {.busy = false};
    struct stillness s = {.ms = 0};
    assert_int_equal(stillness_look(&s, &a, 500), 0);
    activity_begin(&a);
    assert_int_equal(stillness_look(&s, &a, 500), 0); // it has only begun
    assert_int_equal(stillness_look(&s, &a, 500), 500);
    assert_int_equal(stillness_look(&s, &a, 500), 1000);
    activity_step(&a);
    assert_int_equal(stillness_look(&s, &a, 500), 0);
    assert_int_equal(stillness_look(&s, &a, 500), 500);
    activity_rest(&a);
    assert_int_equal(stillness_look(&s, &a, 500), 0);
    activity_begin(&a); // with the next thing
    assert_int_equal(stillness_look(&s, &a, 500), 0);
}

static void test_each_thread_is_told_of(void **state) {
    (void)state;
    struct world t;
    start(&t);
    activity_begin(&t.heart.compute);
    heart_reader(&t.heart, false);
    struct worker_pulse p;
    do p = hear(&t);
    while (p.compute_ms < 5);
    assert_in_range(p.control_ms, p.compute_ms - 1, p.compute_ms); // begun at nearly the same time
    activity_step(&t.heart.compute);
    int64_t before = p.compute_ms, control = p.control_ms;
    for (p = hear(&t); p.compute_ms > before; p = hear(&t)) before = p.compute_ms; // said before the step
    assert_int_equal(p.compute_ms, 0);
    assert_true(p.control_ms > control);
    finish(&t);
}

static void test_no_work_no_beat(void **state) {
    (void)state;
    struct world t;
    start(&t);
    until_asleep(&t);
    assert_true(is_quiet(&t));
    for (int i = 0; i < 3; i++) {
        heart_reader(&t.heart, false);
        hear(&t); // the message woke it
        heart_reader(&t.heart, true);
        until_asleep(&t);
        assert_true(is_quiet(&t));
    }
    finish(&t);
}

// One that is held waits for the daemon, which waits to hear that it is still there.
static void test_a_sequence_that_waits_is_work(void **state) {
    (void)state;
    struct world t;
    struct sequence *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->id = 1;
    start(&t);
    heart_reader(&t.heart, false);
    queue_add(&t.queue, s);
    heart_reader(&t.heart, true);
    for (int i = 0; i < 5; i++) hear(&t);
    for (struct worker_pulse p = hear(&t); p.control_ms; p = hear(&t)) continue;
    assert_int_equal(hear(&t).control_ms + hear(&t).compute_ms, 0); // both threads rest
    sequence_free(queue_cancel(&t.queue, 1));
    until_asleep(&t);
    finish(&t);
}

static void test_the_daemon_goes(void **state) {
    (void)state;
    struct world t;
    start(&t);
    heart_reader(&t.heart, false);
    hear(&t);
    close(t.daemon);
    t.daemon = -1;
    finish(&t); // it has ended, or ends now
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stillness),       cmocka_unit_test(test_each_thread_is_told_of),
        cmocka_unit_test(test_no_work_no_beat), cmocka_unit_test(test_a_sequence_that_waits_is_work),
        cmocka_unit_test(test_the_daemon_goes),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Where the threads of a worker meet: what waits, what runs, what counts.
#include "engine/worker/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static struct sequence *make(uint64_t id) {
    struct gen_request r;
    struct err e;
    gen_request_init(&r);
    llama_token *prompt = malloc(sizeof *prompt);
    assert_non_null(prompt);
    *prompt = 7;
    struct sampler *sampler = sampler_new(&r.sampling, 16, NULL, 0, 16, &e);
    assert_non_null(sampler);
    struct sequence *s = sequence_new(id, &r, prompt, 1, 4, sampler, &e);
    assert_non_null(s);
    return s;
}

static bool always(const struct sequence *s, void *arg) {
    (void)s, (void)arg;
    return true;
}

static void test_cancelled_ones_do_not_count(void **state) {
    (void)state;
    struct queue q;
    queue_init(&q);
    for (uint64_t id = 1; id <= 3; id++) queue_add(&q, make(id));
    assert_int_equal(queue_length(&q), 3);
    struct sequence *first = queue_admit(&q, always, NULL);
    assert_non_null(first);
    assert_int_equal(first->id, 1);
    assert_int_equal(queue_length(&q), 3);
    assert_null(queue_cancel(&q, 1)); // it runs: it is only marked, and its place is free at once
    assert_int_equal(queue_length(&q), 2);
    assert_null(queue_cancel(&q, 1));
    assert_int_equal(queue_length(&q), 2);
    struct sequence *waited = queue_cancel(&q, 3);
    assert_non_null(waited);
    assert_int_equal(queue_length(&q), 1);
    sequence_free(waited);
    assert_false(queue_preempt(&q, 0)); // a cancelled one does not wait again
    sequence_free(queue_remove(&q, 0));
    assert_int_equal(queue_length(&q), 1);
    queue_close(&q);
}

static void test_preempted_ones_go_first(void **state) {
    (void)state;
    struct queue q;
    queue_init(&q);
    for (uint64_t id = 1; id <= 3; id++) queue_add(&q, make(id));
    for (uint64_t id = 1; id <= 2; id++) assert_int_equal(queue_admit(&q, always, NULL)->id, id);
    assert_true(queue_preempt(&q, 1));
    assert_int_equal(q.n_running, 1);
    assert_int_equal(queue_length(&q), 3);
    assert_int_equal(queue_admit(&q, always, NULL)->id, 2);
    assert_int_equal(queue_admit(&q, always, NULL)->id, 3);
    assert_null(queue_admit(&q, always, NULL));
    queue_close(&q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cancelled_ones_do_not_count),
        cmocka_unit_test(test_preempted_ones_go_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

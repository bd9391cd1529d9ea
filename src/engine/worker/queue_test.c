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

static void give_order(struct queue *q, uint64_t id, int32_t units) {
    struct order o = {.kind = ORDER_GO, .from = units, .n = 1, .generated = malloc(sizeof(int32_t))};
    assert_non_null(o.generated);
    queue_order(q, id, &o);
}

static void test_orders_wait_for_their_sequence(void **state) {
    (void)state;
    struct queue q;
    struct order *orders;
    struct wishes asked;
    bool lost;
    queue_init(&q);
    for (uint64_t id = 1; id <= 2; id++) queue_add(&q, make(id));
    assert_non_null(queue_admit(&q, always, NULL));
    for (int32_t i = 0; i < 20; i++) give_order(&q, 1 + (uint64_t)i % 2, i);
    give_order(&q, 99, 0); // unknown: dropped
    assert_true(queue_wait(&q, false, &asked));
    assert_false(asked.report || asked.forget);
    assert_int_equal(queue_take_orders(&q, 0, &orders, &lost), 10);
    assert_false(lost);
    for (int32_t i = 0; i < 10; i++) {
        assert_int_equal(orders[i].from, 2 * i);
        order_free(&orders[i]);
    }
    free(orders);
    assert_int_equal(queue_take_orders(&q, 0, &orders, &lost), 0);
    free(orders);
    assert_non_null(queue_admit(&q, always, NULL));
    assert_int_equal(queue_take_orders(&q, 1, &orders, &lost), 10); // given while it waited
    for (int32_t i = 0; i < 10; i++) order_free(&orders[i]);
    free(orders);
    give_order(&q, 2, 1); // freed with it
    queue_close(&q);
}

static void test_too_many_orders(void **state) {
    (void)state;
    struct queue q;
    struct order *orders;
    bool lost;
    queue_init(&q);
    queue_add(&q, make(1));
    assert_non_null(queue_admit(&q, always, NULL));
    for (uint32_t i = 0; i <= LIMIT_KV_ORDERS; i++) give_order(&q, 1, 0);
    int32_t n = queue_take_orders(&q, 0, &orders, &lost);
    assert_int_equal(n, LIMIT_KV_ORDERS);
    assert_true(lost);
    for (int32_t i = 0; i < n; i++) order_free(&orders[i]);
    free(orders);
    queue_close(&q);
}

static void test_what_wakes(void **state) {
    (void)state;
    struct queue q;
    struct wishes asked;
    queue_init(&q);
    assert_true(queue_wait(&q, true, &asked)); // busy: at once
    queue_wake(&q);
    assert_true(queue_wait(&q, false, &asked));
    assert_false(asked.report || asked.forget);
    queue_ask_report(&q);
    assert_true(queue_wait(&q, false, &asked));
    assert_true(asked.report && !asked.forget);
    queue_ask_forget(&q);
    assert_true(queue_wait(&q, false, &asked));
    assert_true(asked.forget && !asked.report);
    queue_add(&q, make(1));
    assert_true(queue_wait(&q, false, &asked));
    queue_admit(&q, always, NULL);
    assert_null(queue_cancel(&q, 1));
    assert_true(queue_wait(&q, false, &asked));
    queue_stop(&q);
    assert_false(queue_wait(&q, false, &asked));
    queue_close(&q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cancelled_ones_do_not_count),
        cmocka_unit_test(test_preempted_ones_go_first),
        cmocka_unit_test(test_orders_wait_for_their_sequence),
        cmocka_unit_test(test_too_many_orders),
        cmocka_unit_test(test_what_wakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

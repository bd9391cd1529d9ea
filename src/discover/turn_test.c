// Whose turn it is, with liars that make many claims.
#include "discover/turn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct mdns_node nodes[MDNS_SERVICES];
static const struct mdns_node *claims[MDNS_SERVICES];
static size_t n;

static void claim(uint8_t sender, size_t places) {
    nodes[n] = (struct mdns_node){.from = {.family = MDNS_FOUR, .ip = {10, 0, 0, sender}}, .n_places = places};
    claims[n] = &nodes[n];
    n++;
}

// How many turns pass until it is the first one's at the address, from a turn on.
static size_t until(size_t who, size_t place, size_t turn) {
    for (size_t i = 0; i < 1u << 20; i++) {
        struct turn t = turn_take(claims, n, turn + i);
        assert_true(t.claim < n && t.place < claims[t.claim]->n_places);
        if (t.claim == who && t.place == place) return i;
    }
    fail();
    return 0;
}

static int begin(void **state) {
    (void)state;
    n = 0;
    return 0;
}

static void test_one_alone(void **state) {
    (void)state;
    claim(1, 3);
    for (size_t turn = 0; turn < 9; turn++) assert_int_equal(turn_take(claims, n, turn).place, turn % 3);
}

// The last of all claims, behind as many as a liar can make.
static void test_liars_take_no_turn_from_others(void **state) {
    (void)state;
    while (n < MDNS_SERVICES - 1) claim(66, MDNS_ADDRESSES);
    claim(1, 2);
    for (size_t turn = 0; turn < 1000; turn++) {
        assert_true(until(n - 1, 0, turn) < 4);
        assert_true(until(n - 1, 1, turn) < 4);
    }
}

static void test_everything_comes_up(void **state) {
    (void)state;
    for (uint8_t sender = 1; sender <= 3; sender++)
        for (uint8_t i = 0; i < sender; i++) claim(sender, 1 + i);
    for (size_t turn = 0; turn < 100; turn += 7)
        for (size_t who = 0; who < n; who++)
            for (size_t place = 0; place < claims[who]->n_places; place++)
                assert_true(until(who, place, turn) < 3 * 3 * 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_one_alone, begin),
                                       cmocka_unit_test_setup(test_liars_take_no_turn_from_others, begin),
                                       cmocka_unit_test_setup(test_everything_comes_up, begin)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Jobs whose prefill place may not write: in which order their places are opened, and what happens where one is
// missing.
#include "serve/flow_events_fixture.h"

static void test_a_place_that_may_only_read(void **state) {
    (void)state;
    reads_only = true;
    struct flow *f = new_flow(A, B, true);
    opened(f, A, 0);
    opened(f, B, 0); // no timer: A waits for B
    expect("open A rows of B; begin 5; open B 11,12,13,14,15 rows of A; stream AB 0; start A; ");
    told(f, A, 1, 1);
    expect("text a 1; timer 10000; pause A; ");
    flow_paused(f, A, 1, PROMPT);
    forget();
    failed(f, B, ERR_INTERNAL); // A stands by, and still may not write
    finish(f, "cut A; timer 0; drop A; fail denied; ");
    f = new_flow(A, B, true);
    opened(f, A, 0);
    forget();
    failed(f, B, ERR_INTERNAL); // lost before A has read
    finish(f, "drop A; fail denied; ");
}

static void test_the_decode_place_is_opened_first(void **state) {
    (void)state;
    reads_only = decode_first = true;
    struct flow *f = new_flow(A, B, true);
    expect("open B rows of A; ");
    opened(f, B, 1);
    expect("begin 5; open A 11,12,13,14,15 rows of B; ");
    opened(f, A, 3); // which rows are sent is said when both are known
    expect("stream AB 1; start A; ");
    told(f, A, 1, 1);
    flow_paused(f, A, 1, PROMPT);
    flow_installed(f, B, PROMPT);
    told(f, B, 2, 2);
    forget();
    ended(f, B, 2);
    expect("drop A; end stop 5/3/2; "); // three rows were cached where the prompt was read
    flow_free(f);

    f = new_flow(A, B, true);
    forget();
    failed(f, B, ERR_BUSY); // nothing is read for nobody
    finish(f, "fail busy; ");

    f = new_flow(A, B, true);
    opened(f, B, 0);
    forget();
    spare = "CD";
    failed(f, A, ERR_UNREACHABLE); // the caller refuses to let B read
    expect("start B; ");
    flow_free(f);
    forget();

    f = new_flow(A, B, true);
    opened(f, B, 0);
    forget();
    spare = "";
    failed(f, B, ERR_INTERNAL);
    finish(f, "drop A; fail denied; ");
}

// Two jobs, of which one reads where the other one writes, and nodes that have a sequence for one job each. Each takes
// A first: so the second waits without holding anything.
static void test_jobs_that_cross(void **state) {
    (void)state;
    reads_only = true;
    struct flow *f = new_flow(A, B, true);
    decode_first = true;
    struct flow *g = new_flow(B, A, true);
    expect("open A rows of B; open A rows of B; ");
    opened(f, A, 0);
    expect("begin 5; open B 11,12,13,14,15 rows of A; ");
    opened(f, B, 0); // g holds nothing there
    told(f, A, 1, 1);
    flow_paused(f, A, 1, PROMPT);
    flow_installed(f, B, PROMPT);
    told(f, B, 2, 2);
    ended(f, B, 2);
    flow_free(f);
    forget();
    opened(g, A, 0);
    expect("begin 5; open B 11,12,13,14,15 rows of A; ");
    opened(g, B, 0);
    expect("stream BA 0; start B; ");
    flow_free(g);
    forget();
}

// Its stream broke while it read, and the other place is not open yet when it has told the first token.
static void test_a_place_that_may_only_read_waits_for_the_other(void **state) {
    (void)state;
    for (int comes = 0; comes < 3; comes++) {
        reads_only = true;
        struct flow *f = new_flow(A, B, true);
        opened(f, A, 0);
        opened(f, B, 0);
        forget();
        cut(f, B);
        expect("cut A; drop B; open B 11,12,13,14,15 rows of A; ");
        told(f, A, 1, 1);
        expect("text a 1; timer 10000; pause A; ");
        if (comes == 0) opened(f, B, 2); // before the pause
        if (comes == 0) expect("timer 0; stream AB 2; timer 10000; ");
        flow_paused(f, A, 1, PROMPT);
        expect(comes ? "" : "timer 10000; start B 101 from 5; ");
        if (comes == 1) opened(f, B, 2); // after it
        if (comes == 1) expect("timer 0; stream AB 2; timer 10000; start B 101 from 5; ");
        if (comes == 2) flow_time(f);                                      // never
        if (comes == 2) expect("drop B; drop A; open B 11,12,13,14,15; "); // which the caller refuses
        flow_free(f);
        forget();
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_place_that_may_only_read),
        TEST(test_a_place_that_may_only_read_waits_for_the_other),
        TEST(test_the_decode_place_is_opened_first),
        TEST(test_jobs_that_cross),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Every event at every moment, against the orders that must follow.
#include "serve/flow_events_fixture.h"

// A reads the prompt, B holds and gets rows.
static struct flow *streaming(bool zero_stall) {
    struct flow *f = new_flow(A, B, zero_stall);
    opened(f, A, 0);
    opened(f, B, 0);
    forget();
    return f;
}

// A has told two tokens and is to pause.
static struct flow *pausing(void) {
    struct flow *f = streaming(true);
    told(f, A, 1, 2);
    flow_installed(f, B, PROMPT);
    forget();
    return f;
}

// B has been started after token 2, and lacks row PROMPT.
static struct flow *waiting(void) {
    struct flow *f = pausing();
    flow_paused(f, A, 2, PROMPT + 1);
    forget();
    return f;
}

// B has told tokens 3 and 4; A stands by.
static struct flow *decoding(void) {
    struct flow *f = waiting();
    flow_installed(f, B, PROMPT + 1);
    told(f, B, 3, 4);
    forget();
    return f;
}

enum { LONG = 300 };
static void opened_long(struct flow *f, int place, int32_t cached) {
    int32_t prompt[LONG] = {0};
    flow_opened(f, place, &(struct gen_begin){.prompt_tokens = LONG, .cached_tokens = cached, .tokens = prompt});
}

// A waits for rows 20 to 199, which B has; the rows after those go to B.
static struct flow *fetching(void) {
    struct flow *f = new_flow(A, B, true);
    opened_long(f, A, 20);
    forget();
    opened_long(f, B, 200);
    expect("timer 0; stream BA 20; stream AB 200; timer 2000; start A from 200; ");
    return f;
}

// ---------------------------------------------------------------- the usual course
static void test_one_place(void **state) {
    (void)state;
    struct flow *f = new_flow(A, A, true);
    expect("open A; ");
    assert_int_equal(flow_speaker(f), A);
    opened(f, A, 3);
    expect("begin 5; start A; ");
    told(f, A, 1, 2);
    expect("text a 1; text b 2; ");
    ended(f, A, 3); // the last token has no text
    expect("end stop 5/3/3; ");
    assert_int_equal(flow_speaker(f), -1);
    told(f, A, 3, 3);
    opened(f, A, 0);
    failed(f, A, ERR_WORKER);
    flow_time(f);
    finish(f, "");
}

static void test_two_places(void **state) {
    (void)state;
    struct flow *f = new_flow(A, B, true);
    opened(f, A, 1);
    expect("open A rows of B; begin 5; timer 30; open B 11,12,13,14,15 rows of A; ");
    opened(f, B, 2);
    expect("timer 0; stream AB 2; start A; ");
    flow_installed(f, B, 4);
    told(f, A, 1, 1);
    flow_installed(f, B, 4);
    expect("text a 1; ");
    flow_installed(f, B, 5);
    expect("timer 10000; pause A; ");
    told(f, A, 2, 2); // it was computed already
    assert_int_equal(flow_speaker(f), A);
    flow_paused(f, A, 2, 6);
    assert_int_equal(flow_speaker(f), B);
    expect("text b 2; timer 10000; start B 101,102 from 6; ");
    flow_installed(f, B, 6);
    expect("timer 0; ");
    told(f, B, 3, 4);
    expect("text c 3; cut A; text d 4; ");
    ended(f, B, 4);
    expect("drop A; end stop 5/1/4; ");
    finish(f, "");
}

static void test_prefill_is_ahead(void **state) {
    (void)state;
    struct flow *f = streaming(true);
    flow_installed(f, B, PROMPT - 1);
    told(f, A, 1, FLOW_BEHIND + 2);
    forget();
    flow_installed(f, B, PROMPT); // lacks one row too many
    expect("");
    flow_installed(f, B, PROMPT + 1);
    expect("timer 10000; pause A; ");
    flow_paused(f, A, FLOW_BEHIND + 2, PROMPT + FLOW_BEHIND + 1);
    flow_installed(f, B, PROMPT + FLOW_BEHIND + 1); // all of them
    expect("timer 10000; start B 101,102,103,104,105,106 from 10; timer 0; ");
    finish(f, "cut A; drop A; drop B; ");
}

// Each report finds B as far behind as the one before: it would never get nearer.
static void test_decode_place_stays_behind(void **state) {
    (void)state;
    struct flow *f = streaming(true);
    int32_t behind = FLOW_BEHIND + 3;
    told(f, A, 1, behind + 1);
    flow_installed(f, B, PROMPT);
    for (int32_t i = 1; i < FLOW_STILL; i++) {
        told(f, A, behind + 1 + i, behind + 1 + i);
        flow_installed(f, B, PROMPT + i);
    }
    forget();
    told(f, A, behind + 1 + FLOW_STILL, behind + 1 + FLOW_STILL);
    expect("text l 12; "); // tokens are not reports
    flow_installed(f, B, PROMPT + FLOW_STILL);
    expect("timer 10000; pause A; ");
    flow_paused(f, A, 12, PROMPT + 11);
    expect("timer 10000; start B 101,102,103,104,105,106,107,108,109,110,111,112 from 16; ");
    flow_installed(f, B, PROMPT + 11);
    told(f, B, 13, 13);
    expect("timer 0; text m 13; cut A; ");
    finish(f, "drop A; drop B; ");
}

// While what it lacks is halved now and then, it is worth waiting; before it has the whole prompt, anyway.
static void test_decode_place_comes_nearer(void **state) {
    (void)state;
    struct flow *f = new_flow(A, B, true);
    opened_long(f, A, 0);
    opened_long(f, B, 0);
    for (int32_t i = 1; i <= 2 * FLOW_STILL; i++) {
        told(f, A, i, i);
        flow_installed(f, B, i); // as far behind each time
    }
    int32_t told_yet = 41, behind = 40;
    told(f, A, 2 * FLOW_STILL + 1, told_yet);
    flow_installed(f, B, LONG);
    forget();
    for (int32_t i = 1; i <= 2 * FLOW_STILL; i++) {
        if (i % FLOW_STILL == 0) behind /= 2;
        told(f, A, told_yet + i, told_yet + i);
        flow_installed(f, B, LONG + told_yet + i - 1 - behind);
    }
    assert_null(strstr(buf_str(&orders), "pause"));
    flow_free(f);
    forget();
}

static void test_paused_after_the_first_token(void **state) {
    (void)state;
    struct flow *f = streaming(false);
    flow_installed(f, B, 1);
    expect("");
    told(f, A, 1, 1);
    expect("text a 1; timer 10000; pause A; ");
    flow_paused(f, A, 1, PROMPT);
    expect("timer 10000; start B 101 from 5; ");
    finish(f, "timer 0; cut A; drop A; drop B; ");
}

static void test_ends_while_pausing(void **state) {
    (void)state;
    struct flow *f = pausing();
    told(f, A, 3, 3);
    ended(f, A, 3);
    expect("text c 3; timer 0; drop B; end stop 5/0/3; ");
    flow_paused(f, A, 3, 7);
    finish(f, "");
}

// ---------------------------------------------------------------- the decode place
static void test_decode_place_is_late(void **state) {
    (void)state;
    struct flow *f = new_flow(A, B, true);
    opened(f, A, 0);
    forget();
    flow_time(f);
    expect("start A; ");
    told(f, A, 1, 2);
    forget();
    flow_time(f); // nothing is waited for
    failed(f, A, ERR_UNREACHABLE);
    expect(""); // B is being opened
    opened(f, B, 0);
    expect("start B 101,102; ");
    finish(f, "drop B; ");

    f = new_flow(A, B, true);
    opened(f, A, 0);
    flow_time(f);
    told(f, A, 1, 2);
    forget();
    opened(f, B, 1); // late, but worth it
    flow_installed(f, B, PROMPT);
    expect("stream AB 1; timer 10000; pause A; ");
    finish(f, "timer 0; cut A; drop A; drop B; ");

    f = new_flow(A, B, true);
    opened(f, A, 0);
    flow_time(f);
    told(f, A, 1, 2);
    forget();
    ended(f, A, 2); // too late
    opened(f, B, 0);
    expect("drop B; end stop 5/0/2; ");
    finish(f, "");
}

static void test_decode_place_is_full(void **state) {
    (void)state;
    struct flow *f = new_flow(A, B, true);
    opened(f, A, 0);
    forget();
    failed(f, B, ERR_BUSY);
    expect("timer 0; start A; ");
    told(f, A, 1, 1);
    failed(f, A, ERR_INTERNAL); // B may have room now; A is not asked again
    expect("text a 1; open B 11,12,13,14,15; ");
    failed(f, B, ERR_BUSY);
    expect("timer 250; ");
    flow_time(f);
    expect("open B 11,12,13,14,15; ");
    finish(f, "drop B; ");
}

static void test_head_wait(void **state) {
    (void)state;
    static const struct { long plan, wait; } each[] = {{0, 30}, {-1, 30}, {1, 1}, {29, 29}, {31, 30}};
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        char wanted[128];
        head_ms = each[i].plan;
        struct flow *f = new_flow(A, B, true);
        opened(f, A, 0);
        snprintf(wanted, sizeof wanted, "open A rows of B; begin 5; timer %ld; open B 11,12,13,14,15 rows of A; ",
                 each[i].wait);
        expect(wanted);
        flow_time(f);
        expect("start A; ");
        finish(f, "drop A; drop B; ");
    }
}

static void test_decode_place_cannot_be_asked(void **state) {
    (void)state;
    struct flow *f = new_flow(A, B, true);
    refused = "open";
    refusal = ERR_UNREACHABLE;
    opened(f, A, 0);
    expect("open A rows of B; begin 5; timer 30; open B 11,12,13,14,15 rows of A; timer 0; start A; ");
    finish(f, "drop A; ");
}

static void test_stream_cannot_begin(void **state) {
    (void)state;
    struct flow *f = new_flow(A, B, true);
    opened(f, A, 0);
    forget();
    refused = "stream";
    opened(f, B, 0);
    expect("timer 0; stream AB 0; cut A; drop B; start A; ");
    finish(f, "drop A; ");
}

static void test_decode_place_fails(void **state) {
    (void)state;
    struct flow *f = streaming(true);
    failed(f, B, ERR_WORKER);
    told(f, A, 1, 1);
    expect("cut A; text a 1; ");
    finish(f, "drop A; ");

    f = pausing();
    failed(f, B, ERR_WORKER);
    expect("cut A; timer 0; ");
    told(f, A, 3, 3);
    flow_paused(f, A, 3, 7);
    expect("text c 3; start A; ");
    finish(f, "drop A; ");

    f = waiting();
    failed(f, B, ERR_WORKER);
    expect("cut A; timer 0; start A; ");
    assert_int_equal(flow_speaker(f), A);
    finish(f, "drop A; ");

    f = decoding();
    failed(f, B, ERR_WORKER);
    expect("start A 103,104; ");
    told(f, A, 5, 5);
    failed(f, A, ERR_WORKER); // B has been gone for longer
    expect("text e 5; open B 11,12,13,14,15; ");
    finish(f, "drop B; ");
}

static void test_decode_place_cannot_start(void **state) {
    (void)state;
    struct flow *f = pausing();
    refused = "start";
    refusal = ERR_UNREACHABLE;
    flow_paused(f, A, 2, PROMPT); // A cannot go on either, and failed later
    expect("timer 0; start B 101,102 from 5; drop B; cut A; start A; drop A; open B 11,12,13,14,15; ");
    finish(f, "drop B; ");
}

// ---------------------------------------------------------------- the prefill place
static void test_prefill_place_fails(void **state) {
    (void)state;
    struct flow *f = new_flow(A, B, true); // nobody knows the tokens yet
    forget();
    failed(f, A, ERR_WORKER);
    expect("open B; ");
    opened(f, B, 0);
    expect("begin 5; start B; ");
    finish(f, "drop B; ");

    f = new_flow(A, B, true);
    opened(f, A, 0);
    forget();
    failed(f, A, ERR_WORKER);
    expect("timer 0; "); // B is being opened
    opened(f, B, 0);
    expect("start B; ");
    finish(f, "drop B; ");

    f = streaming(true);
    flow_installed(f, B, 3);
    told(f, A, 1, 1);
    forget();
    failed(f, A, ERR_WORKER);
    expect("start B 101; ");
    finish(f, "drop B; ");

    f = pausing();
    failed(f, A, ERR_WORKER);
    expect("timer 0; start B 101,102; ");
    finish(f, "drop B; ");
}

static void test_prefill_place_fails_after_the_hand_over(void **state) {
    (void)state;
    struct flow *f = waiting();
    failed(f, A, ERR_WORKER); // its last rows never come
    expect("timer 0; start B; ");
    told(f, B, 3, 3);
    expect("text c 3; ");
    finish(f, "drop B; ");

    f = waiting();
    flow_installed(f, B, PROMPT + 1);
    forget();
    failed(f, A, ERR_WORKER);
    expect("");
    finish(f, "drop B; ");

    f = decoding();
    failed(f, A, ERR_WORKER);
    expect("");
    failed(f, B, ERR_UNREACHABLE);
    expect("open A 11,12,13,14,15; ");
    opened(f, A, 2);
    expect("start A 101,102,103,104; ");
    finish(f, "drop A; ");
}

static void test_pause_cannot_be_ordered(void **state) {
    (void)state;
    struct flow *f = streaming(true);
    told(f, A, 1, 1);
    forget();
    refused = "pause";
    refusal = ERR_UNREACHABLE;
    flow_installed(f, B, PROMPT);
    expect("timer 10000; pause A; drop A; timer 0; start B 101; ");
    finish(f, "drop B; ");
}

// ---------------------------------------------------------------- the stream
static void test_stream_is_cut(void **state) {
    (void)state;
    struct flow *f = streaming(true);
    cut(f, A); // not its end
    expect("");
    flow_installed(f, B, 3);
    for (int i = 0; i < FLOW_MENDS; i++) {
        cut(f, B);
        expect("cut A; drop B; open B 11,12,13,14,15 rows of A; ");
        cut(f, B); // the other side has seen it, too
        opened(f, B, i);
        forget();
    }
    cut(f, B);
    expect("cut A; drop B; ");
    told(f, A, 1, 1);
    expect("text a 1; ");
    finish(f, "drop A; ");

    f = streaming(true);
    cut(f, B);
    forget();
    opened(f, B, 2);
    told(f, A, 1, 1);
    flow_installed(f, B, PROMPT);
    expect("stream AB 2; text a 1; timer 10000; pause A; ");
    finish(f, "timer 0; cut A; drop A; drop B; ");

    f = streaming(true);
    refused = "open";
    refusal = ERR_UNREACHABLE;
    cut(f, B);
    refused = NULL;
    expect("cut A; drop B; open B 11,12,13,14,15 rows of A; ");
    finish(f, "drop A; ");

    f = pausing();
    cut(f, B);
    expect("cut A; drop B; timer 0; ");
    flow_paused(f, A, 2, 6);
    expect("start A; ");
    finish(f, "drop A; ");

    f = waiting();
    cut(f, B);
    expect("cut A; drop B; timer 0; start A; ");
    finish(f, "drop A; ");

    f = waiting();
    flow_installed(f, B, PROMPT + 1);
    forget();
    cut(f, B); // nothing was missing
    expect("cut A; ");
    told(f, B, 3, 3);
    cut(f, B);
    expect("text c 3; ");
    finish(f, "drop A; drop B; ");
}

static void test_stream_stalls(void **state) {
    (void)state;
    struct flow *f = pausing();
    flow_time(f);
    expect("cut A; drop B; ");
    flow_paused(f, A, 2, 6);
    expect("start A; ");
    finish(f, "drop A; ");

    f = waiting();
    flow_time(f);
    expect("cut A; drop B; start A; ");
    told(f, A, 3, 3);
    failed(f, A, ERR_WORKER);
    expect("text c 3; open B 11,12,13,14,15; ");
    finish(f, "drop B; ");
}

// ---------------------------------------------------------------- when no place is left
static void test_retries(void **state) {
    (void)state;
    struct flow *f = new_flow(A, A, true);
    opened(f, A, 0);
    told(f, A, 1, 2);
    forget();
    failed(f, A, ERR_WORKER);
    expect("open A 11,12,13,14,15; ");
    opened(f, A, 4);
    expect("start A 101,102; ");
    told(f, A, 3, 3);
    failed(f, A, ERR_WORKER);
    expect("text c 3; timer 250; ");
    failed(f, A, ERR_WORKER); // an echo
    flow_time(f);
    flow_time(f);
    expect("open A 11,12,13,14,15; ");
    failed(f, A, ERR_UNREACHABLE);
    flow_time(f);
    expect("timer 500; open A 11,12,13,14,15; ");
    opened(f, A, 0);
    failed(f, A, ERR_WORKER);
    expect("start A 101,102,103; fail worker; ");
    finish(f, "");
}

static void test_retry_that_cannot_be_asked(void **state) {
    (void)state;
    struct flow *f = new_flow(A, A, true);
    opened(f, A, 0);
    forget();
    refused = "open";
    refusal = ERR_UNREACHABLE;
    failed(f, A, ERR_WORKER);
    expect("open A 11,12,13,14,15; timer 250; ");
    flow_time(f);
    flow_time(f);
    expect("open A 11,12,13,14,15; timer 500; open A 11,12,13,14,15; fail unreachable; ");
    finish(f, "");
}

static void test_errors_of_the_request(void **state) {
    (void)state;
    struct flow *f = new_flow(A, B, true);
    failed(f, A, ERR_INVALID);
    expect("open A rows of B; fail invalid; ");
    finish(f, "");

    f = new_flow(A, B, true);
    opened(f, A, 0);
    forget();
    failed(f, B, ERR_LIMIT); // only B is too small for it
    expect("timer 0; start A; ");
    failed(f, A, ERR_CANCELLED);
    expect("fail cancelled; ");
    finish(f, "");

    f = new_flow(A, B, true);
    opened(f, A, 0);
    flow_time(f);
    failed(f, A, ERR_WORKER);
    forget();
    failed(f, B, ERR_LIMIT); // A was not too small
    expect("open A 11,12,13,14,15; ");
    finish(f, "drop A; ");
}

static void test_nothing_can_be_opened(void **state) {
    (void)state;
    struct err e;
    refused = "open";
    refusal = ERR_BUSY;
    assert_null(try_new(A, A, true, &e));
    assert_int_equal(e.code, ERR_BUSY);
    expect("open A; ");
    refusal = ERR_UNREACHABLE;
    assert_null(try_new(A, B, true, &e));
    assert_int_equal(e.code, ERR_UNREACHABLE);
    assert_string_equal(e.msg, "refused open");
    expect("open A rows of B; open B; ");
    refused = NULL;
    struct flow *f = new_flow(A, B, true); // full everywhere
    failed(f, A, ERR_BUSY);
    failed(f, B, ERR_BUSY);
    expect("open A rows of B; open B; fail busy; ");
    finish(f, "");
}

// ---------------------------------------------------------------- other places
static void test_another_place(void **state) {
    (void)state;
    struct flow *f = decoding();
    spare = "CD";
    failed(f, A, ERR_UNREACHABLE);
    expect(""); // B speaks
    refused = "open";
    refusal = ERR_UNREACHABLE;
    failed(f, B, ERR_UNREACHABLE); // A is asked once more; neither can be reached, nor can C
    expect("open A 11,12,13,14,15; C for B; open C 11,12,13,14,15; D for A; open D 11,12,13,14,15; timer 250; ");
    refused = NULL;
    spare = "D";
    flow_time(f);
    expect("open C 11,12,13,14,15; ");
    failed(f, C, ERR_BUSY); // D again, which has a seat already
    expect("D for D; open D 11,12,13,14,15; ");
    opened(f, D, 2);
    expect("start D 101,102,103,104; ");
    finish(f, "drop D; ");
}

static void test_another_place_at_the_beginning(void **state) {
    (void)state;
    spare = "C";
    refused = "open";
    refusal = ERR_BUSY; // full ones say so
    assert_null(try_new(A, A, true, NULL));
    expect("open A; ");
    refusal = ERR_INVALID;
    assert_null(try_new(A, A, true, NULL));
    expect("open A; ");
    refusal = ERR_UNREACHABLE;
    assert_null(try_new(A, A, true, NULL));
    expect("open A; C for A; open C; ");
    refused = NULL;
    spare = "C";
    struct flow *f = new_flow(A, B, true);
    failed(f, A, ERR_NOT_FOUND);
    failed(f, B, ERR_NOT_FOUND);
    expect("open A rows of B; open B; C for A; open C; ");
    opened(f, C, 1);
    expect("begin 5; start C; ");
    finish(f, "drop C; ");
}

// Another model of that name, a cache that is too small: the next one.
static void test_another_place_refuses(void **state) {
    (void)state;
    struct flow *f = new_flow(A, A, true);
    opened(f, A, 0);
    told(f, A, 1, 1);
    spare = "BC";
    forget();
    failed(f, A, ERR_INTERNAL);
    failed(f, B, ERR_INVALID);
    expect("B for A; open B 11,12,13,14,15; C for A; open C 11,12,13,14,15; ");
    failed(f, C, ERR_LIMIT);
    finish(f, "fail limit; ");
}

static void test_moved_and_lost(void **state) {
    (void)state;
    struct err e;
    struct flow *f = decoding();
    assert_int_equal(flow_move(f, C, &e), 0);
    opened(f, C, 0);
    flow_installed(f, C, PROMPT + 3);
    flow_paused(f, B, 4, PROMPT + 3);
    told(f, C, 5, 5);
    forget();
    refused = "open";
    refusal = ERR_UNREACHABLE;
    spare = "B";
    failed(f, C, ERR_UNREACHABLE); // back to the place that it was moved from
    expect("open C 11,12,13,14,15; B for B; open B 11,12,13,14,15; timer 250; ");
    finish(f, "timer 0; ");
}

// It kills whatever computes it: not all places there are.
static void test_crashes(void **state) {
    (void)state;
    struct flow *f = new_flow(A, A, true);
    opened(f, A, 0);
    spare = "BCDEFGHIJKLMN";
    for (int i = 0; i < FLOW_CRASHES + FLOW_RETRIES - 1; i++) {
        failed(f, flow_speaker(f), ERR_WORKER);
        flow_time(f);
    }
    assert_int_equal(*spare, 'B' + FLOW_CRASHES - 2);
    assert_int_equal(flow_speaker(f), -1);
    assert_non_null(strstr(buf_str(&orders), "fail worker; "));
    flow_free(f);
}

// ---------------------------------------------------------------- what is not to be believed
static void test_strangers_are_not_heard(void **state) {
    (void)state;
    struct flow *f = streaming(true);
    told(f, B, 1, 1); // it has not been started
    told(f, C, 1, 1);
    flow_paused(f, A, 0, 0);
    opened(f, A, 0);
    opened(f, C, 0);
    failed(f, C, ERR_WORKER);
    flow_installed(f, C, 99);
    flow_time(f);
    expect("");
    told(f, A, 1, 1);
    told(f, A, 1, 1);
    expect("text a 1; ");
    finish(f, "cut A; drop A; drop B; ");

    f = decoding();
    told(f, A, 5, 5); // it is paused
    told(f, B, 4, 4); // told already
    expect("");
    finish(f, "drop A; drop B; ");
}

static void test_liars_are_expelled(void **state) {
    (void)state;
    struct flow *f = streaming(true);
    told(f, A, 2, 2); // token 1 is missing
    expect("drop A; start B; ");
    finish(f, "drop B; ");

    f = pausing();
    flow_paused(f, A, 3, 7); // token 3 was not told
    expect("drop A; timer 0; start B 101,102; ");
    finish(f, "drop B; ");

    f = pausing();
    flow_paused(f, A, 2, 7); // the row of the newest token cannot be there
    expect("drop A; timer 0; start B 101,102; ");
    finish(f, "drop B; ");

    f = waiting();
    told(f, B, 3, 3); // from a sequence with a hole
    expect("drop B; cut A; timer 0; start A; ");
    ended(f, A, 1); // fewer than it has told
    expect("open B 11,12,13,14,15; ");
    finish(f, "drop B; ");

    f = streaming(true);
    ended(f, B, 0); // it was only held
    expect("cut A; ");
    finish(f, "drop A; ");

    f = new_flow(A, A, false);
    flow_opened(f, A,
                &(struct gen_begin){.prompt_tokens = 5, .tokens = (int32_t[]){11, 12, 13, 14, 15}, .answer_tokens = 2});
    forget();
    for (int i = 1; i < 3; i++) told(f, A, i, i);
    forget();
    told(f, A, 3, 3);                          // more than was asked for
    expect("drop A; open A 11,12,13,14,15; "); // anew
    finish(f, "drop A; ");

    f = new_flow(A, B, true);
    struct gen_begin none = {.prompt_tokens = 0};
    flow_opened(f, A, &none);
    expect("open A rows of B; drop A; open B; ");
    finish(f, "drop B; ");
}

static void test_another_prompt(void **state) {
    (void)state;
    struct flow *f = new_flow(A, B, true);
    opened(f, A, 0);
    forget();
    int32_t tokens[] = {11, 12};
    struct gen_begin b = {.prompt_tokens = 2, .tokens = tokens};
    flow_opened(f, B, &b);
    expect("drop B; timer 0; start A; ");
    finish(f, "drop A; ");
}

static void test_unknown_tokens(void **state) {
    (void)state;
    struct flow *f = streaming(true);
    flow_text(f, A, "a", 1, 1, -1);
    flow_installed(f, B, PROMPT);
    expect("text a 1; "); // no hand-over
    failed(f, A, ERR_WORKER);
    expect("drop B; fail worker; ");
    finish(f, "");

    f = new_flow(A, B, true); // a prompt whose tokens are not told stays where it is
    struct gen_begin b = {.prompt_tokens = 3};
    flow_opened(f, A, &b);
    expect("open A rows of B; begin 3; start A; ");
    finish(f, "drop A; ");
}

// ---------------------------------------------------------------- moving
static void test_move(void **state) {
    (void)state;
    struct err e;
    struct flow *f = decoding();
    assert_int_equal(flow_move(f, B, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_int_equal(flow_move(f, C, &e), 0);
    expect("drop A; open C 11,12,13,14,15 rows of B; ");
    assert_int_equal(flow_move(f, A, &e), -1);
    assert_int_equal(e.code, ERR_BUSY);
    opened(f, C, 0);
    told(f, B, 5, 5);
    expect("stream BC 0; text e 5; ");
    flow_installed(f, C, PROMPT + 3);
    flow_paused(f, B, 5, PROMPT + 4);
    expect("timer 10000; pause B; timer 10000; start C 101,102,103,104,105 from 9; ");
    flow_installed(f, C, PROMPT + 4);
    told(f, C, 6, 6);
    expect("timer 0; text f 6; cut B; drop B; ");
    failed(f, C, ERR_WORKER); // B was left for good
    expect("open C 11,12,13,14,15; ");
    finish(f, "drop C; ");
}

static void test_move_fails(void **state) {
    (void)state;
    struct err e;
    struct flow *f = new_flow(A, A, true);
    assert_int_equal(flow_move(f, B, &e), -1);
    assert_int_equal(e.code, ERR_BUSY);
    opened(f, A, 0);
    forget();
    refused = "open";
    refusal = ERR_UNREACHABLE;
    assert_int_equal(flow_move(f, B, &e), -1);
    assert_int_equal(e.code, ERR_UNREACHABLE);
    expect("open B 11,12,13,14,15 rows of A; ");
    refused = NULL;
    assert_int_equal(flow_move(f, C, &e), 0);
    opened(f, C, 0);
    told(f, A, 1, 1);
    forget();
    failed(f, C, ERR_WORKER);
    told(f, A, 2, 2);
    expect("cut A; text b 2; ");
    finish(f, "drop A; ");
}

// ---------------------------------------------------------------- rows that the decode place has
static void test_fetch(void **state) {
    (void)state;
    struct flow *f = fetching();
    flow_installed(f, A, 100);
    expect("timer 2000; ");
    flow_installed(f, A, 200);
    expect("cut B; timer 0; ");
    told(f, A, 1, 1);
    flow_installed(f, B, LONG);
    expect("text a 1; timer 10000; pause A; ");
    flow_paused(f, A, 1, LONG);
    expect("timer 0; start B 101 from 300; ");
    told(f, B, 2, 2);
    expect("text b 2; cut A; ");
    ended(f, B, 2);
    finish(f, "drop A; end stop 300/200/2; ");
}

static void test_little_is_not_fetched(void **state) {
    (void)state;
    struct flow *f = new_flow(A, B, true);
    opened_long(f, A, 20);
    forget();
    opened_long(f, B, 20 + FLOW_FETCH);
    expect("timer 0; stream AB 84; start A; ");
    flow_free(f);
    forget();
    f = new_flow(A, B, true); // and a place that has begun fetches nothing
    opened_long(f, A, 20);
    flow_time(f);
    forget();
    opened_long(f, B, 200);
    expect("stream AB 200; ");
    ended(f, A, 0);
    finish(f, "drop B; end stop 300/20/0; ");
}

// Whatever becomes of the fetch, A goes on with what it has got.
static void test_fetch_is_given_up(void **state) {
    (void)state;
    struct flow *f = fetching();
    flow_installed(f, A, 90);
    forget();
    flow_time(f);
    expect("cut B; start A; ");
    flow_installed(f, A, 110); // was on its way
    expect("");
    told(f, A, 1, 1);
    flow_installed(f, B, LONG);
    forget();
    flow_free(f);
    forget();

    f = fetching();
    cut(f, A);
    expect("cut B; timer 0; start A; ");
    cut(f, A);
    expect("");
    cut(f, B); // the other one
    forget();
    ended(f, A, 0);
    finish(f, "drop B; end stop 300/20/0; ");

    f = fetching();
    cut(f, B);
    expect("cut B; cut A; drop B; timer 0; start A; ");
    flow_free(f);
    forget();
}

static void test_places_fail_during_a_fetch(void **state) {
    (void)state;
    struct flow *f = fetching();
    failed(f, B, ERR_UNREACHABLE);
    expect("cut A; timer 0; start A; ");
    flow_free(f);
    forget();

    f = fetching();
    failed(f, A, ERR_WORKER);
    expect("cut B; timer 0; start B; ");
    flow_free(f);
    forget();

    refused = "stream"; // neither can be begun
    f = new_flow(A, B, true);
    opened_long(f, A, 20);
    forget();
    opened_long(f, B, 200);
    expect("timer 0; stream BA 20; stream AB 200; cut A; drop B; start A; ");
    flow_free(f);
    forget();
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_one_place),
        TEST(test_two_places),
        TEST(test_prefill_is_ahead),
        TEST(test_decode_place_stays_behind),
        TEST(test_decode_place_comes_nearer),
        TEST(test_paused_after_the_first_token),
        TEST(test_ends_while_pausing),
        TEST(test_decode_place_is_late),
        TEST(test_decode_place_is_full),
        TEST(test_head_wait),
        TEST(test_decode_place_cannot_be_asked),
        TEST(test_stream_cannot_begin),
        TEST(test_decode_place_fails),
        TEST(test_decode_place_cannot_start),
        TEST(test_prefill_place_fails),
        TEST(test_prefill_place_fails_after_the_hand_over),
        TEST(test_pause_cannot_be_ordered),
        TEST(test_stream_is_cut),
        TEST(test_stream_stalls),
        TEST(test_retries),
        TEST(test_retry_that_cannot_be_asked),
        TEST(test_errors_of_the_request),
        TEST(test_nothing_can_be_opened),
        TEST(test_another_place),
        TEST(test_another_place_at_the_beginning),
        TEST(test_another_place_refuses),
        TEST(test_moved_and_lost),
        TEST(test_crashes),
        TEST(test_strangers_are_not_heard),
        TEST(test_liars_are_expelled),
        TEST(test_another_prompt),
        TEST(test_unknown_tokens),
        TEST(test_move),
        TEST(test_move_fails),
        TEST(test_fetch),
        TEST(test_little_is_not_fetched),
        TEST(test_fetch_is_given_up),
        TEST(test_places_fail_during_a_fetch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

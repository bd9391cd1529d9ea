// What a trace keeps when more happens than it holds, and its JSON.
#include "serve/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct trace t;

static int setup(void **state) {
    (void)state;
    trace_begin(&t, 1000, 1700000000000000000ull);
    return 0;
}

static void test_events_in_order(void **state) {
    (void)state;
    json_t *v;
    trace_add(&t, 1000, trace_node(&t, "prime"), TRACE_OPENED, 7);
    trace_add(&t, 2501000, trace_node(&t, "edge"), TRACE_STARTED, 0);
    trace_add(&t, 3501000, 1, TRACE_TOKEN, 1);
    snprintf(t.id, sizeof t.id, "cmpl-1");
    snprintf(t.model, sizeof t.model, "m");
    t.kv_bytes = 1ull << 40;
    snprintf(t.wire, sizeof t.wire, "f16");
    snprintf(t.agent, sizeof t.agent, "ann");
    assert_non_null(v = trace_json(&t));
    json_t *wanted = json_pack(
        "{s:s, s:s, s:s, s:I, s:[s,s], s:i, s:i, s:I, s:s, s:[{s:f,s:i,s:s,s:i},{s:f,s:i,s:s,s:i},{s:f,s:i,s:s,s:i}]}",
        "id", "cmpl-1", "agent", "ann", "model", "m", "began_ms", (json_int_t)1700000000000, "nodes", "prime", "edge",
        "prompt_tokens", 0, "completion_tokens", 0, "kv_bytes", (json_int_t)1 << 40, "wire", "f16", "events", "ms", 0.0,
        "place", 0, "event", "opened", "value", 7, "ms", 2.5, "place", 1, "event", "started", "value", 0, "ms", 3.5,
        "place", 1, "event", "token", "value", 1);
    assert_non_null(wanted);
    assert_true(json_equal(v, wanted));
    assert_int_equal(trace_prefill_ns(&t), 1000000);
    json_decref(wanted);
    json_decref(v);
}

static void test_emulated_nodes_are_marked(void **state) {
    (void)state;
    trace_node(&t, "prime");
    snprintf(t.emulated[trace_node(&t, "edge")], sizeof *t.emulated, "m3-ultra:2");
    json_t *v = trace_json(&t), *list = json_object_get(v, "emulated");
    assert_int_equal(json_array_size(list), 2);
    assert_true(json_is_null(json_array_get(list, 0)));
    assert_string_equal(json_string_value(json_array_get(list, 1)), "m3-ultra:2");
    json_decref(v);
}

static void test_every_event_has_a_name(void **state) {
    (void)state;
    for (int e = TRACE_OPENED; e < TRACE_EVENTS; e++) assert_non_null(trace_event_name((enum trace_event)e));
}

static void test_prefill_without_a_token(void **state) {
    (void)state;
    assert_int_equal(trace_prefill_ns(&t), 0);
    trace_add(&t, 2000, 0, TRACE_STARTED, 0);
    assert_int_equal(trace_prefill_ns(&t), 0);
}

static bool has(enum trace_event event, int place, int64_t value) {
    for (int i = 0; i < t.n; i++)
        if (t.entries[i].event == event && t.entries[i].place == place && t.entries[i].value == value) return true;
    return false;
}

// What matters stays, whatever came before and after it: only progress is thinned out.
static void test_more_than_it_holds(void **state) {
    (void)state;
    trace_add(&t, 1000, 0, TRACE_STARTED, 0);
    for (int i = 1; i <= 3 * TRACE_MOST; i++) {
        trace_add(&t, 1000 + (uint64_t)i, 0, TRACE_SENT, i);
        trace_add(&t, 1000 + (uint64_t)i, 1, TRACE_INSTALLED, i);
        if (i == TRACE_MOST) trace_add_reason(&t, 1000 + (uint64_t)i, 1, TRACE_CUT, "x");
        if (i == TRACE_MOST + 1) trace_add(&t, 1000 + (uint64_t)i, 0, TRACE_TOKEN, 77);
    }
    trace_add(&t, 5000, 1, TRACE_ENDED, 40);
    assert_true(t.n <= TRACE_MOST && t.n > TRACE_MOST / 3);
    assert_true(has(TRACE_STARTED, 0, 0) && has(TRACE_CUT, 1, 0) && has(TRACE_TOKEN, 0, 77) && has(TRACE_ENDED, 1, 40));
    assert_true(has(TRACE_INSTALLED, 1, 3 * TRACE_MOST) && has(TRACE_SENT, 0, 3 * TRACE_MOST)); // the newest ones
    for (int i = 1; i < t.n; i++) assert_true(t.entries[i].ns >= t.entries[i - 1].ns);
}

static void test_the_newest_stays(void **state) {
    (void)state;
    for (int i = 1; i <= TRACE_MOST; i++) trace_add(&t, 1000 + (uint64_t)i, 1, TRACE_INSTALLED, i);
    assert_int_equal(t.n, TRACE_MOST);
    trace_add(&t, 5000, 1, TRACE_ENDED, 40);
    assert_int_equal(t.n, TRACE_MOST / 2 + 1);
    assert_true(has(TRACE_INSTALLED, 1, TRACE_MOST) && has(TRACE_ENDED, 1, 40));
}

static void test_nothing_but_what_matters(void **state) {
    (void)state;
    for (int i = 0; i < TRACE_MOST; i++) trace_add(&t, 1001 + (uint64_t)i, 1, TRACE_STARTED, i);
    trace_add(&t, 5000, 1, TRACE_INSTALLED, 9);
    assert_false(has(TRACE_INSTALLED, 1, 9));
    trace_add(&t, 6000, 1, TRACE_ENDED, 40);
    assert_int_equal(t.n, TRACE_MOST);
    assert_int_equal(t.entries[TRACE_MOST - 1].event, TRACE_ENDED);
}

static const char *reason(int entry) {
    static char words[TRACE_REASON];
    json_t *v = trace_json(&t);
    const char *why = json_string_value(json_object_get(json_array_get(json_object_get(v, "events"), entry), "reason"));
    snprintf(words, sizeof words, "%s", why ? why : "");
    json_decref(v);
    return words;
}

static void test_reasons(void **state) {
    (void)state;
    char why[2 * TRACE_REASON];
    trace_add_reason(&t, 1000, 0, TRACE_FAILED, "its digest is 12\n");
    trace_add(&t, 1000, 0, TRACE_STARTED, 0);
    trace_add_reason(&t, 1000, 1, TRACE_CUT, "its digest is 12\n");
    assert_string_equal(reason(0), "its digest is 12\\x0A");
    assert_string_equal(reason(1), "");
    assert_string_equal(reason(2), reason(0));
    assert_int_equal(t.n_reasons, 1);
    for (int i = 0; i < TRACE_REASONS; i++) {
        snprintf(why, sizeof why, "reason %d", i);
        trace_add_reason(&t, 1000, 0, TRACE_DROPPED, why);
    }
    assert_int_equal(t.n_reasons, TRACE_REASONS);
    assert_string_equal(reason(2), "its digest is 12\\x0A");
    assert_string_equal(reason(1 + TRACE_REASONS), ""); // the newest took its room, and is not told as its own
    assert_string_equal(reason(2 + TRACE_REASONS), why);
    memset(why, 'x', sizeof why - 1);
    why[sizeof why - 1] = '\0';
    trace_add_reason(&t, 1000, 0, TRACE_DROPPED, why);
    assert_int_equal(strlen(reason(t.n - 1)), TRACE_REASON - 1);
}

static double transfer(const char *member) {
    json_t *v = trace_json(&t), *figure = json_object_get(json_object_get(v, "transfer"), member);
    double x = figure ? json_real_value(figure) : -1;
    json_decref(v);
    return x;
}

// A transfer from 2 to 12 ms after the start; the first token comes at 10 ms.
static void test_hidden_transfer(void **state) {
    (void)state;
    const uint64_t ms = 1000000, at = 1000;
    t.prompt_tokens = 100;
    trace_add(&t, at + ms, 1, TRACE_STREAM, 0);
    trace_sent_from(&t, at + 2 * ms);
    trace_add(&t, at + 5 * ms, 1, TRACE_INSTALLED, 50);
    trace_add(&t, at + 6 * ms, 0, TRACE_INSTALLED, 100); // the reading place fetches: not the transfer
    trace_add(&t, at + 10 * ms, 0, TRACE_TOKEN, 1);
    assert_true(transfer("hidden") < 0); // not all rows are there
    trace_add(&t, at + 12 * ms, 1, TRACE_INSTALLED, 100);
    trace_add(&t, at + 30 * ms, 1, TRACE_INSTALLED, 104); // those of generated tokens do not count
    trace_sent_from(&t, at + 29 * ms);
    assert_float_equal(transfer("began_ms"), 2, 1e-9);
    assert_float_equal(transfer("ms"), 10, 1e-9);
    assert_float_equal(transfer("exposed_ms"), 2, 1e-9);
    assert_float_equal(transfer("hidden"), 0.8, 1e-9);
}

static void test_transfer_that_nothing_hides(void **state) {
    (void)state;
    const uint64_t ms = 1000000, at = 1000;
    t.prompt_tokens = 100;
    trace_add(&t, at + ms, 1, TRACE_STREAM, 0);
    trace_sent_from(&t, at + ms);
    trace_add(&t, at + 2 * ms, 1, TRACE_INSTALLED, 10);
    trace_add(&t, at + 10 * ms, 0, TRACE_TOKEN, 1);
    trace_add(&t, at + 11 * ms, 2, TRACE_STREAM, 0); // it goes elsewhere after all
    trace_add(&t, at + 12 * ms, 2, TRACE_INSTALLED, 10);
    trace_add(&t, at + 15 * ms, 2, TRACE_INSTALLED, 100);
    assert_float_equal(transfer("exposed_ms"), 5, 1e-9);
    assert_true(transfer("ms") < 0 && transfer("hidden") < 0); // the sender is elsewhere: not known
    trace_begin(&t, at, 0);
    t.prompt_tokens = 100;
    trace_add(&t, at + 10 * ms, 0, TRACE_TOKEN, 1);
    trace_add(&t, at + 11 * ms, 1, TRACE_STREAM, 0);
    trace_sent_from(&t, at + 12 * ms);
    trace_add(&t, at + 15 * ms, 1, TRACE_INSTALLED, 100);
    assert_float_equal(transfer("ms"), 3, 1e-9);
    assert_float_equal(transfer("exposed_ms"), 3, 1e-9);
    assert_float_equal(transfer("hidden"), 0, 1e-9);
}

static void test_nodes(void **state) {
    (void)state;
    char name[16], longer[2 * sizeof t.nodes[0]];
    assert_int_equal(trace_node(&t, "a"), 0);
    assert_int_equal(trace_node(&t, "b"), 1);
    assert_int_equal(trace_node(&t, "a"), 0);
    for (int i = 2; i < TRACE_PLACES + 3; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(trace_node(&t, name), i < TRACE_PLACES ? i : TRACE_PLACES - 1);
    }
    assert_int_equal(t.n_nodes, TRACE_PLACES);
    assert_string_equal(t.nodes[TRACE_PLACES - 1], name); // the newest
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(strlen(t.nodes[trace_node(&t, longer)]), sizeof t.nodes[0] - 1);
}

static const char *verdict(double ttft_s, double total_s, int32_t tokens, int32_t cached) {
    static char words[256];
    t.plan =
        (struct trace_plan){.made = true, .mode = "local", .ttft_s = 1, .decode_s = 2, .total_s = 3, .generate = 21};
    t.ttft_ns = (uint64_t)(ttft_s * 1e9);
    t.total_ns = (uint64_t)(total_s * 1e9);
    t.completion_tokens = tokens;
    t.cached_tokens = cached;
    json_t *v = trace_json(&t), *plan = json_object_get(v, "plan");
    assert_string_equal(json_string_value(json_object_get(plan, "mode")), "local");
    const char *wrong = json_string_value(json_object_get(plan, "wrong"));
    snprintf(words, sizeof words, "%s", wrong ? wrong : "");
    json_decref(v);
    return words;
}

static void test_wrong_predictions_are_called_so(void **state) {
    (void)state;
    assert_string_equal(verdict(1.19, 3.5, 21, 0), "");
    assert_string_equal(verdict(1.5, 3.5, 21, 0), "the first token took 50 % longer than predicted");
    assert_string_equal(verdict(1, 2, 11, 0), ""); // half the answer took half of the time
    assert_string_equal(verdict(0.5, 1.5, 21, 9),
                        "the first token took 50 % less than predicted; the whole answer took 50 % less than predicted "
                        "(9 tokens of the prompt were cached)");
    assert_string_equal(verdict(0, 0, 0, 0), ""); // it has not ended
    t.plan.made = false;
    assert_null(trace_plan_json(&t));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_events_in_order, setup),
        cmocka_unit_test_setup(test_every_event_has_a_name, setup),
        cmocka_unit_test_setup(test_wrong_predictions_are_called_so, setup),
        cmocka_unit_test_setup(test_emulated_nodes_are_marked, setup),
        cmocka_unit_test_setup(test_prefill_without_a_token, setup),
        cmocka_unit_test_setup(test_more_than_it_holds, setup),
        cmocka_unit_test_setup(test_the_newest_stays, setup),
        cmocka_unit_test_setup(test_nothing_but_what_matters, setup),
        cmocka_unit_test_setup(test_reasons, setup),
        cmocka_unit_test_setup(test_hidden_transfer, setup),
        cmocka_unit_test_setup(test_transfer_that_nothing_hides, setup),
        cmocka_unit_test_setup(test_nodes, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

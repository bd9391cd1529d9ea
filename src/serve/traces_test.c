// The newest traces are kept and found; the HTTP exchange is a stand-in that remembers the answer.
#include "serve/traces.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *path; // of the call
static int status;       // of the answer
static json_t *answer;   // a reference
static struct err refusal;

const char *http_path(const struct http_exchange *x) {
    assert_null(x);
    return path;
}

void call_reply(const struct call *c, int code, const json_t *v) {
    (void)c;
    status = code;
    answer = json_deep_copy(v);
}

void call_fail(const struct call *c, const struct err *why) {
    (void)c;
    status = -1;
    refusal = *why;
}

static struct serve s;

static void keep(int i) {
    struct trace t;
    trace_begin(&t, 0, 0);
    snprintf(t.id, sizeof t.id, "cmpl-%d", i);
    traces_keep(s.traces, &t);
}

static int setup(void **state) {
    (void)state;
    s.traces = traces_new();
    return s.traces ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    traces_free(s.traces);
    return 0;
}

static void ask(const char *id) {
    static char whole[256];
    snprintf(whole, sizeof whole, "/nebulus/v1/traces/%s", id);
    path = whole;
    status = 0;
    traces_show(&(struct call){.s = &s});
}

static void expect_id(const char *id) {
    assert_int_equal(status, 200);
    assert_string_equal(json_string_value(json_object_get(answer, "id")), id);
    json_decref(answer);
}

static void test_none_yet(void **state) {
    (void)state;
    assert_null(traces_find(s.traces, ""));
    assert_null(traces_find(s.traces, "cmpl-0"));
    ask("latest");
    assert_int_equal(status, -1);
    assert_int_equal(refusal.code, ERR_NOT_FOUND);
}

static void test_the_oldest_makes_room(void **state) {
    (void)state;
    for (int i = 0; i < TRACES_KEPT + 3; i++) keep(i);
    assert_null(traces_find(s.traces, "cmpl-2"));
    assert_string_equal(traces_find(s.traces, "cmpl-3")->id, "cmpl-3");
    assert_string_equal(traces_find(s.traces, "")->id, "cmpl-130");
    keep(3); // an id that comes again: the newer one
    assert_ptr_not_equal(traces_find(s.traces, "cmpl-3"), traces_find(s.traces, "cmpl-4"));
    assert_ptr_equal(traces_find(s.traces, "cmpl-3"), traces_find(s.traces, ""));
}

static void test_shown(void **state) {
    (void)state;
    keep(1);
    keep(2);
    ask("latest");
    expect_id("cmpl-2");
    ask("cmpl-1");
    expect_id("cmpl-1");
    ask("\x1b[31mred\n");
    assert_int_equal(status, -1);
    assert_null(strpbrk(refusal.msg, "\x1b\n"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_none_yet, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_oldest_makes_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shown, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

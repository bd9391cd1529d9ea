// The talk about a measurement: what is written is read back, what makes no sense is refused by name.
#include "base/json.h"
#include "base/limits.h"
#include "serve/probemsg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_round_trips(void **state) {
    (void)state;
    static const struct probemsg all[] = {
        {.type = PROBEMSG_ASK, .n = 7, .bytes = LIMIT_PROBE_BYTES, .ms = LIMIT_PROBE_SECONDS * 1000},
        {.type = PROBEMSG_READY, .n = (1ull << 53) - 1},
        {.type = PROBEMSG_REFUSED, .n = 8, .why = {.code = ERR_BUSY, .msg = "not now"}},
        {.type = PROBEMSG_SENT, .n = 9, .bytes = 0},
        {.type = PROBEMSG_REPORT, .n = 10, .figures = {.total = 100, .bytes = 80, .ns = 5, .cpu_ns = 3}},
        {.type = PROBEMSG_REPORT, .n = 11}, // nothing came
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct probemsg back;
        struct err e;
        json_t *msg = probemsg_write(&all[i]);
        assert_true(probemsg_is(json_string_value(json_object_get(msg, "t"))));
        assert_int_equal(probemsg_read(msg, &back, &e), 0);
        assert_true(back.type == all[i].type && back.n == all[i].n && back.bytes == all[i].bytes);
        assert_true(back.ms == all[i].ms && !memcmp(&back.figures, &all[i].figures, sizeof back.figures));
        assert_int_equal(back.why.code, all[i].why.code);
        assert_string_equal(back.why.msg, all[i].why.msg);
        json_decref(msg);
    }
}

static void test_nonsense(void **state) {
    (void)state;
    static const struct {
        const char *text, *param;
    } cases[] = {
        {"{\"t\":\"link.other\",\"n\":1}", "t"},
        {"{\"t\":5,\"n\":1}", "t"},
        {"{\"n\":1}", "t"},
        {"{\"t\":\"link.ready\"}", "n"},
        {"{\"t\":\"link.ready\",\"n\":0}", "n"},
        {"{\"t\":\"link.ready\",\"n\":9007199254740992}", "n"},
        {"{\"t\":\"link.ready\",\"n\":\"1\"}", "n"},
        {"{\"t\":\"link.probe\",\"n\":1,\"ms\":10}", "bytes"},
        {"{\"t\":\"link.probe\",\"n\":1,\"bytes\":0,\"ms\":10}", "bytes"},
        {"{\"t\":\"link.probe\",\"n\":1,\"bytes\":17179869185,\"ms\":10}", "bytes"},
        {"{\"t\":\"link.probe\",\"n\":1,\"bytes\":10,\"ms\":10001}", "ms"},
        {"{\"t\":\"link.probe\",\"n\":1,\"bytes\":10,\"ms\":-1}", "ms"},
        {"{\"t\":\"link.sent\",\"n\":1}", "bytes"},
        {"{\"t\":\"link.sent\",\"n\":1,\"bytes\":1e99}", "bytes"},
        {"{\"t\":\"link.report\",\"n\":1,\"total\":5,\"bytes\":6,\"ns\":1,\"cpu_ns\":1}", "bytes"},
        {"{\"t\":\"link.report\",\"n\":1,\"total\":5,\"bytes\":5,\"ns\":0,\"cpu_ns\":1}", "ns"},
        {"{\"t\":\"link.report\",\"n\":1,\"total\":5,\"bytes\":0,\"ns\":7,\"cpu_ns\":1}", "ns"},
        {"{\"t\":\"link.report\",\"n\":1,\"total\":5,\"bytes\":5,\"ns\":1}", "cpu_ns"},
        {"{\"t\":\"link.report\",\"n\":1,\"total\":4194304,\"bytes\":4194304,\"ns\":5,\"cpu_ns\":1}", "ns"},
        {"{\"t\":\"link.report\",\"n\":1,\"total\":5,\"bytes\":5,\"ns\":9e18,\"cpu_ns\":1}", "ns"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct probemsg m;
        struct err e = {.code = ERR_NONE};
        json_t *msg = json_parse(cases[i].text, strlen(cases[i].text), &e);
        assert_non_null(msg);
        assert_int_equal(probemsg_read(msg, &m, &e), -1);
        assert_string_equal(e.param, cases[i].param);
        json_decref(msg);
    }
    assert_false(probemsg_is("site.open"));
    assert_false(probemsg_is("link"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trips), cmocka_unit_test(test_nonsense)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "base/json.h"
#include "cluster/linkmsg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static int read_text(const char *text, struct err *e) {
    struct linkmsg m;
    json_t *msg = json_parse(text, strlen(text), e);
    assert_non_null(msg);
    int rc = linkmsg_read(msg, &m, e);
    int type = m.type;
    json_decref(msg);
    return rc ? -1 : type;
}

#define HELLO(version, id, rest) "{\"t\":\"peer.hello\",\"version\":" version ",\"id\":" id ",\"name\":\"x\"" rest "}"
#define REST                     ",\"boot\":1,\"lost\":0,\"about\":{}"

static void test_both_ways(void **state) {
    (void)state;
    struct err e;
    json_t *about = json_pack("{s:[i,i]}", "models", 1, 2), *msg;
    const struct linkmsg hello = {
        .type = LINKMSG_HELLO, .id = "ab", .name = "ada", .boot = 7, .lost = (1ull << 53) - 1, .about = about};
    struct linkmsg got;
    msg = linkmsg_write(&hello);
    assert_int_equal(linkmsg_read(msg, &got, &e), 0);
    assert_int_equal(got.type, LINKMSG_HELLO);
    assert_string_equal(got.id, "ab");
    assert_string_equal(got.name, "ada");
    assert_int_equal(got.boot, 7);
    assert_int_equal(got.lost, (1ull << 53) - 1);
    assert_true(json_equal(got.about, about));
    json_decref(msg);
    msg = linkmsg_write(&(struct linkmsg){.type = LINKMSG_REFUSE, .code = ERR_BUSY, .msg = "why"});
    assert_int_equal(linkmsg_read(msg, &got, &e), 0);
    assert_int_equal(got.type, LINKMSG_REFUSE);
    assert_int_equal(got.code, ERR_BUSY);
    assert_string_equal(got.msg, "why");
    json_decref(msg);
    static const enum linkmsg_type numbered[] = {LINKMSG_UP, LINKMSG_BEAT, LINKMSG_ECHO};
    for (size_t i = 0; i < 3; i++) {
        msg = linkmsg_write(&(struct linkmsg){.type = numbered[i], .n = 42});
        assert_int_equal(linkmsg_read(msg, &got, &e), 0);
        assert_int_equal(got.type, numbered[i]);
        assert_int_equal(got.n, 42);
        json_decref(msg);
    }
    assert_null(linkmsg_write(&(struct linkmsg){.type = LINKMSG_USERS}));
    json_decref(about);
}

static void test_users(void **state) {
    (void)state;
    struct err e;
    static const char *const texts[] = {"{}", "{\"t\":\"job\"}", "{\"t\":1}", "{\"t\":\"peer\"}",
                                        "{\"t\":\"Peer.up\"}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) assert_int_equal(read_text(texts[i], &e), LINKMSG_USERS);
}

static void test_refused(void **state) {
    (void)state;
    struct err e;
    assert_int_equal(read_text(HELLO("1", "\"a\"", REST), &e), LINKMSG_HELLO);
    static const char *const texts[] = {
        HELLO("\"1\"", "\"a\"", REST),
        HELLO("1", "1", REST),
        HELLO("1", "null", REST),
        HELLO("1", "\"a\"", ",\"boot\":0,\"lost\":0,\"about\":{}"),
        HELLO("1", "\"a\"", ",\"boot\":1,\"lost\":-1,\"about\":{}"),
        HELLO("1", "\"a\"", ",\"boot\":1,\"lost\":9007199254740992,\"about\":{}"),
        HELLO("1", "\"a\"", ",\"boot\":1,\"lost\":0,\"about\":[]"),
        HELLO("1", "\"a\"", ",\"boot\":1,\"lost\":0"),
        "{\"t\":\"peer.hello\"}",
        "{\"t\":\"peer.up\"}",
        "{\"t\":\"peer.up\",\"link\":0}",
        "{\"t\":\"peer.beat\",\"n\":\"1\"}",
        "{\"t\":\"peer.echo\",\"n\":-1}",
        "{\"t\":\"peer.refuse\",\"code\":\"busy\"}",
        "{\"t\":\"peer.refuse\",\"msg\":\"x\"}",
        "{\"t\":\"peer.\"}",
        "{\"t\":\"peer.surprise\"}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (read_text(texts[i], &e) != -1) fail_msg("accepted: %s", texts[i]);
    assert_int_equal(read_text(HELLO("2", "5", ""), &e), -1); // what else it holds is that version's matter
    assert_non_null(strstr(e.msg, "version 2"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_both_ways), cmocka_unit_test(test_users),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

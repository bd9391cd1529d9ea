// Pieces and questions for them survive their way as JSON; what else comes is refused.
#include "audit/piece.h"
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const char origin[] = "home/0123456789abcdef0123456789abcdef/000001-0a0b0c0d";

static void test_round(void **state) {
    const struct piece_want want = {.log = origin, .at = 1ull << 40, .bytes = PIECE_MOST};
    const struct piece pieces[] = {{.log = origin, .at = 7, .data = "QUJD", .n = 4},
                                   {.log = origin, .data = "", .note = "note\n", .note_len = 5},
                                   {.log = origin, .at = 7, .error = "there is no mirror"}};
    struct piece_want other;
    struct err e;
    (void)state;
    json_t *msg = piece_want_json(&want);
    assert_int_equal(piece_want_read(msg, &other, &e), 0);
    assert_true(!strcmp(other.log, origin) && other.at == want.at && other.bytes == want.bytes);
    json_decref(msg);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        struct piece p;
        msg = piece_json(&pieces[i]);
        assert_int_equal(piece_read(msg, &p, &e), 0);
        assert_true(!strcmp(p.log, origin) && p.at == pieces[i].at && p.n == pieces[i].n);
        assert_int_equal(p.note_len, pieces[i].note_len);
        assert_int_equal(!p.error, !pieces[i].error);
        json_decref(msg);
    }
}

static void test_refused(void **state) {
    static const char *const bad[] = {
        "{}",
        "{\"log\":\"a/b/c\"}",
        "{\"log\":\"a/b/c\",\"at\":0}",
        "{\"log\":\"a b\",\"at\":0,\"bytes\":1,\"data\":\"\"}",
        "{\"log\":7,\"at\":0,\"bytes\":1,\"data\":\"\"}",
        "{\"log\":\"a/b/c\",\"at\":-1,\"bytes\":1,\"data\":\"\"}",
        "{\"log\":\"a/b/c\",\"at\":9223372036854775807,\"bytes\":1,\"data\":\"\"}",
        "{\"log\":\"a/b/c\",\"at\":0,\"bytes\":131073,\"data\":\"\",\"error\":\"both\"}",
        "{\"log\":\"a/b/c\",\"at\":0,\"bytes\":-1,\"data\":7}",
    };
    struct piece_want want;
    struct piece piece;
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *msg = json_parse(bad[i], strlen(bad[i]), &e);
        assert_non_null(msg);
        assert_int_equal(piece_want_read(msg, &want, &e), -1);
        assert_int_equal(piece_read(msg, &piece, &e), -1);
        json_decref(msg);
    }
}

static void test_too_long(void **state) {
    static char text[BASE64_SIZE(PIECE_MOST) + 1];
    struct piece piece;
    struct err e;
    (void)state;
    memset(text, 'A', sizeof text - 1);
    for (int longer = 0; longer < 2; longer++) {
        json_t *msg = json_pack("{s:s,s:i,s:s}", "log", origin, "at", 0, "data", text + 1 - longer);
        assert_int_equal(piece_read(msg, &piece, &e), -longer);
        json_decref(msg);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_too_long)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

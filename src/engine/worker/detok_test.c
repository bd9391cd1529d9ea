#include "base/text.h"
#include "engine/worker/detok.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct detok_case {
    const char *name;
    const char *pieces[8];
    const char *stop[3];
    const char *shown[8]; // after each piece; NULL ends
    int found;            // by the last piece
    const char *flushed;  // what the end adds
};

static const struct detok_case cases[] = {
    {"plain text", {"Hel", "lo"}, {0}, {"Hel", "lo"}, -1, ""},
    {"nothing", {""}, {0}, {""}, -1, ""},
    {"a character over two tokens", {"\xC3", "\xA9t\xC3\xA9"}, {0}, {"", "été"}, -1, ""},
    {"a character over four tokens",
     {"a\xF0", "\x9F", "\x98", "\x80!"},
     {0},
     {"a", "", "", "\xF0\x9F\x98\x80!"},
     -1,
     ""},
    {"a character that never ends", {"a\xF0\x9F"}, {0}, {"a"}, -1, "\uFFFD\uFFFD"},
    {"invalid bytes",
     {"a\xFF"
      "b\x80"},
     {0},
     {"a\uFFFDb\uFFFD"},
     -1,
     ""},
    {"a character broken off by another", {"\xE2\x82", "x"}, {0}, {"", "\uFFFD\uFFFDx"}, -1, ""},
    {"surrogates and overlong forms",
     {"\xED\xA0\x80", "\xC0\xAF"},
     {0},
     {"\uFFFD\uFFFD\uFFFD", "\uFFFD\uFFFD"},
     -1,
     ""},
    {"a stop string in one token", {"one END two"}, {"END"}, {"one "}, 0, ""},
    {"a stop string over tokens", {"one E", "N", "D two"}, {"END"}, {"one ", "", ""}, 0, ""},
    {"what only began like one", {"one E", "N", "ough"}, {"END"}, {"one ", "", "ENough"}, -1, ""},
    {"what only began like one, at the end", {"one EN"}, {"END"}, {"one "}, -1, "EN"},
    {"a beginning within a beginning", {"aa", "ab"}, {"aab"}, {"", "a"}, 0, ""},
    {"repeated beginnings", {"ababab", "ac"}, {"ababac"}, {"ab", ""}, 0, ""},
    {"the first that is complete wins", {"abcd"}, {"abcd", "bc"}, {"a"}, 1, ""},
    {"the first that is complete wins, over tokens", {"abc", "d"}, {"abcd", "bc"}, {"a"}, 1, ""},
    {"the longest of two that end together", {"xabc"}, {"bc", "abc"}, {"x"}, 1, ""},
    {"a stop string that begins with the first byte", {"\n\nUser:"}, {"\n\nUser:"}, {""}, 0, ""},
    {"a stop string of several bytes a character",
     {"ja\xE3\x80", "\x82"
                    "nein"},
     {"\xE3\x80\x82"},
     {"ja", ""},
     0,
     ""},
    {"half of its last character", {"ja\xE3\x80"}, {"a\xE3\x80\x82"}, {"j"}, -1, "a\uFFFD\uFFFD"},
};

static void run(const struct detok_case *c) {
    struct detok d;
    struct buf out;
    char *stop[3];
    size_t n_stop = 0;
    int found = -1;
    for (; n_stop < 3 && c->stop[n_stop]; n_stop++) stop[n_stop] = strdup(c->stop[n_stop]);
    detok_init(&d, stop, n_stop);
    buf_init(&out, 1 << 20);
    for (int i = 0; c->shown[i]; i++) {
        buf_clear(&out);
        assert_int_equal(found, -1);
        found = detok_push(&d, c->pieces[i], strlen(c->pieces[i]), &out);
        if (strcmp(buf_str(&out), c->shown[i])) fail_msg("%s: '%s' after piece %d", c->name, buf_str(&out), i);
    }
    if (found != c->found) fail_msg("%s: stop string %d", c->name, found);
    buf_clear(&out);
    if (found < 0) detok_flush(&d, &out);
    if (strcmp(buf_str(&out), c->flushed)) fail_msg("%s: '%s' at the end", c->name, buf_str(&out));
    detok_close(&d);
    buf_free(&out);
    for (size_t i = 0; i < n_stop; i++) free(stop[i]);
}

static void test_cases(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) run(&cases[i]);
}

static void test_nul(void **state) {
    (void)state;
    struct detok d;
    struct buf out;
    detok_init(&d, NULL, 0);
    buf_init(&out, 100);
    assert_int_equal(detok_push(&d, "a\0b", 3, &out), -1);
    assert_string_equal(buf_str(&out), "a\uFFFDb");
    detok_close(&d);
    buf_free(&out);
}

// Any bytes, cut anywhere: the same text, always valid, without the stop string, never ending in what may become one.
static void test_cuts(void **state) {
    (void)state;
    static const char alphabet[] = "ab\xC3\xA9\xE2\x82\xAC\xF0\xFF";
    char *stops[] = {strdup("ab\xC3\xA9"), strdup("bab"), strdup("aa\xE2\x82\xAC")};
    uint32_t random = 7;
    for (int round = 0; round < 3000; round++) {
        char bytes[40];
        struct buf whole, part;
        int found[2];
        for (size_t i = 0; i < sizeof bytes; i++) {
            random = random * 1664525u + 1013904223u;
            bytes[i] = alphabet[(random >> 16) % (sizeof alphabet - 1)];
        }
        for (int way = 0; way < 2; way++) {
            struct detok d;
            struct buf *out = way ? &part : &whole;
            detok_init(&d, stops, 3);
            buf_init(out, 1000);
            found[way] = -1;
            for (size_t at = 0, n; at < sizeof bytes && found[way] < 0; at += n) {
                random = random * 1664525u + 1013904223u;
                n = way ? 1 + (random >> 16) % 5 : sizeof bytes;
                if (n > sizeof bytes - at) n = sizeof bytes - at;
                found[way] = detok_push(&d, bytes + at, n, out);
                assert_true(text_is_utf8(buf_str(out), out->len));
            }
            if (found[way] < 0) detok_flush(&d, out);
            detok_close(&d);
        }
        assert_int_equal(found[0], found[1]);
        assert_string_equal(buf_str(&whole), buf_str(&part));
        assert_true(text_is_utf8(buf_str(&whole), whole.len));
        for (int i = 0; i < 3; i++) assert_null(strstr(buf_str(&whole), stops[i]));
        buf_free(&whole);
        buf_free(&part);
    }
    for (int i = 0; i < 3; i++) free(stops[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_nul),
                                       cmocka_unit_test(test_cuts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

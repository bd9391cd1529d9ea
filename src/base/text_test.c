#include "base/limits.h"
#include "base/text.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// The independent oracle: an encoder written from the table of RFC 3629. Every scalar value is encoded once; a
// four-byte string is valid UTF-8 exactly where some concatenation of these encodings gives it.
static size_t encode(uint32_t c, unsigned char out[4]) {
    if (c >= 0x110000 || (c >= 0xD800 && c < 0xE000)) return 0;
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0x00, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i-- > 1; c >>= 6) out[i] = (unsigned char)(0x80 | (c & 0x3F));
    out[0] = (unsigned char)(first[n] | c);
    return n;
}

static uint32_t packed(const unsigned char *s, size_t n) {
    uint32_t v = 0;
    for (size_t i = 0; i < n; i++) v |= (uint32_t)s[i] << (24 - 8 * i);
    return v;
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

struct characters {
    uint32_t *of[5]; // sorted encodings of each length, left-aligned in 32 bits
    size_t count[5];
};

static void all_characters(struct characters *all) {
    for (size_t n = 1; n <= 4; n++) assert_non_null(all->of[n] = malloc(0x110000 * sizeof(uint32_t)));
    for (uint32_t c = 0; c < 0x110000; c++) {
        unsigned char s[4];
        size_t n = encode(c, s);
        if (n) all->of[n][all->count[n]++] = packed(s, n);
    }
    for (size_t n = 1; n <= 4; n++) qsort(all->of[n], all->count[n], sizeof(uint32_t), by_value);
}

static bool is_character(const struct characters *all, const unsigned char *s, size_t n) {
    uint32_t v = packed(s, n);
    return bsearch(&v, all->of[n], all->count[n], sizeof v, by_value) != NULL;
}

// Whether some character of more than n bytes begins with s[0..n).
static bool begins_character(const struct characters *all, const unsigned char *s, size_t n) {
    uint32_t low = packed(s, n), high = n >= 4 ? low : low | (0xFFFFFFFFu >> (8 * n));
    for (size_t len = n + 1; len <= 4; len++) {
        size_t a = 0, b = all->count[len];
        while (a < b) {
            size_t mid = (a + b) / 2;
            if (all->of[len][mid] < low)
                a = mid + 1;
            else
                b = mid;
        }
        if (a < all->count[len] && all->of[len][a] <= high) return true;
    }
    return false;
}

static int expected(const struct characters *all, const unsigned char *s, size_t n) {
    for (size_t len = 1; len <= n; len++)
        if (is_character(all, s, len)) return (int)len;
    return begins_character(all, s, n) ? -1 : 0;
}

static void test_utf8_against_enumeration(void **state) {
    (void)state;
    // every byte at the edges of the table's ranges, and one from inside each
    static const unsigned char bytes[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0,
                                          0xC1, 0xC2, 0xC3, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF,
                                          0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFE, 0xFF};
    enum { N = sizeof bytes };
    struct characters all = {0};
    all_characters(&all);
    for (int a = 0; a < N; a++)
        for (int b = 0; b < N; b++)
            for (int c = 0; c < N; c++)
                for (int d = 0; d < N; d++) {
                    unsigned char s[4] = {bytes[a], bytes[b], bytes[c], bytes[d]};
                    for (size_t n = 1; n <= 4; n++)
                        if (text_utf8_char((char *)s, n) != expected(&all, s, n))
                            fail_msg("%02X %02X %02X %02X, first %zu", s[0], s[1], s[2], s[3], n);
                }
    for (size_t n = 1; n <= 4; n++) free(all.of[n]);
}

static void test_every_character_is_valid(void **state) {
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c++) {
        unsigned char s[4];
        size_t n = encode(c, s);
        if (n && text_utf8_char((char *)s, n) != (int)n) fail_msg("U+%04X", c);
        for (size_t cut = 1; cut < n; cut++)
            if (text_utf8_complete((char *)s, cut) != 0 || text_is_utf8((char *)s, cut))
                fail_msg("U+%04X cut at %zu", c, cut);
    }
}

static void test_complete_prefix(void **state) {
    (void)state;
    static const char text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
    static const size_t whole[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
    for (size_t n = 0; n < sizeof text; n++) {
        assert_int_equal(text_utf8_complete(text, n), whole[n]);
        assert_int_equal(text_is_utf8(text, n), whole[n] == n);
    }
    assert_int_equal(text_utf8_complete("a\x80", 2), 2); // a stray continuation is complete
    assert_int_equal(text_utf8_complete("a\xFF", 2), 2);
    assert_int_equal(text_utf8_complete("\xE0\x80", 2), 2); // can never become a character
    assert_int_equal(text_utf8_complete("\x80\x80\x80\x80", 4), 4);
}

static void assert_escaped(const char *in, const char *out) {
    char got[256];
    text_escape(got, sizeof got, in);
    assert_string_equal(got, out);
}

static void test_escape(void **state) {
    (void)state;
    assert_escaped("plain, caf\xC3\xA9 \xF0\x9F\x98\x80", "plain, caf\xC3\xA9 \xF0\x9F\x98\x80");
    assert_escaped("a\nb\t\x1B[2J\x7F", "a\\x0Ab\\x09\\x1B[2J\\x7F");
    assert_escaped("\xC2\x9B"
                   "2J\xC2\xA0",
                   "\\xC2\\x9B"
                   "2J\xC2\xA0"); // C1 controls, too
    assert_escaped("\xFF\xE2\x82", "\\xFF\\xE2\\x82");
    assert_escaped("\xED\xA0\x80", "\\xED\\xA0\\x80");
}

static void test_escape_never_overruns(void **state) {
    (void)state;
    static const char in[] = "a\x01\xC3\xA9\xC2\x9B\xF0\x9F\x98\x80";
    char whole[64];
    text_escape(whole, sizeof whole, in);
    for (size_t size = 1; size < sizeof whole; size++) {
        char *small = malloc(size); // exactly, so that AddressSanitizer watches its end
        assert_non_null(small);
        text_escape(small, size, in);
        assert_true(strlen(small) < size);
        assert_memory_equal(small, whole, strlen(small));
        assert_true(text_is_utf8(small, strlen(small)));
        free(small);
    }
}

static void test_parse_long(void **state) {
    (void)state;
    long v = 42;
    static const char *const bad[] = {"",   " 1",  "1 ", "+1", "0x10", "1.0", "-", "--1", "abc", "99999999999999999999",
                                      "11", "-11", "1\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_int_equal(text_parse_long(bad[i], -10, 10, &v), -1);
    assert_int_equal(v, 42);
    assert_int_equal(text_parse_long("-10", -10, 10, &v), 0);
    assert_int_equal(v, -10);
    assert_int_equal(text_parse_long("010", -10, 10, &v), 0); // decimal, always
    assert_int_equal(v, 10);
    char edge[32];
    snprintf(edge, sizeof edge, "%ld", LONG_MIN);
    assert_int_equal(text_parse_long(edge, LONG_MIN, LONG_MAX, &v), 0);
    assert_true(v == LONG_MIN);
}

static void test_names(void **state) {
    (void)state;
    char longest[LIMIT_MODEL_NAME + 2];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_false(text_is_name(longest));
    assert_true(text_is_name(longest + 1));
    assert_true(text_is_name("Llama-3.1_8B.Q4_0"));
    static const char *const bad[] = {"", ".", "..", ".a", "-a", "a/b", "a b", "a:b", "caf\xC3\xA9", "a\n", "a%2f"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(text_is_name(bad[i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_against_enumeration),
        cmocka_unit_test(test_every_character_is_valid),
        cmocka_unit_test(test_complete_prefix),
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_escape_never_overruns),
        cmocka_unit_test(test_parse_long),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

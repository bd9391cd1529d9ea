#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_hex(void **state) {
    (void)state;
    static const uint8_t raw[] = {0x00, 0x7f, 0xa5, 0xff};
    static const char *const bad[] = {"007fa5f", "007fa5ff0", "007FA5FF", "007fa5fg", "", " 07fa5ff"};
    char text[9];
    uint8_t back[4];
    hex_encode(raw, sizeof raw, text);
    assert_string_equal(text, "007fa5ff");
    assert_int_equal(hex_decode(text, back, 4), 0);
    assert_memory_equal(back, raw, 4);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_int_equal(hex_decode(bad[i], back, 4), -1);
    assert_int_equal(hex_decode(NULL, back, 4), -1);
}

// RFC 4648, section 10.
static void test_base64_vectors(void **state) {
    (void)state;
    static const char *const vectors[][2] = {
        {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},         {"foo", "Zm9v"},
        {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        char text[BASE64_SIZE(6)];
        uint8_t back[6];
        size_t n;
        base64_encode(vectors[i][0], strlen(vectors[i][0]), text);
        assert_string_equal(text, vectors[i][1]);
        assert_int_equal(base64_decode(text, strlen(text), back, sizeof back, &n), 0);
        assert_int_equal(n, strlen(vectors[i][0]));
        assert_memory_equal(back, vectors[i][0], n);
    }
}

static void test_base64_all_bytes(void **state) {
    (void)state;
    uint8_t raw[256], back[256];
    char text[BASE64_SIZE(256)];
    size_t n;
    for (int i = 0; i < 256; i++) raw[i] = (uint8_t)(255 - i);
    base64_encode(raw, sizeof raw, text);
    assert_int_equal(strlen(text) + 1, sizeof text);
    assert_int_equal(base64_decode(text, strlen(text), back, sizeof back, &n), 0);
    assert_int_equal(n, 256);
    assert_memory_equal(back, raw, 256);
    assert_int_equal(base64_decode(text, strlen(text), back, 255, &n), -1); // does not fit
}

static void test_base64_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"Z", "Zg==", "Zh", "Zm9", "Zm+v", "Zm/v", "Zm 9v", "Zm9vY"};
    uint8_t back[16];
    size_t n;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(base64_decode(bad[i], strlen(bad[i]), back, sizeof back, &n), -1);
    assert_int_equal(base64_decode("Zg\0v", 4, back, sizeof back, &n), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_base64_vectors),
        cmocka_unit_test(test_base64_all_bytes),
        cmocka_unit_test(test_base64_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "discover/about.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_round_trip(void **state) {
    struct about a = {.name = "prime", .id = "0123456789abcdef0123456789abcdef", .version = "0.1.0", .role = "auto"}, b;
    uint8_t text[ABOUT_TEXT];
    (void)state;
    memset(a.cluster, 'f', ABOUT_CLUSTER - 1);
    about_add_model(&a, "llama");
    about_add_model(&a, "qwen");
    assert_string_equal(a.models, "llama,qwen");
    size_t n = about_write(&a, text);
    assert_memory_equal(text, "\011txtvers=1\012name=prime", 21);
    about_read(&b, text, n);
    assert_memory_equal(&a, &b, sizeof a);
    assert_true(n <= ABOUT_TEXT);
}

static void test_longest(void **state) {
    struct about a, b;
    uint8_t text[ABOUT_TEXT];
    (void)state;
    memset(&a, 'f', sizeof a);
    a.name[ABOUT_NAME - 1] = a.id[ABOUT_ID - 1] = a.cluster[ABOUT_CLUSTER - 1] = a.version[ABOUT_WORD - 1] =
        a.role[ABOUT_WORD - 1] = a.models[ABOUT_MODELS - 1] = 0;
    size_t n = about_write(&a, text);
    assert_true(n <= ABOUT_TEXT);
    about_read(&b, text, n);
    assert_memory_equal(&a, &b, sizeof a);
}

static void test_many_models(void **state) {
    struct about a = {.name = ""};
    char name[50];
    (void)state;
    memset(name, 'm', sizeof name - 1);
    name[sizeof name - 1] = 0;
    for (int i = 0; i < 10; i++) about_add_model(&a, name);
    about_add_model(&a, "s"); // the order is kept: nothing follows the mark
    size_t n = strlen(a.models);
    assert_int_equal(n, 3 * 50 + 3);
    assert_string_equal(a.models + n - 4, ",...");
}

static void test_hostile(void **state) {
    static const uint8_t text[] = "\004"
                                  "name"
                                  "\012"
                                  "NAME=a\033[1m"
                                  "\006"
                                  "name=b"
                                  "\002"
                                  "=x"
                                  "\000"
                                  ""
                                  "\004"
                                  "id=1"
                                  "\011"
                                  "cluster=Z"
                                  "\013"
                                  "version=1\0002";
    struct about a;
    (void)state;
    about_read(&a, text, sizeof text - 1);
    assert_string_equal(a.name, "a\x1b[1m"); // as it came; escaping is for those who show it
    assert_string_equal(a.id, "");
    assert_string_equal(a.cluster, "");
    assert_string_equal(a.version, "1");
}

static void test_too_long(void **state) {
    uint8_t text[256] = "\377name=";
    struct about a;
    (void)state;
    memset(text + 6, 'n', 250);
    about_read(&a, text, sizeof text);
    assert_int_equal(strlen(a.name), ABOUT_NAME - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_longest),  cmocka_unit_test(test_many_models),
        cmocka_unit_test(test_hostile),    cmocka_unit_test(test_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

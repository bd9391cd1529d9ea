#include "base/json.h"
#include "cli/generate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct option table[] = {
    {.name = "system", .type = OPTION_TEXT, .help = "not the daemon's business"},
    OPTIONS_GENERATE,
};

static json_t *request_of(int argc, const char *const *argv, enum settings_use use) {
    struct args a;
    struct err e;
    assert_int_equal(args_parse(&a, table, sizeof table / sizeof *table, use, argc, argv, &e), 0);
    return generate_request(&a, "recall");
}

static void is_exactly(json_t *request, const char *expected) {
    char *text = json_text(request);
    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
    json_decref(request);
}

static void nothing_given_leaves_the_defaults_to_the_daemon(void **state) {
    (void)state;
    is_exactly(request_of(0, NULL, SETTINGS_UNUSED), "{\"model\":\"recall\"}");
}

static void options_become_members(void **state) {
    const char *const argv[] = {"--temperature",
                                "0.5",
                                "--top-k",
                                "40",
                                "--repeat-last-n",
                                "-1",
                                "--min-p=0.25",
                                "--seed",
                                "7",
                                "--presence-penalty",
                                "-2",
                                "--max-tokens=12",
                                "-n",
                                "13",
                                "w",
                                "--ignore-eos",
                                "--stop",
                                "a\n",
                                "--system",
                                "s",
                                "--stop",
                                "b"};
    (void)state;
    json_t *request = request_of(sizeof argv / sizeof *argv, argv, SETTINGS_UNUSED);
    json_t *expected = json_pack("{s:s, s:f, s:i, s:i, s:f, s:i, s:f, s:i, s:b, s:[s, s]}", "model", "recall",
                                 "temperature", 0.5, "top_k", 40, "repeat_last_n", -1, "min_p", 0.25, "seed", 7,
                                 "presence_penalty", -2.0, "max_tokens", 13, "ignore_eos", 1, "stop", "a\n", "b");
    assert_non_null(expected);
    assert_true(json_equal(request, expected));
    json_decref(request);
    json_decref(expected);
}

static void settings_are_not_sent(void **state) {
    const char *const argv[] = {"--ctx", "99", "--kv-type", "q8_0"};
    (void)state;
    is_exactly(request_of(4, argv, SETTINGS_RUN), "{\"model\":\"recall\"}");
}

static void text_that_is_not_utf8_is_refused(void **state) {
    const char *const argv[] = {"--stop", "\xff"};
    (void)state;
    assert_null(request_of(2, argv, SETTINGS_UNUSED));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_given_leaves_the_defaults_to_the_daemon),
        cmocka_unit_test(options_become_members),
        cmocka_unit_test(settings_are_not_sent),
        cmocka_unit_test(text_that_is_not_utf8_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

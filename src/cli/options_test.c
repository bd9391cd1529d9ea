#include "cli/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct option table[] = {
    {.name = "json", .type = OPTION_FLAG, .help = "j"},
    {.name = "quiet", .letter = 'q', .type = OPTION_FLAG, .help = "q"},
    {.name = "file", .letter = 'f', .type = OPTION_TEXT, .placeholder = "FILE", .help = "f"},
    {.name = "count", .letter = 'n', .type = OPTION_INT, .min = -1, .max = 10, .placeholder = "N", .help = "n"},
    {.name = "top-p", .type = OPTION_REAL, .min = 0, .max = 1, .placeholder = "X", .help = "p"},
    {.name = "secret-fd", .type = OPTION_INT, .min = 3, .max = 9},
};
enum { N = sizeof table / sizeof *table };

static struct args args;
static struct err e;

// Splits a line at its spaces and parses it.
static int parse(const char *line, enum settings_use use) {
    static char words[512];
    static const char *argv[64];
    int argc = 0;
    assert_true(strlen(line) < sizeof words);
    snprintf(words, sizeof words, "%s", line);
    for (char *p = words, *next; *p; p = next) {
        next = p + strcspn(p, " ");
        if (*next) *next++ = 0;
        argv[argc++] = p;
    }
    e = (struct err){.code = ERR_NONE};
    return args_parse(&args, table, N, use, argc, argv, &e);
}

static void takes_every_form(void **state) {
    (void)state;
    assert_int_equal(parse("one -qn3 --file=a=b --top-p 0.5 two -f - -- --json -q", SETTINGS_UNUSED), 0);
    assert_int_equal(args.n_words, 4);
    assert_string_equal(args.words[0], "one");
    assert_string_equal(args.words[1], "two");
    assert_string_equal(args.words[2], "--json");
    assert_string_equal(args.words[3], "-q");
    assert_true(args_has(&args, "quiet"));
    assert_false(args_has(&args, "json"));
    assert_int_equal(args_int(&args, "count", 7), 3);
    assert_true(args_real(&args, "top-p", 0) == 0.5);
    assert_string_equal(args_text(&args, "file", ""), "-"); // the last one counts
    assert_int_equal(args.n_given, 5);
}

static void values_may_be_negative(void **state) {
    (void)state;
    assert_int_equal(parse("--count -1", SETTINGS_UNUSED), 0);
    assert_int_equal(args_int(&args, "count", 7), -1);
    assert_int_equal(parse("-", SETTINGS_UNUSED), 0);
    assert_string_equal(args.words[0], "-");
}

static void absent_ones_have_defaults(void **state) {
    (void)state;
    assert_int_equal(parse("", SETTINGS_UNUSED), 0);
    assert_int_equal(args.n_words + args.n_given, 0);
    assert_int_equal(args_int(&args, "count", 7), 7);
    assert_null(args_text(&args, "file", NULL));
}

static void refuses(const char *line, const char *expected) {
    assert_int_equal(parse(line, SETTINGS_UNUSED), -1);
    if (!strstr(e.msg, expected)) fail_msg("'%s' gave '%s', which lacks '%s'", line, e.msg, expected);
}

static void bad_ones_are_named(void **state) {
    (void)state;
    refuses("--count eleven", "--count takes a whole number from -1 to 10");
    refuses("--count 11", "not '11'");
    refuses("--count 1x", "not '1x'");
    refuses("--top-p nan", "--top-p takes a number from 0 to 1");
    refuses("--top-p 1.01", "not '1.01'");
    refuses("--top-p=", "not ''");
    refuses("--json=yes", "--json takes no value");
    refuses("--file", "--file needs a value");
    refuses("--file --json", "--file needs a value");
    refuses("-f", "-f needs a value");
    refuses("-x", "unknown option -x");
    refuses("-qx", "unknown option -x");
    refuses("--jsno", "did you mean --json?");
    refuses("--qui", "did you mean --quiet?");
    refuses("--zzzzzz", "unknown option --zzzzzz");
    refuses("--api 127.0.0.1:1", "unknown option --api");
}

static void internal_options_are_not_suggested(void **state) {
    (void)state;
    assert_int_equal(parse("--secret-f 4", SETTINGS_UNUSED), -1);
    assert_null(strstr(e.msg, "secret-fd"));
    assert_int_equal(parse("--secret-fd 4", SETTINGS_UNUSED), 0);
}

static void long_words_do_not_overflow(void **state) {
    char line[400];
    (void)state;
    memset(line, 'a', sizeof line);
    memcpy(line, "--", 2);
    line[sizeof line - 1] = 0;
    refuses(line, "unknown option --aaaa");
}

static void too_many_are_refused(void **state) {
    (void)state;
    static const char *many[ARGS_MAX + 1];
    for (size_t i = 0; i <= ARGS_MAX; i++) many[i] = "w";
    assert_int_equal(args_parse(&args, table, N, SETTINGS_UNUSED, ARGS_MAX, many, &e), 0);
    assert_int_equal(args_parse(&args, table, N, SETTINGS_UNUSED, ARGS_MAX + 1, many, &e), -1);
    for (size_t i = 0; i <= ARGS_MAX; i++) many[i] = "-q";
    assert_int_equal(args_parse(&args, table, N, SETTINGS_UNUSED, ARGS_MAX + 1, many, &e), -1);
}

static void settings_are_flags(void **state) {
    struct settings s;
    (void)state;
    settings_defaults(&s);
    assert_int_equal(parse("--kv-type q8_0 --gpu-layers -1 --api=127.0.0.1:1", SETTINGS_ALL), 0);
    assert_int_equal(args_apply(&args, &s, &e), 0);
    assert_string_equal(s.kv_type, "q8_0");
    assert_string_equal(s.api, "127.0.0.1:1");
    assert_int_equal(s.origin[settings_find("kv_type") - settings_table], FROM_FLAG);
    assert_int_equal(s.origin[settings_find("ctx") - settings_table], FROM_DEFAULT);
    assert_int_equal(parse("--kv-type q5", SETTINGS_ALL), 0);
    assert_int_equal(args_apply(&args, &s, &e), -1);
    assert_string_equal(e.param, "kv_type");
    assert_int_equal(parse("--kv-tpye q8_0", SETTINGS_ALL), -1);
    assert_non_null(strstr(e.msg, "--kv-type"));
    assert_int_equal(parse("--kv-type q8_0", SETTINGS_API), -1);
    assert_int_equal(parse("--model m", SETTINGS_RUN), -1);
}

static const char *suggestion(const char *word, const char *const *candidates, size_t n) {
    struct nearest near;
    nearest_init(&near, word);
    for (size_t i = 0; i < n; i++) nearest_offer(&near, candidates[i]);
    return near.best ? near.best : "";
}

static void nearest_is_near(void **state) {
    static const char *const commands[] = {"run", "serve", "status", "stop", "import", "completion", "ps"};
    enum { COMMANDS = sizeof commands / sizeof *commands };
    (void)state;
    assert_string_equal(suggestion("rnu", commands, COMMANDS), "run");
    assert_string_equal(suggestion("sevre", commands, COMMANDS), "serve");
    assert_string_equal(suggestion("stauts", commands, COMMANDS), "status");
    assert_string_equal(suggestion("imp", commands, COMMANDS), "import");
    assert_string_equal(suggestion("comp", commands, COMMANDS), "completion");
    assert_string_equal(suggestion("x", commands, COMMANDS), "");
    assert_string_equal(suggestion("frobnicate", commands, COMMANDS), "");
    assert_string_equal(suggestion("", commands, COMMANDS), "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_every_form),
        cmocka_unit_test(values_may_be_negative),
        cmocka_unit_test(absent_ones_have_defaults),
        cmocka_unit_test(bad_ones_are_named),
        cmocka_unit_test(internal_options_are_not_suggested),
        cmocka_unit_test(long_words_do_not_overflow),
        cmocka_unit_test(too_many_are_refused),
        cmocka_unit_test(settings_are_flags),
        cmocka_unit_test(nearest_is_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

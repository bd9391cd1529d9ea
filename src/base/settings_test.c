#include "base/limits.h"
#include "base/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char home[] = "/tmp/nebulus-settings-XXXXXX";
static struct paths where;

static void clear_environment(void) {
    static const char *const names[] = {"NEBULUS_CTX", "NEBULUS_KV_TYPE", "NEBULUS_MAX_MODELS"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unsetenv(names[i]);
}

static int make_home(void **state) {
    (void)state;
    struct err e;
    if (!mkdtemp(home)) return -1;
    setenv("NEBULUS_HOME", home, 1);
    clear_environment();
    return paths_init(&where, &e) || path_make_dir(where.config, &e);
}

static char *config_file(void) {
    static char file[PATH_SIZE];
    struct err e;
    assert_int_equal(path_join(file, where.config, "nebulus.conf", &e), 0);
    return file;
}

static int remove_home(void **state) {
    (void)state;
    unlink(config_file());
    return rmdir(where.config) || rmdir(home);
}

static void write_config(const char *text) {
    struct err e;
    assert_int_equal(file_write(config_file(), text, strlen(text), &e), 0);
}

static enum setting_origin origin_of(const struct settings *s, const char *name) {
    const struct setting *one = settings_find(name);
    assert_non_null(one);
    return s->origin[one - settings_table];
}

static void test_defaults_are_consistent(void **state) {
    (void)state;
    struct settings s;
    settings_defaults(&s);
    assert_string_equal(s.api, "127.0.0.1:7420");
    assert_int_equal(s.gpu_layers, -1);
    for (size_t i = 0; i < settings_count; i++) {
        char text[SETTING_SIZE];
        settings_text(&s, &settings_table[i], text);
        assert_string_equal(text, settings_table[i].value);
        assert_ptr_equal(settings_find(settings_table[i].name), &settings_table[i]);
        assert_int_equal(s.origin[i], FROM_DEFAULT);
    }
}

static void test_precedence(void **state) {
    (void)state;
    struct settings s;
    struct err e;
    write_config("ctx = 1000\nkv_type = q8_0\nmax_models = 2\n");
    setenv("NEBULUS_CTX", "2000", 1);
    setenv("NEBULUS_MAX_MODELS", "4", 1);
    assert_int_equal(settings_load(&s, &where, &e), 0);
    assert_int_equal(settings_set(&s, "max-models", "5", FROM_FLAG, &e), 0);
    assert_int_equal(s.max_models, 5);
    assert_int_equal(origin_of(&s, "max_models"), FROM_FLAG);
    assert_int_equal(s.ctx, 2000);
    assert_int_equal(origin_of(&s, "ctx"), FROM_ENV);
    assert_string_equal(s.kv_type, "q8_0");
    assert_int_equal(origin_of(&s, "kv-type"), FROM_FILE);
    assert_int_equal(s.parallel, 8);
    assert_int_equal(origin_of(&s, "parallel"), FROM_DEFAULT);
    clear_environment();
}

static void test_missing_file_is_fine(void **state) {
    (void)state;
    struct settings s;
    struct err e;
    unlink(config_file());
    assert_int_equal(settings_load(&s, &where, &e), 0);
    assert_int_equal(s.parallel, 8);
}

static void test_bad_files_name_the_line(void **state) {
    (void)state;
    static const struct {
        const char *text, *line, *because, *param;
    } bad[] = {
        {"ctx = 1\nnonsense = 2\n", ":2: ", "unknown setting 'nonsense'", "nonsense"},
        {"\n\n# c\nctx = 12x\n", ":4: ", "whole number", "ctx"},
        {"kv_type = f16|q8_0", ":1: ", "one of f16|q8_0", "kv_type"},
        {"kv_type =\n", ":1: ", "one of", "kv_type"},
        {"max_models = 0\n", ":1: ", "from 1 to", "max_models"},
        {"ctx = 1\nctx\nqueue = bad\n", ":2: ", "name = value", ""}, // the first fault, not the last
        {"[daemon]\n", ":1: ", "sections", ""},
        {"= 5\n", ":1: ", "unknown setting ''", ""},
        {"model = a\n  b\n", ":2: ", "name = value", ""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct settings s;
        struct err e = {.code = ERR_NONE};
        write_config(bad[i].text);
        assert_int_equal(settings_load(&s, &where, &e), -1);
        if (!strstr(e.msg, bad[i].line) || !strstr(e.msg, bad[i].because) || !strstr(e.msg, "nebulus.conf"))
            fail_msg("%s: %s", bad[i].text, e.msg);
        assert_string_equal(e.param, bad[i].param);
    }
}

static void test_unreadable_files(void **state) {
    (void)state;
    struct settings s;
    struct err e = {.code = ERR_NONE};
    assert_int_equal(file_write(config_file(), "ctx = 1\0\n", 9, &e), 0);
    assert_int_equal(settings_load(&s, &where, &e), -1);
    assert_non_null(strstr(e.msg, "NUL"));
    unlink(config_file());
    assert_int_equal(mkdir(config_file(), 0700), 0);
    assert_int_equal(settings_load(&s, &where, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(rmdir(config_file()), 0);
    char *big = calloc(1, LIMIT_CONFIG_BYTES + 2);
    assert_non_null(big);
    memset(big, '\n', LIMIT_CONFIG_BYTES + 1);
    write_config(big);
    assert_int_equal(settings_load(&s, &where, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    free(big);
    unlink(config_file());
}

static void test_bad_environment_names_the_variable(void **state) {
    (void)state;
    struct settings s;
    struct err e;
    setenv("NEBULUS_KV_TYPE", "f64", 1);
    assert_int_equal(settings_load(&s, &where, &e), -1);
    assert_non_null(strstr(e.msg, "NEBULUS_KV_TYPE"));
    assert_string_equal(e.param, "kv_type");
    clear_environment();
}

static void test_file_syntax(void **state) {
    (void)state;
    struct settings s;
    struct err e;
    char text[SETTING_SIZE + 64], path[SETTING_SIZE];
    settings_defaults(&s);
    assert_int_equal(
        settings_read_text(&s, "\xEF\xBB\xBF; c\r\n  ctx=5\t# five\r\nkv-type = q8_0 ; c\nmodel = a#b;c = d", "f", &e),
        0);
    assert_int_equal(s.ctx, 5);
    assert_string_equal(s.kv_type, "q8_0");
    assert_string_equal(s.model, "a#b;c = d");
    memset(path, 'a', sizeof path);
    path[sizeof path - 1] = 0;
    snprintf(text, sizeof text, "model = %s\n", path); // the longest path, whole
    assert_int_equal(settings_read_text(&s, text, "f", &e), 0);
    assert_string_equal(s.model, path);
    snprintf(text, sizeof text, "ctx = 6\nmodel = %sa\n", path);
    assert_int_equal(settings_read_text(&s, text, "f", &e), -1);
    assert_non_null(strstr(e.msg, "f:2: "));
    assert_int_equal(s.ctx, 6);
    assert_string_equal(s.model, path);
}

static void test_set(void **state) {
    (void)state;
    struct settings s;
    struct err e;
    char path[SETTING_SIZE + 1];
    settings_defaults(&s);
    memset(path, 'a', sizeof path);
    path[sizeof path - 1] = 0;
    assert_int_equal(settings_set(&s, "model", path, FROM_FLAG, &e), -1);
    assert_string_equal(s.model, "");
    assert_int_equal(settings_set(&s, "model", path + 1, FROM_FLAG, &e), 0);
    assert_int_equal(settings_set(&s, "ctx", "", FROM_FLAG, &e), -1);
    assert_int_equal(settings_set(&s, "kv_type", "f1", FROM_FLAG, &e), -1);
    assert_int_equal(settings_set(&s, "kv_typ", "f16", FROM_FLAG, &e), -1);
    assert_int_equal(settings_set(&s, "kv_type_", "f16", FROM_FLAG, &e), -1);
    assert_null(settings_find(""));
    assert_string_equal(s.kv_type, "f16");
    assert_int_equal(origin_of(&s, "kv_type"), FROM_DEFAULT);
}

static void test_lists(void **state) {
    (void)state;
    struct settings s;
    struct err e;
    char many[SETTING_SIZE + 10];
    settings_defaults(&s);
    assert_int_equal(settings_set(&s, "peers", "from-file:1, b:2", FROM_FILE, &e), 0);
    assert_int_equal(settings_set(&s, "peer", "a:1", FROM_FLAG, &e), 0); // a flag comes in place of the file's
    assert_string_equal(s.peers, "a:1");
    assert_int_equal(settings_set(&s, "peer", "b:2", FROM_FLAG, &e), 0); // and another one beside it
    assert_string_equal(s.peers, "a:1,b:2");
    assert_ptr_equal(settings_find("peer"), settings_find("peers"));
    memset(many, 'x', sizeof many - 1);
    many[sizeof many - 1] = 0;
    assert_int_equal(settings_set(&s, "peer", many, FROM_FLAG, &e), -1);
    many[SETTING_SIZE - 5] = 0;
    assert_int_equal(settings_set(&s, "peer", many, FROM_FLAG, &e), -1); // too long together
    assert_string_equal(s.peers, "a:1,b:2");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_defaults_are_consistent),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_missing_file_is_fine),
        cmocka_unit_test(test_bad_files_name_the_line),
        cmocka_unit_test(test_unreadable_files),
        cmocka_unit_test(test_bad_environment_names_the_variable),
        cmocka_unit_test(test_file_syntax),
        cmocka_unit_test(test_set),
    };
    return cmocka_run_group_tests(tests, make_home, remove_home);
}

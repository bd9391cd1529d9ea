// Profiles as they come from files and from other nodes.
#include "base/json.h"
#include "serve/profiles_internal.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

static const struct profile guess = {0.01, 1e-4, 1e-8, 0.01, 1e-7};

static int parse(const char *profile, const char *rest, struct entry *one) {
    char text[1024];
    struct err e;
    *one = (struct entry){.key = "key"};
    fit_init(&one->fit, &guess);
    snprintf(text, sizeof text, "{\"v\":1,\"key\":\"key\",\"profile\":%s%s}", profile, rest);
    return profiles_parse(text, strlen(text), one, &guess, &e);
}

static void test_files(void **state) {
    static const char *const bad[] = {"[-1,1e-4,0,0.1,0]",
                                      "[0,0,0,0.1,0]",
                                      "[1e300,1e-4,0,0.1,0]",
                                      "[0,1e-4,0,0,0]",
                                      "[0,1e-4,0,0.1]",
                                      "[0,1e-4,0,0.1,0,0]",
                                      "[0,\"1\",0,0.1,0]",
                                      "{}",
                                      "[0,null,0,0.1,0]",
                                      "7",
                                      "null"};
    const char *rest = ",\"error\":0.1,\"at\":1700000000,\"jobs\":3";
    struct entry one;
    struct profile p;
    (void)state;
    assert_int_equal(parse("[0.02,2e-4,2e-8,0.02,2e-7]", rest, &one), 0);
    fit_profile(&one.fit, &p);
    assert_true(p.decode_base > 0.015 && p.decode_base < 0.025 && one.jobs == 3 && one.known_s == 1700000000);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(parse(bad[i], rest, &one), -1);
        assert_int_equal(one.known_s, 0);
    }
    assert_int_equal(parse("[0.02,2e-4,2e-8,0.02,2e-7]", ",\"error\":0.1,\"jobs\":3", &one), -1); // of no time
    assert_int_equal(parse("[0.02,2e-4,2e-8,0.02,2e-7]", ",\"error\":9,\"at\":5", &one), -1);
    assert_int_equal(parse("[0.02,2e-4,2e-8,0.02,2e-7]", ",\"at\":-5", &one), -1);
    struct err e;
    const char *other = "{\"v\":1,\"key\":\"x\",\"profile\":[0.02,2e-4,2e-8,0.02,2e-7],\"at\":5}";
    assert_int_equal(profiles_parse(other, strlen(other), &one, &guess, &e), -1);
}

static json_t *told(const char *text) {
    struct err e;
    json_t *o = json_parse(text, strlen(text), &e);
    assert_non_null(o);
    return o;
}

static void test_other_nodes(void **state) {
    static const char *const bad[] = {
        "{}",
        "{\"c\":[0,0,0,0,0]}",
        "{\"c\":[1,-1,1,1,1]}",
        "{\"c\":[1,1,1,1,1e99]}",
        "{\"c\":[1,1,1,1,1],\"error\":-1}",
        "{\"c\":[1,1,1,1,1],\"queued\":1e99}",
        "{\"c\":[1,1,1,1,1],\"free\":-5}",
        "{\"c\":[1,1,1,1,1],\"emulated\":7}",
        "{\"c\":\"fast\"}",
        "{\"c\":[1,1,1,1,1],\"kept\":7}",
        "{\"c\":[1,1,1,1,1],\"kept\":[[0,5]]}",
        "{\"c\":[1,1,1,1,1],\"rows\":7}",
        "{\"c\":[1,1,1,1,1],\"rows\":{\"dtype\":\"f16\",\"layers\":0,\"k\":64,\"v\":64}}",
        "{\"c\":[1,1,1,1,1],\"rows\":{\"dtype\":\"f64\",\"layers\":2,\"k\":64,\"v\":64}}",
        "{\"c\":[1,1,1,1,1],\"rows\":{\"dtype\":\"q8_0\",\"layers\":2,\"k\":63,\"v\":64}}",
        "{\"c\":[1,1,1,1,1],\"rows\":{\"dtype\":\"f16\",\"layers\":1024,\"k\":262144,\"v\":262144}}",
        "{\"c\":[1,1,1,1,1],\"rows\":{\"dtype\":\"f16\",\"layers\":2,\"k\":64,\"v\":64,\"chunk\":-1}}",
        "{\"c\":[1,1,1,1,1],\"rows\":{\"dtype\":\"f16\",\"layers\":2,\"k\":64}}",
        "{\"c\":[1,1,1,1,1],\"rows\":{\"dtype\":\"f16\",\"layers\":2,\"k\":64,\"v\":64,\"wire\":\"f32\"}}",
    };
    struct err e = {.code = ERR_NONE};
    struct profiled p;
    (void)state;
    json_t *o = told("{\"c\":[1,2,3,4,5],\"error\":0.2,\"age_s\":60,\"queued\":7,\"context\":8,\"free\":9,"
                     "\"rows\":{\"dtype\":\"q8_0\",\"layers\":3,\"k\":64,\"v\":32,\"chunk\":128,\"wire\":\"q8_0\"},"
                     "\"emulated\":true,\"heard_s\":99999999999,\"more\":[]}");
    json_t *clean = profiles_clean(o, &e);
    assert_int_equal(e.code, ERR_NONE);
    assert_null(json_object_get(clean, "more"));
    assert_int_equal(profiles_take(clean, &p, &e), 0);
    assert_true(p.profile.prefill_pair == 3 && p.profile.decode_token == 5 && p.error == 0.2 && p.emulated);
    assert_true(p.rows.layers == 3 && p.rows.dtype == KV_Q8_0 && p.rows.width[KV_V] == 32 && p.chunk == 128);
    assert_string_equal(p.wire, "q8_0");
    assert_true(p.queued_tokens == 7 && p.context_tokens == 8 && p.free_cells == 9 && p.age_s >= 60 && p.age_s < 600);
    json_decref(clean);
    json_decref(o);
    o = told("{\"c\":[1,2,3,4,5],\"rows\":null}"); // a model whose state travels whole
    clean = profiles_clean(o, &e);
    assert_true(profiles_take(clean, &p, &e) == 0 && p.rows.layers == 0);
    json_decref(clean);
    json_decref(o);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e.code = ERR_NONE;
        o = told(bad[i]);
        clean = profiles_clean(o, &e);
        if (e.code == ERR_NONE) fail_msg("%s was taken", bad[i]);
        assert_true(json_is_null(clean));
        assert_int_equal(profiles_take(clean, &p, &e), -1);
        json_decref(clean);
        json_decref(o);
    }
    e.code = ERR_NONE;
    clean = profiles_clean(NULL, &e); // an older node tells nothing
    assert_true(json_is_null(clean) && e.code == ERR_NONE);
    json_decref(clean);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_files), cmocka_unit_test(test_other_nodes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Two kinds of device, one request: a worker that computes by Vulkan and one that computes on the CPU move sequences to
// each other. The Vulkan device is Mesa's, in software, so that no GPU is needed. This program is its own worker:
// engine_start runs it with the argument "worker". Skipped (77) where there is no Vulkan driver.
#include "base/log.h"
#include "engine/worker/worker.h"
#include "pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SKIPPED = 77 };

static const char driver[] = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json"; // Mesa's, which needs no device

static struct engine *start_one(struct pair *p, bool vulkan) {
    struct engine_options o = pair_options(p->model, "f16");
    struct engine_status s;
    o.gpu_layers = vulkan ? 1000 : 0;
    setenv("VK_DRIVER_FILES", vulkan ? driver : "/nonexistent", 1);
    setenv("GGML_VK_VISIBLE_DEVICES", "0", 1); // ggml passes over a software device that is not named
    struct engine *w = mover_engine(p->base, &o);
    engine_get_status(w, &s);
    assert_int_equal(vulkan, strstr(s.info.backends, "Vulkan") != NULL);
    assert_int_equal(s.info.kv.form, KV_ROWS);
    assert_non_null(engine_arena(w));
    return w;
}

static void check_moves(const char *model, int max_tokens) {
    static const struct plan plain = {.rows = ROWS_ALL, .pause_after = 5, .slots = 4},
                             back = {.rows = ROWS_ALL, .pause_after = 5, .slots = 4, .back = true};
    static const int lengths[] = {1, CHUNK + 1, 200};
    struct pair p = {.model = model, .base = event_base_new(), .tie = 0.05f};
    assert_non_null(p.base);
    struct engine *device = start_one(&p, true), *host = start_one(&p, false);
    for (int way = 0; way < 2; way++) {
        p.a = way ? host : device;
        p.b = way ? device : host;
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            for (int which = 0; which < 2; which++) pair_compare(&p, lengths[i], which, max_tokens, &plain, NULL);
        pair_compare(&p, 100, 0, max_tokens, &back, NULL);
        pair_check_clean(&p);
    }
    pair_stop(&p);
}

static void test_random(void **state) {
    (void)state;
    check_moves("random_f32", 40);
}

static void test_recall(void **state) {
    (void)state;
    check_moves("recall_f32", 40);
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "worker")) {
        log_set_level(LOG_ERROR);
        return worker_main(1, argv + 1);
    }
    if (access(driver, R_OK)) {
        printf("skipped: there is no software Vulkan driver: install mesa-vulkan-drivers\n");
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random), cmocka_unit_test(test_recall)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Two kinds of device, one prompt: a process that computes by Vulkan and one that computes on the CPU read it and hand
// its rows to each other; both then compute the same tokens, and their logits are compared. The Vulkan device is
// Mesa's, in software, so that no GPU is needed. Skipped (77) where there is no such driver.
//
// usage: devices_test logits|moves. "moves" takes minutes: it moves whole sequences between two workers. Then this
// program is its own worker: engine_start runs it with the argument "worker".
#include "base/log.h"
#include "carry.h"
#include "engine/worker/worker.h"
#include "pair.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SKIPPED = 77 };

// The largest difference of a logit that a token is given on the other device, as a share of the logits' RMS.
static const double bound = 0.02;

static char driver[PATH_SIZE]; // Mesa's, which needs no device

static bool find_driver(void) {
    glob_t found;
    if (glob("/usr/share/vulkan/icd.d/lvp_icd*.json", 0, NULL, &found)) return false;
    snprintf(driver, sizeof driver, "%s", found.gl_pathv[0]);
    globfree(&found);
    return true;
}

static void use(bool vulkan) { // before libllama's backends are loaded
    setenv("VK_DRIVER_FILES", vulkan ? driver : "/nonexistent", 1);
    setenv("GGML_VK_VISIBLE_DEVICES", "0", 1); // ggml passes over a software device that is not named
    // fewer and smaller shaders: Mesa compiles them for longer than they run
    setenv("GGML_VK_DISABLE_F16", "1", 1);
    setenv("GGML_VK_DISABLE_FUSION", "1", 1);
}

// ---------------------------------------------------------------- logits
struct meeting { // memory that both processes share
    struct carried from_host, from_device;
    struct carry_logits at_device; // of what came from the host
};

static struct meeting *meet(void) {
    struct meeting *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(m != MAP_FAILED);
    return m;
}

static void load(struct model *m, bool vulkan) {
    use(vulkan);
    carry_load(m, "random_f32", "f16", vulkan);
    assert_int_equal(vulkan, strstr(m->info.backends, "Vulkan") != NULL);
}

static void read_prompt(struct model *m, struct carried *c) {
    carry_prompt(c, CHUNK / 2);
    carry_out(m, c);
}

// What the process with the device does; `ready` tells it that the host's rows are there.
static void be_device(struct meeting *at, int ready) {
    struct model m;
    char word;
    load(&m, true);
    read_prompt(&m, &at->from_device);
    assert_int_equal(read(ready, &word, 1), 1);
    carry_in(&m, &at->from_host, KV_F16, &at->at_device);
    model_close(&m);
}

static void check_way(const char *way, double d) {
    printf("%s: logits differ by up to %.2g of their RMS\n", way, d);
    if (d == 0) fail_msg("%s: two kinds of device that compute the same bits are one", way);
    if (d > bound) fail_msg("%s: more than %g", way, bound);
}

// One process is forked before libllama is there, so that each has its own.
static void test_logits(void **state) {
    static struct carry_logits here;
    static struct model m;
    struct meeting *at = meet();
    int ready[2], status;
    (void)state;
    setenv("GALLIVM_PERF", "nopt", 1); // nor are they worth optimizing
    assert_int_equal(pipe(ready), 0);
    pid_t device = fork();
    assert_true(device >= 0);
    if (!device) {
        be_device(at, ready[0]);
        _exit(0);
    }
    load(&m, false);
    read_prompt(&m, &at->from_host);
    assert_int_equal(write(ready[1], "", 1), 1);
    assert_int_equal(waitpid(device, &status, 0), device);
    assert_int_equal(status, 0);
    carry_in(&m, &at->from_device, KV_F16, &here);
    check_way("read by Vulkan, written on the CPU", carry_difference(&m, &at->from_device, &here));
    check_way("read on the CPU, written by Vulkan", carry_difference(&m, &at->from_host, &at->at_device));
    model_close(&m);
    munmap(at, sizeof *at);
    close(ready[0]);
    close(ready[1]);
}

// ---------------------------------------------------------------- whole sequences
static struct engine *start_one(struct pair *p, bool vulkan) {
    struct engine_options o = pair_options(p->model, "f16");
    struct engine_status s;
    o.gpu_layers = vulkan ? 1000 : 0;
    use(vulkan);
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
    const char *wanted = argc == 2 ? argv[1] : "";
    log_set_level(LOG_ERROR);
    if (!strcmp(wanted, "worker")) return worker_main(1, argv + 1);
    if (!find_driver()) {
        printf("skipped: there is no software Vulkan driver: install mesa-vulkan-drivers\n");
        return SKIPPED;
    }
    const struct CMUnitTest logits[] = {cmocka_unit_test(test_logits)};
    const struct CMUnitTest moves[] = {cmocka_unit_test(test_random), cmocka_unit_test(test_recall)};
    if (!strcmp(wanted, "logits")) return cmocka_run_group_tests(logits, NULL, NULL);
    return cmocka_run_group_tests(moves, NULL, NULL);
}

// Files are replaced in the order in which they were given, in folders that are made for them; what fails is told; what
// waits when the keeper ends is written.
#include "base/folder_fixture.h"
#include "base/paths.h"
#include "serve/keeper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct world {
    struct event_base *base;
    char dir[64], path[PATH_SIZE];
    int well, failed;
};

static void on_kept(void *arg, const struct err *why) {
    struct world *w = arg;
    *(why ? &w->failed : &w->well) += 1;
}

static int setup(void **state) {
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    snprintf(w->dir, sizeof w->dir, "/tmp/nebulus-keeper-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->path, sizeof w->path, "%s/of/some/node", w->dir);
    w->base = event_base_new();
    *state = w;
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    event_base_free(w->base);
    int rc = folder_remove(w->dir);
    free(w);
    return rc;
}

static void assert_file(const char *path, const char *content) {
    char *text;
    size_t n;
    struct err e;
    assert_int_equal(file_read(path, 64, &text, &n, &e), 0);
    assert_string_equal(text, content);
    free(text);
}

static void test_order(void **state) {
    struct world *w = *state;
    struct err e;
    char text[16];
    struct keeper *k = keeper_new(w->base, &e);
    assert_non_null(k);
    for (int i = 0; i < 20; i++) {
        int n = snprintf(text, sizeof text, "%d", i);
        assert_int_equal(keeper_put(k, w->path, text, (size_t)n, on_kept, w, &e), 0);
    }
    assert_int_equal(w->well, 0); // not from inside the call
    while (w->well + w->failed < 20) assert_int_equal(event_base_loop(w->base, EVLOOP_ONCE), 0);
    assert_int_equal(w->failed, 0);
    assert_file(w->path, "19");
    keeper_free(k);
}

static void test_failure_and_end(void **state) {
    struct world *w = *state;
    struct err e;
    char below[PATH_SIZE + 8];
    struct keeper *k = keeper_new(w->base, &e);
    assert_int_equal(keeper_put(k, w->path, "1", 1, on_kept, w, &e), 0);
    snprintf(below, sizeof below, "%.4000s/x", w->path); // a file is no folder
    assert_int_equal(keeper_put(k, below, "1", 1, on_kept, w, &e), 0);
    while (w->well + w->failed < 2) assert_int_equal(event_base_loop(w->base, EVLOOP_ONCE), 0);
    assert_int_equal(w->well, 1);
    assert_int_equal(w->failed, 1);
    int taken = 0;
    while (taken < 4 * KEEPER_WAITING && !keeper_put(k, w->path, "end", 3, NULL, NULL, &e)) taken++;
    assert_int_equal(taken, KEEPER_WAITING); // as long as the loop has not heard of them
    assert_int_equal(e.code, ERR_BUSY);
    keeper_free(k);
    assert_file(w->path, "end");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_order, setup, teardown),
                                       cmocka_unit_test_setup_teardown(test_failure_and_end, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

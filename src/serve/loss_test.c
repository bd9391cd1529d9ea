// What is missing of an earlier log is noticed: it is cut, changed, of another key's, or its key is gone.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "audit/mirror_fixture.h"
#include "base/log.h"
#include "serve/loss.h"

#include <unistd.h>

#define NAME "000001-0123abcd"

struct past { // a log, closed, and its head
    struct source s;
    char note[NOTE_BYTES], dir[PATH_SIZE];
    size_t n, bytes;
    struct checkpoint head;
};

static void past_make(struct past *p, const struct place *at) {
    source_open(&p->s, at->dir, NAME, at->key);
    source_grow(&p->s, 20, 3);
    memcpy(p->note, p->s.note, p->s.note_len);
    p->n = p->s.note_len;
    p->head = p->s.head;
    p->bytes = p->s.n;
    snprintf(p->dir, sizeof p->dir, "%s", p->s.dir);
    source_close(&p->s);
}

static bool looks_whole(const struct past *p, const struct place *at, uint64_t *has) {
    struct loss l;
    char lost[PATH_SIZE];
    struct err e;
    loss_open(&l, at->dir, NULL);
    bool whole = loss_look(&l, NULL, p->note, p->n, &p->head, "prime");
    assert_int_equal(whole, !l.why.code);
    *has = l.has;
    loss_close(&l);
    loss_open(&l, at->dir, NULL); // as after a restart
    assert_int_equal(whole, !l.why.code);
    loss_close(&l);
    assert_int_equal(path_join(lost, at->dir, "lost", &e), 0);
    unlink(lost);
    return whole;
}

static void test_whole(void **state) {
    struct past p;
    uint64_t has;
    char path[PATH_SIZE];
    struct err e;
    past_make(&p, *state);
    assert_true(looks_whole(&p, *state, &has));
    assert_int_equal(path_join(path, p.dir, AUDIT_TREE, &e), 0);
    assert_int_equal(unlink(path), 0); // it only repeats what the log says
    assert_true(looks_whole(&p, *state, &has));
}

static void test_cut(void **state) {
    struct past p;
    uint64_t has;
    char path[PATH_SIZE];
    struct err e;
    past_make(&p, *state);
    assert_int_equal(path_join(path, p.dir, AUDIT_LOG, &e), 0);
    assert_int_equal(truncate(path, (off_t)(p.bytes / 2)), 0);
    assert_false(looks_whole(&p, *state, &has));
    assert_true(has > 0 && has < p.head.size);
}

static void test_changed(void **state) {
    struct past p;
    uint64_t has;
    past_make(&p, *state);
    p.head.root.b[0] ^= 1; // what another node holds is of other records
    struct loss l;
    loss_open(&l, ((struct place *)*state)->dir, NULL);
    assert_false(loss_look(&l, NULL, p.note, p.n, &p.head, "prime"));
    assert_non_null(strstr(l.why.msg, "has other records"));
    loss_close(&l);
    p.head.root.b[0] ^= 1;
    assert_true(looks_whole(&p, *state, &has));
}

static void test_key_is_gone(void **state) {
    struct past p;
    uint64_t has;
    char path[PATH_SIZE];
    struct err e;
    past_make(&p, *state);
    assert_int_equal(path_join(path, p.dir, AUDIT_KEY, &e), 0);
    assert_int_equal(unlink(path), 0);
    assert_false(looks_whole(&p, *state, &has));
}

int main(void) {
    log_set_level(LOG_ERROR - 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_whole, place_make, place_drop),
                                       cmocka_unit_test_setup_teardown(test_cut, place_make, place_drop),
                                       cmocka_unit_test_setup_teardown(test_changed, place_make, place_drop),
                                       cmocka_unit_test_setup_teardown(test_key_is_gone, place_make, place_drop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

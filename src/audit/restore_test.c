// A log that is damaged, shorter or gone comes back from its mirror, with what it had behind the mirror's end, and what
// was there of it is kept.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "audit/mirror_fixture.h"
#include "audit/restore.h"
#include "audit/verify.h"

#include <sys/stat.h>
#include <unistd.h>

enum { MIRRORED = 20, BEHIND = 9 };

struct world {
    const struct place *place;
    struct source s; // MIRRORED + BEHIND records
    char fetched[PATH_SIZE], log[PATH_SIZE];
};

static void begin(struct world *w, void **state) {
    struct mirror m;
    struct err e;
    bool reached;
    w->place = *state;
    source_open(&w->s, w->place->dir, "000001-0a0b0c0d", w->place->key);
    source_grow(&w->s, MIRRORED, 5);
    snprintf(w->fetched, sizeof w->fetched, "%s/restoring", w->place->dir);
    assert_int_equal(path_make_dir(w->fetched, &e), 0);
    assert_int_equal(mirror_open(&m, &audit_files, w->fetched, &w->s.key, &e), 0);
    assert_int_equal(mirror_all(&m, &w->s, 4096, &reached, &e), 0);
    assert_int_equal(mirror_finish(&m, &w->s, &e), 0);
    mirror_close(&m);
    source_grow(&w->s, BEHIND, 3);
    audit_close(w->s.a);
    w->s.a = NULL;
    assert_int_equal(path_join(w->log, w->s.dir, AUDIT_LOG, &e), 0);
}

// Puts it back and verifies it; what was there before stands aside.
static struct restored put_back(struct world *w, uint64_t records, bool whole) {
    struct restored out;
    struct verified v;
    struct err e = {.msg = ""};
    struct stat st;
    char path[PATH_SIZE];
    bool was_there = !stat(w->s.dir, &st);
    if (restore_log(w->fetched, w->s.dir, &w->s.key, &out, &e)) fail_msg("%s", e.msg);
    assert_int_equal(out.records, records);
    assert_int_equal(out.whole, whole);
    if (verify_log(&audit_files, w->s.dir, NULL, NULL, &v, &e)) fail_msg("%s", e.msg);
    assert_int_equal(v.records, records);
    assert_int_equal(was_there, out.aside[0] != '\0');
    if (was_there) assert_int_equal(stat(out.aside, &st), 0);
    assert_int_equal(path_join(path, w->s.dir, AUDIT_TREE, &e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, (off_t)(merkle_kept(records) * MERKLE_HASH));
    assert_int_equal(st.st_mode & 077, 0);
    assert_int_equal(stat(w->fetched, &st), -1);
    return out;
}

static void write_log(const struct world *w, size_t n) {
    struct err e;
    assert_int_equal(file_write(w->log, w->s.data, n, &e), 0);
}

static void drop(const struct world *w, const char *name) {
    char path[PATH_SIZE];
    struct err e;
    assert_int_equal(path_join(path, w->s.dir, name, &e), 0);
    assert_int_equal(unlink(path), 0);
}

static void end(struct world *w) { source_close(&w->s); }

// A byte in the middle: the mirror mends it, and the log's own end follows.
static void test_damaged(void **state) {
    struct world w;
    begin(&w, state);
    w.s.data[100] ^= 1;
    write_log(&w, w.s.n);
    w.s.data[100] ^= 1;
    put_back(&w, MIRRORED + BEHIND, true);
    char *data;
    size_t n;
    struct err e;
    assert_int_equal(file_read(w.log, 1 << 20, &data, &n, &e), 0);
    assert_true(n == w.s.n && !memcmp(data, w.s.data, n));
    free(data);
    end(&w);
}

static void test_gone(void **state) {
    struct world w;
    begin(&w, state);
    assert_int_equal(folder_remove(w.s.dir), 0);
    put_back(&w, MIRRORED, false);
    end(&w);
}

// A backup that is older than the mirror.
static void test_shorter(void **state) {
    struct world w;
    begin(&w, state);
    write_log(&w, 500);
    drop(&w, AUDIT_CHECKPOINT);
    put_back(&w, MIRRORED, false);
    end(&w);
}

// The log is gone, but its checkpoint says that it had more: that is not forgotten.
static void test_more_is_known(void **state) {
    struct world w;
    struct restored out;
    struct verified v;
    struct err e;
    begin(&w, state);
    drop(&w, AUDIT_LOG);
    assert_int_equal(restore_log(w.fetched, w.s.dir, &w.s.key, &out, &e), 0);
    assert_int_equal(out.records, MIRRORED);
    assert_false(out.whole);
    assert_int_equal(verify_log(&audit_files, w.s.dir, NULL, NULL, &v, &e), -1);
    assert_non_null(strstr(e.msg, "it ends there, but had 29 records"));
    end(&w);
}

// Damage behind the mirror's end as well: only what its key has signed comes back.
static void test_damaged_twice(void **state) {
    struct world w;
    begin(&w, state);
    w.s.data[100] ^= 1;
    w.s.data[w.s.n - 400] ^= 1;
    write_log(&w, w.s.n);
    drop(&w, AUDIT_CHECKPOINT);
    struct restored out;
    struct err e;
    struct verified v;
    assert_int_equal(restore_log(w.fetched, w.s.dir, &w.s.key, &out, &e), 0);
    assert_true(out.records >= MIRRORED && out.records < MIRRORED + BEHIND && !out.whole);
    assert_int_equal(verify_log(&audit_files, w.s.dir, NULL, NULL, &v, &e), 0);
    end(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_damaged, place_make, place_drop),
                                       cmocka_unit_test_setup_teardown(test_gone, place_make, place_drop),
                                       cmocka_unit_test_setup_teardown(test_shorter, place_make, place_drop),
                                       cmocka_unit_test_setup_teardown(test_more_is_known, place_make, place_drop),
                                       cmocka_unit_test_setup_teardown(test_damaged_twice, place_make, place_drop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// A mirror becomes what the log is, whatever the pieces are, and over restarts and faults of the disk; whatever else is
// sent is refused and leaves it as it was.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "audit/disk_fixture.h"
#include "audit/mirror_fixture.h"
#include "audit/verify.h"

static void open_in(struct mirror *m, const struct place *p, const struct source *s, const char *name) {
    char dir[PATH_SIZE];
    struct err e;
    snprintf(dir, sizeof dir, "%s/%s", p->dir, name);
    assert_int_equal(path_make_dir(dir, &e), 0);
    assert_int_equal(mirror_open(m, &audit_files, dir, &s->key, &e), 0);
}

static void assert_same_log(const struct mirror *m, const struct source *s) {
    char path[PATH_SIZE], *data;
    size_t n;
    struct err e;
    struct verified v;
    assert_int_equal(verify_log(&audit_files, m->dir, NULL, NULL, &v, &e), 0);
    assert_int_equal(v.records, s->head.size);
    assert_int_equal(path_join(path, m->dir, AUDIT_LOG, &e), 0);
    assert_int_equal(file_read(path, 64 << 20, &data, &n, &e), 0);
    assert_true(n <= s->n && !memcmp(data, s->data, n));
    free(data);
}

static void test_pieces(void **state) {
    const struct place *p = *state;
    static const size_t sizes[] = {200, 1000, 4096, 128 << 10};
    struct source s;
    struct err e;
    bool reached;
    char name[16];
    source_open(&s, p->dir, "log", p->key);
    source_grow(&s, 60, 7);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct mirror m;
        snprintf(name, sizeof name, "mirror-%zu", i);
        open_in(&m, p, &s, name);
        if (mirror_all(&m, &s, sizes[i], &reached, &e)) fail_msg("%s", e.msg);
        assert_int_equal(reached, sizes[i] > 200); // a checkpoint is longer than that
        if (reached) assert_int_equal(mirror_finish(&m, &s, &e), 0);
        if (reached) assert_same_log(&m, &s);
        mirror_close(&m);
    }
    source_close(&s);
}

// It goes on behind what it has, also when it is opened anew, and leaves out what nobody has cosigned yet.
static void test_growth(void **state) {
    const struct place *p = *state;
    struct source s;
    struct mirror m;
    struct err e;
    bool reached;
    uint64_t bytes;
    const char junk[64] = {1};
    source_open(&s, p->dir, "log", p->key);
    open_in(&m, p, &s, "mirror");
    for (int round = 0; round < 5; round++) {
        struct checkpoint before = s.head;
        source_grow(&s, 9, 3);
        if (round % 2) s.head = before; // it has grown since: what is there already is enough
        uint64_t at = mirror_at(&m);
        assert_int_equal(mirror_all(&m, &s, 700, &reached, &e), 0);
        assert_true(reached && (round % 2 ? mirror_at(&m) == at : mirror_at(&m) > at));
        source_read(&s);
        if (round % 2) continue;
        assert_int_equal(mirror_finish(&m, &s, &e), 0);
        assert_same_log(&m, &s);
        at = mirror_at(&m);
        s.head.size++;
        assert_int_equal(mirror_take(&m, &s.head, junk, sizeof junk, &reached, &e), -1);
        s.head.size--;
        assert_int_equal(mirror_at(&m), at); // what was met stays
        assert_same_log(&m, &s);
        mirror_close(&m);
        open_in(&m, p, &s, "mirror");
        assert_int_equal(mirror_reach(&audit_files, m.dir, &s.key, &bytes), s.head.size);
        assert_int_equal(bytes, mirror_at(&m));
    }
    mirror_close(&m);
    source_close(&s);
}

// ---------------------------------------------------------------- who sends something else
// It is refused, and the log's own bytes are taken afterwards.
static void assert_refused(const struct place *p, const struct source *s, const struct source *said, const char *why) {
    struct mirror m;
    struct err e = {.msg = ""};
    bool reached;
    char dir[PATH_SIZE];
    open_in(&m, p, s, "mirror");
    assert_int_equal(mirror_all(&m, said, 128 << 10, &reached, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    if (!strstr(e.msg, why)) fail_msg("%s", e.msg);
    assert_int_equal(mirror_at(&m), 0);
    mirror_close(&m);
    open_in(&m, p, s, "mirror");
    assert_int_equal(mirror_at(&m), 0);
    assert_int_equal(mirror_all(&m, s, 128 << 10, &reached, &e), 0);
    assert_true(reached);
    snprintf(dir, sizeof dir, "%s", m.dir);
    mirror_close(&m);
    assert_int_equal(folder_remove(dir), 0);
}

// `from` with other bytes.
static struct source changed(const struct source *from, size_t at, const void *data, size_t n) {
    struct source s = *from;
    assert_non_null(s.data = malloc(s.n));
    memcpy(s.data, from->data, s.n);
    memcpy(s.data + at, data, n);
    return s;
}

static void test_wrong_bytes(void **state) {
    const struct place *p = *state;
    struct source s, bad;
    struct mirror m;
    struct err e;
    bool reached;
    char frame[ENTRY_HEAD + 8];
    source_open(&s, p->dir, "log", p->key);
    source_grow(&s, 20, 5);
    for (size_t at = 0; at < s.n; at += 97) {
        char byte = (char)(s.data[at] ^ 4);
        bad = changed(&s, at, &byte, 1);
        open_in(&m, p, &s, "mirror");
        assert_true(mirror_all(&m, &bad, 128 << 10, &reached, &e) || !reached); // a longer frame never ends
        assert_true(mirror_at(&m) <= at);
        mirror_close(&m);
        free(bad.data);
    }
    bad = changed(&s, 20, "x", 1);
    assert_refused(p, &s, &bad, "at record 0");
    free(bad.data);
    entry_head(ENTRY_DENY, "{\"v\":1}.", 8, (uint8_t *)frame); // a frame in order that is no record
    memcpy(frame + ENTRY_HEAD, "{\"v\":1}.", 8);
    bad = changed(&s, 0, frame, sizeof frame);
    assert_refused(p, &s, &bad, "does not begin as records do");
    free(bad.data);
    source_close(&s);
}

static void test_other_logs(void **state) {
    const struct place *p = *state;
    struct source s, others, bad;
    source_open(&s, p->dir, "log", p->key);
    source_grow(&s, 12, 4);
    source_open(&others, p->dir, "others", p->other);
    source_grow(&others, 12, 4);
    bad = others;
    bad.head = s.head;
    assert_refused(p, &s, &bad, "not signed by the key");
    bad = s; // the log's own bytes, for a head that another history has
    bad.head.root.b[0] ^= 1;
    assert_refused(p, &s, &bad, "not those that were counter-signed");
    bad = s;
    bad.head.size -= 1; // no checkpoint stands there
    assert_refused(p, &s, &bad, "no checkpoint stands where");
    source_close(&others);
    source_close(&s);
}

// Records without end, and never a checkpoint.
static void test_never_ending(void **state) {
    const struct place *p = *state;
    enum { LONG = 60000, MANY = 80 };
    struct source s, bad;
    char begin[RECORD_BEGIN];
    size_t len;
    source_open(&s, p->dir, "log", p->key);
    source_grow(&s, 3, 3);
    bad = s;
    bad.n = (size_t)MANY * (ENTRY_HEAD + LONG);
    bad.head.size = 2 * MANY;
    assert_non_null(bad.data = malloc(bad.n));
    for (uint64_t i = 0; i < MANY; i++) {
        char *frame = bad.data + i * (ENTRY_HEAD + LONG);
        record_begin_write(&(struct record_begin){.seq = i, .type = ENTRY_DENY, .intent = RECORD_ALONE}, begin, &len);
        memset(frame + ENTRY_HEAD, ' ', LONG);
        memcpy(frame + ENTRY_HEAD, begin, len);
        frame[ENTRY_HEAD + LONG - 1] = '}';
        entry_head(ENTRY_DENY, frame + ENTRY_HEAD, LONG, (uint8_t *)frame);
    }
    assert_refused(p, &s, &bad, "no checkpoint follows");
    free(bad.data);
    source_close(&s);
}

// ---------------------------------------------------------------- the disk
// Each operation fails once: nothing counts that is not there, and the next attempt succeeds.
static void test_every_fault(void **state) {
    const struct place *p = *state;
    struct source s;
    struct err e;
    bool reached = false, whole = false;
    uint64_t bytes;
    source_open(&s, p->dir, "log", p->key);
    source_grow(&s, 15, 5);
    for (uint64_t at = 0; !whole; at++) {
        struct disk disk;
        struct mirror m;
        disk_init(&disk, at);
        const struct audit_io io = disk_io(&disk);
        disk.harm = DISK_FAILS;
        disk.harm_at = at;
        bool open = !mirror_open(&m, &io, "/mirror", &s.key, &e);
        bool took = open && !mirror_all(&m, &s, 1500, &reached, &e) && reached && !mirror_finish(&m, &s, &e);
        whole = took && disk.operations <= at;
        assert_int_equal(mirror_reach(&io, "/mirror", &s.key, &bytes), took ? s.head.size : 0);
        if (open) mirror_close(&m);
        disk.harm = DISK_FINE;
        assert_int_equal(mirror_open(&m, &io, "/mirror", &s.key, &e), 0);
        assert_int_equal(mirror_all(&m, &s, 1500, &reached, &e), 0);
        assert_true(reached);
        assert_int_equal(mirror_finish(&m, &s, &e), 0);
        assert_int_equal(mirror_reach(&io, "/mirror", &s.key, &bytes), s.head.size);
        mirror_close(&m);
        disk_free(&disk);
        assert_true(at < 200);
    }
    source_close(&s);
}

// A byte of what had counted is another one: the mirror is not opened, so that it is fetched again.
static void test_damaged_mirror(void **state) {
    const struct place *p = *state;
    struct source s;
    struct mirror m;
    struct err e;
    bool reached;
    char path[PATH_SIZE], dir[PATH_SIZE], *data;
    size_t n;
    source_open(&s, p->dir, "log", p->key);
    source_grow(&s, 10, 5);
    open_in(&m, p, &s, "mirror");
    assert_int_equal(mirror_all(&m, &s, 4096, &reached, &e), 0);
    assert_int_equal(mirror_finish(&m, &s, &e), 0);
    snprintf(dir, sizeof dir, "%s", m.dir);
    mirror_close(&m);
    assert_int_equal(path_join(path, dir, AUDIT_LOG, &e), 0);
    assert_int_equal(file_read(path, 1 << 20, &data, &n, &e), 0);
    data[n / 2] ^= 1;
    assert_int_equal(file_write(path, data, n, &e), 0);
    assert_int_equal(mirror_open(&m, &audit_files, dir, &s.key, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_int_equal(file_write(path, data, n / 4, &e), 0); // shorter than it was
    assert_int_equal(mirror_open(&m, &audit_files, dir, &s.key, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    free(data);
    source_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_pieces, place_make, place_drop),
                                       cmocka_unit_test_setup_teardown(test_growth, place_make, place_drop),
                                       cmocka_unit_test_setup_teardown(test_wrong_bytes, place_make, place_drop),
                                       cmocka_unit_test_setup_teardown(test_other_logs, place_make, place_drop),
                                       cmocka_unit_test_setup_teardown(test_never_ending, place_make, place_drop),
                                       cmocka_unit_test_setup_teardown(test_every_fault, place_make, place_drop),
                                       cmocka_unit_test_setup_teardown(test_damaged_mirror, place_make, place_drop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

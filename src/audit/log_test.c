#include "audit/disk_fixture.h"
#include "audit/log.h"
#include "audit/walk.h"
#include "base/log.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const char origin[] = "home/0123/1-ab";
static EVP_PKEY *key;

enum { MOST = 512 };
struct run { // what a caller of the log was told
    struct disk disk;
    struct audit *a;
    struct audit_found found;
    int promised[MOST]; // 1: durable, -1: failed
    struct err why;
    int n_done;
};

// What a cut leaves of a file: a size between the durable one and the latest, and of each sector the old or new bytes.
static void disk_reboot(struct disk *d) {
    for (int i = 0; i < DISK_FILES; i++) {
        struct disk_file *f = &d->files[i];
        if (!f->data) continue;
        size_t grown = f->n > f->n_durable ? f->n - f->n_durable : 0;
        size_t n = f->n_durable + disk_random(d, grown + 1);
        unsigned style = (unsigned)disk_random(d, 3); // all new, all old, mixed
        for (size_t at = 0; at < n; at += DISK_SECTOR)
            if (style == 0 || (style == 2 && disk_random(d, 2))) memcpy(f->durable + at, f->data + at, DISK_SECTOR);
        memset(f->durable + n, 0, DISK_MOST - n);
        memcpy(f->data, f->durable, DISK_MOST);
        f->n = f->n_durable = n;
    }
    d->dead = false;
    d->harm = DISK_FINE;
}

static int make_key(void **state) {
    struct err e;
    (void)state;
    log_set_level(LOG_ERROR - 1);
    return (key = key_new(&e)) ? 0 : -1;
}

static int drop_key(void **state) {
    (void)state;
    EVP_PKEY_free(key);
    return 0;
}

static int run_open(struct run *r, struct err *e) {
    struct audit_spec spec = {.dir = "/audit", .origin = origin, .key = key, .io = disk_io(&r->disk)};
    r->a = audit_open(&spec, &r->found, e);
    return r->a ? 0 : -1;
}

static struct run *run_new(uint64_t seed) {
    struct run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    disk_init(&r->disk, seed);
    return r;
}

static void run_free(struct run *r) {
    audit_close(r->a);
    disk_free(&r->disk);
    free(r);
}

static void on_done(void *arg, uint64_t seq, const struct entry *f, const struct err *why) {
    struct run *r = arg;
    assert_true(seq < MOST);
    assert_true(f->n > 20 && f->data[f->n - 1] == '}');
    r->promised[seq] = why ? -1 : 1;
    if (why) r->why = *why;
    r->n_done++;
}

static int put(struct run *r, enum entry_type type, uint64_t intent, int number, struct err *e) {
    json_t *body = json_pack("{s:i,s:s}", "number", number, "pad", "0123456789012345678901234567890123456789");
    uint64_t seq;
    assert_non_null(body);
    int rc = audit_append(r->a, type, intent, body, on_done, r, &seq, e);
    json_decref(body);
    return rc ? -1 : (int)seq;
}

static void wait_for(struct run *r, int n) {
    while (r->n_done < n) {
        struct pollfd p = {.fd = audit_fd(r->a), .events = POLLIN};
        assert_int_equal(poll(&p, 1, 10000), 1);
        audit_dispatch(r->a);
    }
}

static void test_durable(void **state) {
    struct run *r = run_new(1);
    struct err e = {.msg = ""};
    (void)state;
    assert_int_equal(run_open(r, &e), 0);
    for (int i = 0; i < 300; i++) assert_int_equal(put(r, ENTRY_DENY, RECORD_ALONE, i, &e), i);
    wait_for(r, 300);
    assert_int_equal(audit_head(r->a, NULL, NULL), 300);
    for (int i = 0; i < 300; i++) assert_int_equal(r->promised[i], 1);
    audit_close(r->a);
    assert_int_equal(run_open(r, &e), 0);
    assert_int_equal(r->found.records, 300);
    assert_int_equal(r->found.torn_bytes, 0);
    assert_int_equal(put(r, ENTRY_DENY, RECORD_ALONE, 300, &e), 300);
    run_free(r);
}

// Every record that is durable can be proven from the tree's file.
static void test_proofs(void **state) {
    struct run *r = run_new(2);
    struct err e = {.msg = ""};
    char note[NOTE_BYTES];
    size_t n_note;
    struct note_key k = {.name = "home/0123/1-ab"};
    struct checkpoint c;
    struct walk w;
    (void)state;
    assert_int_equal(key_public(key, k.public), 0);
    assert_int_equal(run_open(r, &e), 0);
    for (int i = 0; i < 37; i++) {
        assert_int_equal(put(r, ENTRY_POLICY, RECORD_ALONE, i, &e), i);
        if (i % 5 == 0) wait_for(r, i + 1);
    }
    wait_for(r, 37);
    uint64_t size = audit_head(r->a, note, &n_note);
    assert_int_equal(checkpoint_verify(note, n_note, &k, &c, &e), 0);
    assert_int_equal(c.size, size);
    struct audit_io io = disk_io(&r->disk);
    assert_int_equal(walk_open(&w, &io, "/audit", &k, &e), 0);
    int step;
    while ((step = walk_next(&w, &e)) > 0) {
        struct hash path[MERKLE_LEVELS];
        int n;
        if (!walk_is_record(&w)) continue;
        assert_int_equal(audit_prove(r->a, w.record.seq, size, path, &n, &e), 0);
        assert_true(merkle_included(&w.done[0], w.record.seq, size, path, n, &c.root));
    }
    assert_int_equal(step, 0);
    assert_int_equal(w.tree.size, 37);
    walk_close(&w);
    run_free(r);
}

// ---------------------------------------------------------------- after a crash
// The log as it is read: how many intents, and how often each was answered.
struct reading {
    int intents, outcomes[MOST], number[MOST];
    bool is_intent[MOST];
    uint64_t records;
};

static void read_all(struct run *r, struct reading *out) {
    struct note_key k = {.name = "home/0123/1-ab"};
    struct err e = {.msg = ""};
    struct walk w;
    struct audit_io io = disk_io(&r->disk);
    int step;
    *out = (struct reading){.intents = 0};
    assert_int_equal(key_public(key, k.public), 0);
    assert_int_equal(walk_open(&w, &io, "/audit", &k, &e), 0);
    while ((step = walk_next(&w, &e)) > 0) {
        if (!walk_is_record(&w)) continue;
        const struct record_begin *b = &w.record;
        assert_true(b->seq < MOST);
        if (b->type == ENTRY_INTENT) out->intents++;
        if (b->type == ENTRY_OUTCOME) out->outcomes[b->intent]++;
        out->is_intent[b->seq] = b->type == ENTRY_INTENT;
        const char *number = memmem(w.frame.data, w.frame.n, "\"number\":", 9);
        out->number[b->seq] = number ? (int)strtol(number + 9, NULL, 10) : -1;
    }
    if (step < 0) fail_msg("%s", e.msg);
    out->records = w.tree.size;
    assert_int_equal(w.signed_tree.size, w.tree.size);
    walk_close(&w);
}

// Intents, and outcomes of some of them; now and then it waits.
static void work(struct run *r, uint64_t seed, int first) {
    struct disk dice;
    struct err e;
    int open = -1;
    disk_init(&dice, seed);
    for (int i = 0; i < 24; i++) {
        bool answer = open >= 0 && disk_random(&dice, 3);
        int seq = answer ? put(r, ENTRY_OUTCOME, (uint64_t)open, first + i, &e)
                         : put(r, ENTRY_INTENT, RECORD_ALONE, first + i, &e);
        if (seq < 0) break;
        assert_int_equal(r->promised[seq], 0);
        open = answer ? -1 : seq;
        if (!disk_random(&dice, 4)) {
            struct pollfd p = {.fd = audit_fd(r->a), .events = POLLIN};
            poll(&p, 1, 2);
            audit_dispatch(r->a);
        }
    }
    disk_free(&dice);
}

static void check_after(struct run *r, uint64_t seed, const int *promised) {
    struct err e = {.msg = ""};
    struct reading now;
    (void)seed;
    if (run_open(r, &e)) fail_msg("seed %llu: %s", (unsigned long long)seed, e.msg);
    audit_close(r->a);
    r->a = NULL;
    read_all(r, &now);
    for (uint64_t i = 0; i < MOST; i++) {
        if (promised[i] == 1 && (i >= now.records || now.number[i] != (int)i))
            fail_msg("seed %llu: record %llu was promised, and is lost", (unsigned long long)seed,
                     (unsigned long long)i);
        if (now.outcomes[i] != now.is_intent[i])
            fail_msg("seed %llu: record %llu has %d outcomes", (unsigned long long)seed, (unsigned long long)i,
                     now.outcomes[i]);
    }
}

static void harmed(uint64_t seed, enum disk_harm harm, uint64_t at) {
    struct run *r = run_new(seed);
    struct err e = {.msg = ""};
    int promised[MOST];
    r->disk.harm = harm;
    r->disk.harm_at = at;
    if (!run_open(r, &e)) work(r, seed, 0);
    audit_close(r->a);
    r->a = NULL;
    memcpy(promised, r->promised, sizeof promised);
    disk_reboot(&r->disk);
    check_after(r, seed, promised);
    run_free(r);
}

static void test_power_cut_anywhere(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 240; seed++) harmed(seed, DISK_DIES, seed % 40);
}

static void test_any_operation_fails(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 120; seed++) harmed(seed, DISK_FAILS, seed % 40);
}

static void test_nothing_is_retried(void **state) {
    struct run *r = run_new(5);
    struct err e = {.msg = ""};
    (void)state;
    assert_int_equal(run_open(r, &e), 0);
    assert_int_equal(put(r, ENTRY_INTENT, RECORD_ALONE, 0, &e), 0);
    wait_for(r, 1);
    r->disk.harm_at = r->disk.operations = 1; // the sync
    r->disk.operations = 0;
    r->disk.harm = DISK_FAILS;
    assert_int_equal(put(r, ENTRY_INTENT, RECORD_ALONE, 1, &e), 1);
    wait_for(r, 2);
    assert_int_equal(r->promised[1], -1);
    assert_non_null(strstr(r->why.msg, "/audit/log"));
    uint64_t before = r->disk.operations;
    assert_int_equal(put(r, ENTRY_INTENT, RECORD_ALONE, 2, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_non_null(strstr(e.msg, "/audit/log"));
    assert_true(audit_failed(r->a, &e));
    assert_int_equal(audit_head(r->a, NULL, NULL), 1);
    audit_close(r->a);
    r->a = NULL;
    assert_int_equal(r->disk.operations, before);
    run_free(r);
}

// ---------------------------------------------------------------- damage
static struct run *filled(int n) {
    struct run *r = run_new(7);
    struct err e = {.msg = ""};
    assert_int_equal(run_open(r, &e), 0);
    for (int i = 0; i < n; i++) {
        assert_int_equal(put(r, ENTRY_DENY, RECORD_ALONE, i, &e), i);
        wait_for(r, i + 1);
    }
    audit_close(r->a); // writes `checkpoint`
    r->a = NULL;
    return r;
}

// As `: > log` and `mv` do under a daemon that runs: nothing is written behind the hole, nor promised.
static void test_cut_by_another_program(void **state) {
    (void)state;
    for (int moved = 0; moved < 2; moved++) {
        struct run *r = run_new(7);
        struct err e = {.msg = ""};
        assert_int_equal(run_open(r, &e), 0);
        assert_int_equal(put(r, ENTRY_DENY, RECORD_ALONE, 0, &e), 0);
        wait_for(r, 1);
        int log = disk_find(&r->disk, "/audit/log", false);
        pthread_mutex_lock(&r->disk.lock);
        if (moved)
            r->disk.files[log].name[0] = 'L';
        else
            r->disk.files[log].n = 0;
        pthread_mutex_unlock(&r->disk.lock);
        assert_int_equal(put(r, ENTRY_DENY, RECORD_ALONE, 1, &e), 1);
        wait_for(r, 2);
        assert_int_equal(r->promised[1], moved ? 1 : -1);
        assert_true(moved || (audit_failed(r->a, &e) && strstr(e.msg, "another program")));
        audit_close(r->a); // publishes
        r->a = NULL;
        int published = disk_find(&r->disk, "/audit/checkpoint", false);
        assert_true(published < 0 || !strstr(r->disk.files[published].data, "1-ab\n2\n"));
        run_free(r);
    }
}

static void test_damage_is_refused(void **state) {
    struct run *r = filled(6);
    struct err e;
    (void)state;
    struct disk_file *f = &r->disk.files[disk_find(&r->disk, "/audit/log", false)];
    for (size_t i = 0; i < f->n; i++) {
        f->data[i] = (char)(f->data[i] ^ 4);
        assert_int_equal(run_open(r, &e), -1);
        assert_int_equal(e.code, ERR_INVALID);
        assert_non_null(strstr(e.msg, "/audit/log is damaged at record "));
        f->data[i] = (char)(f->data[i] ^ 4);
    }
    for (size_t n = f->n; f->n-- > 0;) {
        if (n - f->n > 700 && f->n % 97) continue;
        assert_int_equal(run_open(r, &e), -1);
        assert_int_equal(e.code, ERR_INVALID);
    }
    run_free(r);
}

// Without `checkpoint`, a last batch that is not whole is one that was never promised.
static void test_torn_tail_is_cut_off_and_told(void **state) {
    struct run *r = filled(3);
    struct err e = {.msg = ""};
    struct reading now;
    (void)state;
    struct disk_file *log = &r->disk.files[disk_find(&r->disk, "/audit/log", false)];
    struct disk_file *c = &r->disk.files[disk_find(&r->disk, "/audit/checkpoint", false)];
    c->name[0] = '-';
    log->data[log->n - 1] = 'x';
    assert_int_equal(run_open(r, &e), 0);
    assert_int_equal(r->found.records, 2);
    assert_true(r->found.torn_bytes > 0);
    audit_close(r->a);
    r->a = NULL;
    read_all(r, &now);
    assert_int_equal(now.records, 3); // the third one tells of it
    assert_non_null(memmem(log->data, log->n, "\"type\":\"recover\",\"torn_bytes\":", 29));
    run_free(r);
}

static void test_tree_is_made_anew(void **state) {
    struct run *r = filled(9);
    struct err e = {.msg = ""};
    char before[DISK_SECTOR];
    (void)state;
    struct disk_file *tree = &r->disk.files[disk_find(&r->disk, "/audit/tree", false)];
    assert_int_equal(tree->n, 32 * (9 + 4 + 2 + 1));
    memcpy(before, tree->data, sizeof before);
    for (int way = 0; way < 3; way++) {
        if (way == 0) tree->data[70] ^= 1;
        if (way == 1) tree->n = 100;
        if (way == 2) tree->n += 64;
        assert_int_equal(run_open(r, &e), 0);
        audit_close(r->a);
        r->a = NULL;
        assert_int_equal(tree->n, 32 * 16);
        assert_memory_equal(tree->data, before, sizeof before);
    }
    run_free(r);
}

static void test_bounds(void **state) {
    struct run *r = run_new(9);
    struct err e = {.msg = ""};
    (void)state;
    assert_int_equal(run_open(r, &e), 0);
    char *pad = calloc(1, ENTRY_MAX + 1);
    assert_non_null(pad);
    memset(pad, 'x', ENTRY_MAX);
    json_t *body = json_pack("{s:s}", "pad", pad);
    assert_int_equal(audit_append(r->a, ENTRY_DENY, RECORD_ALONE, body, on_done, r, NULL, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    json_decref(body);
    pad[ENTRY_MAX - 100] = '\0';
    body = json_pack("{s:s}", "pad", pad);
    assert_int_equal(audit_append(r->a, ENTRY_DENY, RECORD_ALONE, body, on_done, r, NULL, &e), 0);
    json_decref(body);
    wait_for(r, 1);
    free(pad);
    pthread_mutex_lock(&r->disk.lock); // the disk stands still
    int n = 0;
    json_t *small = json_pack("{s:i}", "n", 1);
    while (!audit_append(r->a, ENTRY_DENY, RECORD_ALONE, small, NULL, NULL, NULL, &e)) n++;
    assert_int_equal(e.code, ERR_BUSY);
    assert_int_equal(n, AUDIT_QUEUE / 4 * 3);
    while (!audit_append(r->a, ENTRY_OUTCOME, 0, small, NULL, NULL, NULL, &e)) n++; // owed
    pthread_mutex_unlock(&r->disk.lock);
    assert_int_equal(n, AUDIT_QUEUE);
    json_decref(small);
    run_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durable),
        cmocka_unit_test(test_proofs),
        cmocka_unit_test(test_power_cut_anywhere),
        cmocka_unit_test(test_any_operation_fails),
        cmocka_unit_test(test_nothing_is_retried),
        cmocka_unit_test(test_cut_by_another_program),
        cmocka_unit_test(test_damage_is_refused),
        cmocka_unit_test(test_torn_tail_is_cut_off_and_told),
        cmocka_unit_test(test_tree_is_made_anew),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, make_key, drop_key);
}

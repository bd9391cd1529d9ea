// A log is fetched piece by piece, one question at a time, each where the file ends; what is not an answer to it is
// left out, what is no piece of the log ends it, and it can be stopped at any moment.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "audit/mirror_fixture.h"
#include "audit/verify.h"
#include "serve/fetch.h"
#include "serve/node.h"

enum answers { HONEST, NO_BASE64, WRONG_BYTES, CUT_OFF, EMPTY, REFUSAL, TOO_MUCH };

struct world {
    const struct place *place;
    struct serve serve;
    struct source s;
    struct fetch f;
    bool asked, ended;
    struct piece_want want;
    int questions;
    struct err why;
};
static struct world w;

int node_send(const struct serve *s, const char *id, const json_t *msg, struct err *e) {
    struct stat st;
    char path[PATH_SIZE];
    assert_ptr_equal(s, &w.serve);
    assert_string_equal(id, "other");
    assert_int_equal(piece_want_read(msg, &w.want, e), 0);
    assert_string_equal(w.want.log, w.s.key.name);
    w.want.log = w.s.key.name;
    assert_true(!w.f.busy && w.want.bytes >= PIECE_LEAST && w.want.bytes <= PIECE_MOST);
    assert_int_equal(path_join(path, w.f.dir, AUDIT_LOG, e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, w.want.at); // all that came is on the disk
    w.asked = true;
    w.questions++;
    return 0;
}

static void on_ended(struct fetch *f, const struct err *why) {
    assert_ptr_equal(f, &w.f);
    assert_false(w.ended || f->running || f->busy);
    w.ended = true;
    w.why = why ? *why : (struct err){.code = ERR_NONE};
}

static int setup(void **state) {
    struct err e;
    if (place_make(state)) return -1;
    w = (struct world){.place = *state};
    w.serve.base = event_base_new();
    source_open(&w.s, w.place->dir, "log", w.place->key);
    source_grow(&w.s, 400, 20);
    w.f = (struct fetch){
        .s = &w.serve, .ended = on_ended, .rate = 1ull << 40, .from = "other", .key = w.s.key, .arg = &w};
    snprintf(w.f.dir, sizeof w.f.dir, "%s/of/mirror", w.place->dir);
    w.f.keeper = keeper_new(w.serve.base, &e);
    return w.f.keeper && !fetch_init(&w.f, &e) ? 0 : -1;
}

static int teardown(void **state) {
    keeper_free(w.f.keeper);
    fetch_close(&w.f);
    event_base_free(w.serve.base);
    source_close(&w.s);
    return place_drop(state);
}

static void begin(void) {
    w.ended = w.asked = false;
    w.questions = 0;
    fetch_start(&w.f, &(struct fetch_goal){.target = w.s.head,
                                           .note = w.s.note,
                                           .note_len = w.s.note_len,
                                           .witnesses = strdup("[]"),
                                           .roster = strdup("{}")});
}

static void hear(uint64_t at, const char *text, size_t n) {
    fetch_heard(&w.f, &(struct piece){.log = w.s.key.name, .at = at, .data = text, .n = n});
}

static void answer(enum answers how) {
    static char text[2 * BASE64_SIZE(PIECE_MOST)];
    uint64_t at = w.want.at, end = how == CUT_OFF ? w.s.n / 2 : w.s.n, left = end > at ? end - at : 0;
    size_t n = left < w.want.bytes ? (size_t)left : w.want.bytes;
    w.asked = false;
    if (how == REFUSAL) {
        fetch_heard(&w.f, &(struct piece){.log = w.s.key.name, .at = at, .error = "no such log"});
        return;
    }
    if (how == TOO_MUCH) n = PIECE_MOST + 3; // base64 that is longer than any question
    if (how == EMPTY) n = 0;
    if (how == WRONG_BYTES) w.s.data[at + n / 2] ^= 1;
    if (how == TOO_MUCH)
        memset(text, 'A', BASE64_SIZE(n));
    else
        base64_encode(w.s.data + at, n, text);
    if (how == WRONG_BYTES) w.s.data[at + n / 2] ^= 1;
    if (how == NO_BASE64) text[5] = '!';
    hear(at + 1, "!", 1); // not what was asked for
    hear(at, text, BASE64_SIZE(n) - 1);
    hear(at, "!", 1); // it has been answered
}

static void turn(void) { assert_int_equal(event_base_loop(w.serve.base, EVLOOP_ONCE), 0); }

static void run(enum answers how) {
    begin();
    while (!w.ended)
        if (w.asked)
            answer(how);
        else
            turn();
}

static void assert_whole(void) {
    struct verified v;
    struct err e;
    assert_int_equal(w.why.code, ERR_NONE);
    assert_int_equal(verify_log(&audit_files, w.f.dir, NULL, NULL, &v, &e), 0);
    assert_int_equal(v.records, w.s.head.size);
}

static void test_all_of_it(void **state) {
    (void)state;
    hear(0, "AAAA", 4); // nobody has asked
    run(HONEST);
    assert_whole();
    assert_true(w.questions > 1);
    begin(); // what is there already is not asked for
    while (!w.ended) turn();
    assert_int_equal(w.questions, 0);
    source_grow(&w.s, 30, 10);
    run(HONEST);
    assert_whole();
    source_add(&w.s, 7, 3, 60000); // longer than pieces are
    run(HONEST);
    assert_whole();
}

static void test_others(void **state) {
    static const struct {
        enum answers how;
        enum err_code code;
    } table[] = {{NO_BASE64, ERR_INVALID}, {WRONG_BYTES, ERR_INVALID}, {CUT_OFF, ERR_NOT_FOUND},
                 {EMPTY, ERR_NOT_FOUND},   {REFUSAL, ERR_NOT_FOUND},   {TOO_MUCH, ERR_INVALID}};
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        run(table[i].how);
        if (w.why.code != table[i].code) fail_msg("%zu: %s", i, w.why.msg);
    }
    run(HONEST); // none of that is left
    assert_whole();
}

static void test_stopped(void **state) {
    struct err why;
    (void)state;
    err_set(&why, ERR_CANCELLED, "enough");
    for (int busy = 0; busy < 2; busy++) {
        begin();
        while (!w.asked) turn();
        if (busy) answer(HONEST);
        assert_int_equal(w.f.busy, busy);
        fetch_stop(&w.f, &why);
        assert_int_equal(w.ended, !busy);
        while (!w.ended) turn();
        assert_int_equal(w.why.code, ERR_CANCELLED);
    }
    begin();
    while (!w.asked) turn();
    w.asked = false;
    fetch_up(&w.f); // the link is new: nobody knows of the question any more
    assert_true(w.asked);
    while (!w.ended)
        if (w.asked)
            answer(HONEST);
        else
            turn();
    assert_whole();
}

// What was checked once and is damaged now is set aside, and fetched again.
static void test_damaged(void **state) {
    char path[PATH_SIZE + 16];
    struct err e;
    struct stat st;
    (void)state;
    run(HONEST);
    mirror_close(&w.f.mirror);
    w.f.open = false;
    snprintf(path, sizeof path, "%s/log", w.f.dir);
    assert_int_equal(file_write(path, w.s.data, w.s.n / 3, &e), 0);
    run(HONEST);
    assert_whole();
    snprintf(path, sizeof path, "%s.damaged", w.f.dir);
    assert_int_equal(stat(path, &st), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_all_of_it, setup, teardown),
                                       cmocka_unit_test_setup_teardown(test_others, setup, teardown),
                                       cmocka_unit_test_setup_teardown(test_stopped, setup, teardown),
                                       cmocka_unit_test_setup_teardown(test_damaged, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

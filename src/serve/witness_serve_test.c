// Who may read what: this node's own logs any member, a mirror the node whose log it is and nobody else. One piece at a
// time, none longer than it may be.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "audit/mirror_fixture.h"
#include "serve/node.h"
#include "serve/witness_internal.h"

#define EDGE  "0123456789abcdef0123456789abcdef" // the fixture's node
#define PRIME "11111111111111111111111111111111"
#define THIRD "22222222222222222222222222222222"

struct world {
    struct serve serve;
    struct witness witness;
    struct source s; // the log of EDGE
    int answers;
    size_t bytes;
    bool refused, has_note;
    char to[NODE_ID];
};
static struct world w;

const char *witness_cluster(const struct witness *x) {
    (void)x;
    return "home";
}

bool own_is(const struct witness *x, const char *origin) {
    (void)x;
    return !strncmp(origin, "home/" PRIME "/", 5 + sizeof PRIME);
}

const struct peer *cluster_find(const struct cluster *c, const char *id) {
    (void)c, (void)id;
    return NULL;
}

int node_send(const struct serve *s, const char *id, const json_t *msg, struct err *e) {
    struct piece p;
    static uint8_t room[PIECE_MOST];
    (void)s;
    assert_int_equal(piece_read(msg, &p, e), 0);
    w.answers++;
    w.refused = p.error != NULL;
    w.has_note = p.note != NULL;
    w.bytes = 0;
    if (p.data) assert_int_equal(base64_decode(p.data, p.n, room, sizeof room, &w.bytes), 0);
    if (p.data) assert_memory_equal(room, w.s.data + p.at, w.bytes);
    snprintf(w.to, sizeof w.to, "%s", id);
    return 0;
}

static int setup(void **state) {
    struct err e;
    char dir[PATH_SIZE], own[PATH_SIZE];
    struct mirror m;
    bool reached;
    if (place_make(state)) return -1;
    const struct place *place = *state;
    w = (struct world){.serve = {.base = event_base_new()}};
    w.witness.s = &w.serve;
    snprintf(w.witness.audit, sizeof w.witness.audit, "%s", place->dir);
    source_open(&w.s, place->dir, "000002-0a0b0c0d", place->key);
    source_grow(&w.s, 30, 5);
    snprintf(dir, sizeof dir, "%s/mirrors/%s/000002-0a0b0c0d", place->dir, EDGE);
    snprintf(own, sizeof own, "%s/000001-0a0b0c0d", place->dir); // PRIME's own log, of the same bytes
    assert_int_equal(path_make_dir(dir, &e) | path_make_dir(own, &e), 0);
    assert_int_equal(mirror_open(&m, &audit_files, dir, &w.s.key, &e), 0);
    assert_int_equal(mirror_all(&m, &w.s, PIECE_MOST, &reached, &e), 0);
    assert_int_equal(mirror_finish(&m, &w.s, &e), 0);
    mirror_close(&m);
    assert_int_equal(path_join(dir, own, AUDIT_LOG, &e) | file_write(dir, w.s.data, w.s.n, &e), 0);
    w.witness.mirrorer = keeper_new(w.serve.base, &e);
    return w.witness.mirrorer && !readers_new(&w.witness, &e) ? 0 : -1;
}

static int teardown(void **state) {
    keeper_free(w.witness.mirrorer);
    readers_free(&w.witness);
    event_base_free(w.serve.base);
    source_close(&w.s);
    return place_drop(state);
}

static void want(const char *node, const char *log, uint64_t at, size_t bytes) {
    struct peer p = {.up = true};
    json_t *msg = piece_want_json(&(struct piece_want){.log = log, .at = at, .bytes = bytes});
    snprintf(p.id, sizeof p.id, "%s", node);
    snprintf(p.name, sizeof p.name, "%.8s", node);
    readers_want(&w.witness, &p, msg);
    json_decref(msg);
}

static void wait_for(int answers) {
    while (w.answers < answers) assert_int_equal(event_base_loop(w.serve.base, EVLOOP_ONCE), 0);
}

static void ask(const char *node, const char *log, uint64_t at, size_t bytes) {
    int before = w.answers;
    want(node, log, at, bytes);
    wait_for(before + 1);
    assert_string_equal(w.to, node);
}

static void test_who_may(void **state) {
    static const char mirror[] = "home/" EDGE "/000002-0a0b0c0d", own[] = "home/" PRIME "/000001-0a0b0c0d";
    static const char *const never[] = {"home/" EDGE "/000003-0a0b0c0d",
                                        "home/" EDGE "/../000001-0a0b0c0d",
                                        "other/" EDGE "/000002-0a0b0c0d",
                                        "home/" EDGE "/",
                                        "home/" PRIME "/x/y",
                                        "x"};
    (void)state;
    ask(EDGE, mirror, 0, 0);
    assert_true(!w.refused && w.has_note && !w.bytes);
    ask(EDGE, mirror, 100, 500);
    assert_true(!w.refused && w.has_note && w.bytes == 500);
    ask(EDGE, mirror, w.s.n - 7, PIECE_MOST);
    assert_int_equal(w.bytes, 7);
    ask(EDGE, mirror, w.s.n + 7, PIECE_MOST);
    assert_true(!w.refused && !w.bytes);
    ask(THIRD, mirror, 0, 500); // it is not that node's
    assert_true(w.refused);
    ask(PRIME, mirror, 0, 500);
    assert_true(w.refused);
    ask(EDGE, own, 0, 500);
    assert_true(!w.refused && !w.has_note && w.bytes == 500);
    ask(THIRD, own, 0, 500);
    assert_true(!w.refused && w.bytes == 500);
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        ask(EDGE, never[i], 0, 500);
        assert_true(w.refused);
    }
}

// Who asks without waiting gets one answer, and others theirs meanwhile.
static void test_one_at_a_time(void **state) {
    static const char own[] = "home/" PRIME "/000001-0a0b0c0d";
    (void)state;
    for (int i = 0; i < 50; i++) want(EDGE, own, 0, 500);
    want(THIRD, own, 0, 400);
    wait_for(2);
    assert_int_equal(w.bytes, 400);
    want(EDGE, own, 0, PIECE_MOST + 1); // no question: none is answered
    ask(EDGE, own, 10, 300);
    assert_int_equal(w.bytes, 300);
    assert_int_equal(w.answers, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_who_may, setup, teardown),
                                       cmocka_unit_test_setup_teardown(test_one_at_a_time, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// What a node tells of its links, what it takes of others' words, and what follows for all links. The cluster and the
// measurements are made up.
#include "serve/links.h"
#include "serve/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NODES = 4 }; // the first one is this
static const char ids[NODES][NODE_ID] = {"aaaa", "bbbb", "cccc", "dddd"};

static struct serve s;
static struct peer peers[NODES];
static json_t *told[NODES];
static linkprobe_done done;
static void *done_arg;

// ---------------------------------------------------------------- the world
const char *node_self(const struct serve *serve) {
    assert_ptr_equal(serve, &s);
    return ids[0];
}

bool node_is_self(const struct serve *serve, const char *id) { return !strcmp(id, node_self(serve)); }

const struct peer *cluster_find(const struct cluster *c, const char *id) {
    assert_null(c);
    for (size_t i = 1; i < NODES; i++)
        if (!strcmp(ids[i], id)) return &peers[i];
    return NULL;
}

const json_t *cluster_links_of(const struct cluster *c, const struct peer *p) {
    assert_null(c);
    return told[p - peers];
}

struct transfers *cluster_transfers(const struct cluster *c) {
    assert_null(c);
    return NULL;
}

bool transfers_pace(struct transfers *t, const char *node, uint64_t *bytes, uint64_t *ns) {
    (void)t, (void)node, (void)bytes, (void)ns;
    return false;
}

struct linkprobe *linkprobe_start(struct serve *serve, const char *node, uint64_t bytes, unsigned ms, linkprobe_done d,
                                  void *arg, struct err *e) {
    (void)serve, (void)node, (void)bytes, (void)ms, (void)e;
    done = d;
    done_arg = arg;
    return (struct linkprobe *)&s; // only passed on
}

bool linkprobe_asks(const struct linkprobe *p) { return !p; }
void linkprobe_heard(struct linkprobe *p, const struct probemsg *m) { (void)p, (void)m; }
void linkprobe_fail(struct linkprobe *p, const struct err *why) { (void)p, (void)why; }
void linkprobe_end(struct linkprobe *p) { (void)p; }

struct linkhost *linkhost_start(struct serve *serve, const char *node, const struct probemsg *m, struct err *e) {
    (void)serve, (void)node, (void)m, (void)e;
    return NULL;
}

void linkhost_heard(struct linkhost *h, const struct probemsg *m) { (void)h, (void)m; }
bool linkhost_over(const struct linkhost *h) { return h; }
void linkhost_end(struct linkhost *h) { (void)h; }
void linkhost_refuse(struct serve *serve, const char *node, uint64_t n, const struct err *why) {
    (void)serve, (void)node, (void)n, (void)why;
}

static int setup(void **state) {
    struct err e;
    (void)state;
    for (size_t i = 1; i < NODES; i++) {
        peers[i] = (struct peer){.up = true, .rtt_ns = 2000000};
        memcpy(peers[i].id, ids[i], NODE_ID);
    }
    s.base = event_base_new();
    s.links = s.base ? links_new(&s, &e) : NULL;
    return s.links ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    for (size_t i = 0; i < NODES; i++) {
        json_decref(told[i]);
        told[i] = NULL;
    }
    links_free(s.links);
    event_base_free(s.base);
    return 0;
}

static void measured(size_t node, double bytes_s) {
    struct err e;
    const struct linkprobe_result r = {.sent = 1 << 20, .bytes = (uint64_t)bytes_s, .ns = 1000000000};
    assert_int_equal(links_measure(s.links, ids[node], 1 << 20, 100, NULL, NULL, &e), 0);
    done(done_arg, &r, NULL);
}

static json_t *json_of(const char *text) {
    json_t *o = json_loads(text, 0, NULL);
    assert_non_null(o);
    return o;
}

static void expect_told(const char *wanted) {
    json_t *said = links_tell(s.links), *expected = json_of(wanted);
    if (!json_equal(said, expected)) fail_msg("%s", json_dumps(said, 0));
    json_decref(said);
    json_decref(expected);
}

// ---------------------------------------------------------------- tests
static void test_what_is_told(void **state) {
    (void)state;
    expect_told("{}");
    measured(1, 1e9);
    measured(2, 5e8);
    expect_told("{\"bbbb\":{\"bytes_s\":1e9,\"rtt_s\":0.002},\"cccc\":{\"bytes_s\":5e8,\"rtt_s\":0.002}}");
    measured(1, 1.1e9); // about the same
    peers[1].rtt_ns = 2200000;
    expect_told("{\"bbbb\":{\"bytes_s\":1e9,\"rtt_s\":0.002},\"cccc\":{\"bytes_s\":5e8,\"rtt_s\":0.002}}");
    measured(1, 2e9);
    peers[2].up = false;
    expect_told("{\"bbbb\":{\"bytes_s\":2e9,\"rtt_s\":0.0022}}");
    json_t *none = links_tell(NULL);
    assert_int_equal(json_object_size(none), 0);
    json_decref(none);
}

static void test_what_is_taken(void **state) {
    static const char *const bad[] = {
        "{\"bbbb\":7}",
        "{\"bbbb\":{}}",
        "{\"bbbb\":{\"bytes_s\":0,\"rtt_s\":0.1}}",
        "{\"bbbb\":{\"bytes_s\":-1,\"rtt_s\":0.1}}",
        "{\"bbbb\":{\"bytes_s\":8e14,\"rtt_s\":0.1}}",
        "{\"bbbb\":{\"bytes_s\":\"1e9\",\"rtt_s\":0.1}}",
        "{\"bbbb\":{\"bytes_s\":1e9,\"rtt_s\":-0.1}}",
        "{\"bbbb\":{\"bytes_s\":1e9,\"rtt_s\":1e9}}",
        "{\"cccc\":{\"bytes_s\":1e9,\"rtt_s\":0.1},\"bbbb\":{\"bytes_s\":1e9,\"rtt_s\":1e9}}",
        "{\"0123456789012345678901234567890123456789012345678901234567890123456789\":{\"bytes_s\":1e9}}",
    };
    struct err e = {.code = ERR_NONE};
    (void)state;
    json_t *said = json_of("{\"bbbb\":{\"bytes_s\":1e9,\"rtt_s\":0.1,\"more\":[]},\"cccc\":{\"bytes_s\":1}}");
    json_t *clean = links_clean(said, &e);
    assert_int_equal(e.code, ERR_NONE);
    assert_int_equal(json_object_size(clean), 2);
    assert_null(json_object_get(json_object_get(clean, "bbbb"), "more"));
    json_decref(clean);
    json_decref(said);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e.code = ERR_NONE;
        said = json_of(bad[i]);
        clean = links_clean(said, &e);
        if (e.code == ERR_NONE || !json_is_null(clean)) fail_msg("%s was taken", bad[i]);
        json_decref(clean);
        json_decref(said);
    }
    said = json_object();
    for (int i = 0; i <= (int)ROSTER_NODES; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", i);
        json_object_set_new(said, id, json_pack("{s:f}", "bytes_s", 1e9));
    }
    e.code = ERR_NONE;
    clean = links_clean(said, &e);
    assert_true(json_is_null(clean) && e.code == ERR_INVALID);
    json_decref(clean);
    json_decref(said);
    e.code = ERR_NONE;
    clean = links_clean(NULL, &e); // an older node tells nothing
    assert_true(json_is_null(clean) && e.code == ERR_NONE);
    json_decref(clean);
}

static void expect(const struct link_cost *all, size_t from, size_t to, double bytes_s, double rtt_s) {
    const struct link_cost *l = &all[from * NODES + to];
    if (l->bytes_s != bytes_s || l->rtt_s != rtt_s) fail_msg("%zu to %zu: %g, %g s", from, to, l->bytes_s, l->rtt_s);
}

static void test_all_links(void **state) {
    struct link_cost all[NODES * NODES];
    (void)state;
    measured(1, 1e9);
    told[1] = json_of("{\"aaaa\":{\"bytes_s\":3e9,\"rtt_s\":0.1},\"cccc\":{\"bytes_s\":2e9,\"rtt_s\":0.2}}");
    told[2] = json_of("{\"bbbb\":{\"bytes_s\":4e9,\"rtt_s\":0.3},\"aaaa\":{\"bytes_s\":5e9,\"rtt_s\":0.4}}");
    told[3] = json_of("{\"bbbb\":{\"bytes_s\":6e9,\"rtt_s\":0.5}}");
    links_among(&s, ids, NODES, all);
    expect(all, 0, 1, 1e9, 0.002);
    expect(all, 1, 0, 3e9, 0.1);
    expect(all, 1, 2, 2e9, 0.2);
    expect(all, 2, 1, 4e9, 0.3);
    expect(all, 2, 0, 5e9, 0.4);
    expect(all, 0, 2, 5e9, 0.4); // by the other end's word
    expect(all, 1, 3, 6e9, 0.5);
    expect(all, 2, 3, 0, 0);
    for (size_t i = 0; i < NODES; i++) expect(all, i, i, 0, 0);
    peers[1].up = false; // what it told counts no more
    links_among(&s, ids, NODES, all);
    expect(all, 1, 0, 0, 0);
    expect(all, 0, 1, 0, 0);
    expect(all, 1, 2, 4e9, 0.3);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_what_is_told), TEST(test_what_is_taken), TEST(test_all_links)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

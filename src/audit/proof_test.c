// What a witness concludes, against trees that are known in full: honest growth, other histories, proofs that are bent.
#include "audit/fork.h"
#include "audit/proof.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 40 };

// A tree whose leaves from `parts` on are those of another history.
struct history {
    struct hash leaves[MOST];
};

static struct hash node_hash(const struct hash *left, const struct hash *right) {
    uint8_t data[1 + 2 * MERKLE_HASH] = {1};
    struct hash out;
    memcpy(data + 1, left, MERKLE_HASH);
    memcpy(data + 1 + MERKLE_HASH, right, MERKLE_HASH);
    digest_of(data, sizeof data, out.b);
    return out;
}

static void history_make(struct history *h, int parts) {
    for (int i = 0; i < MOST; i++) {
        const uint8_t data[3] = {0, (uint8_t)i, i >= parts};
        digest_of(data, sizeof data, h->leaves[i].b);
    }
}

static int node(void *arg, int level, uint64_t index, struct hash *out, struct err *e) {
    struct hash left, right;
    const struct history *h = arg;
    if (!level) *out = h->leaves[index];
    if (!level) return 0;
    if (node(arg, level - 1, 2 * index, &left, e) || node(arg, level - 1, 2 * index + 1, &right, e)) return -1;
    *out = node_hash(&left, &right);
    return 0;
}

static struct checkpoint head_of(struct history *h, uint64_t size) {
    struct checkpoint c = {.origin = "home/0123/1-ab", .size = size};
    assert_int_equal(merkle_root_at(node, h, size, &c.root, NULL), 0);
    return c;
}

static struct growth growth_of(struct history *h, uint64_t old, uint64_t size) {
    struct growth g = {.size = old};
    assert_int_equal(merkle_root_at(node, h, old, &g.root, NULL), 0);
    if (old) assert_int_equal(merkle_consistency(node, h, old, size, g.path, &g.n, NULL), 0);
    return g;
}

// The root is that of the tree which grows leaf by leaf.
static void test_root_at(void **state) {
    struct history h;
    struct merkle m;
    struct err e;
    struct hash done[MERKLE_LEVELS], root;
    int n;
    (void)state;
    history_make(&h, MOST);
    assert_int_equal(merkle_init(&m, &e), 0);
    for (uint64_t size = 0; size < MOST; size++) {
        root = merkle_root(&m);
        struct checkpoint c = head_of(&h, size);
        assert_memory_equal(c.root.b, root.b, MERKLE_HASH);
        merkle_add(&m, &h.leaves[size], done, &n);
    }
    merkle_close(&m);
}

static void test_every_history(void **state) {
    struct history first, other;
    (void)state;
    history_make(&first, MOST);
    for (int parts = 0; parts < MOST; parts += 3) {
        history_make(&other, parts);
        for (uint64_t old = 1; old <= MOST; old++) {
            const struct checkpoint held = head_of(&first, old);
            for (uint64_t size = 1; size <= MOST; size++) {
                const struct checkpoint head = head_of(&other, size);
                const struct growth g = growth_of(&other, old <= size ? old : size, size);
                enum verdict want = size < old              ? VERDICT_SHRUNK
                                    : old > (uint64_t)parts ? VERDICT_FORKED
                                                            : VERDICT_GROWN;
                assert_int_equal(growth_judge(&held, &head, &g), want);
            }
        }
    }
}

static void test_bent_proofs(void **state) {
    struct history h, other;
    (void)state;
    history_make(&h, MOST);
    history_make(&other, 5);
    const struct checkpoint held = head_of(&h, 12), head = head_of(&h, 37), none = {.size = 0};
    const struct growth good = growth_of(&h, 12, 37), elsewhere = growth_of(&h, 11, 37), first = growth_of(&h, 0, 37);
    assert_int_equal(growth_judge(&held, &head, &good), VERDICT_GROWN);
    assert_int_equal(growth_judge(&held, &head, &elsewhere), VERDICT_OTHER);
    assert_int_equal(growth_judge(&held, &head, &first), VERDICT_OTHER);
    assert_int_equal(growth_judge(NULL, &head, &first), VERDICT_GROWN);
    assert_int_equal(growth_judge(&none, &head, &first), VERDICT_GROWN);
    assert_int_equal(growth_judge(NULL, &head, &good), VERDICT_OTHER);
    for (int i = 0; i < good.n; i++) {
        struct growth bent = good;
        bent.path[i].b[i] ^= 1;
        assert_int_equal(growth_judge(&held, &head, &bent), VERDICT_FALSE);
    }
    struct growth shorter = good, lies = good;
    shorter.n--;
    assert_int_equal(growth_judge(&held, &head, &shorter), VERDICT_FALSE);
    lies.root = head_of(&other, 12).root; // a root that the head does not begin with makes nobody a forger
    assert_int_equal(growth_judge(&held, &head, &lies), VERDICT_FALSE);
}

static void test_json(void **state) {
    struct history h;
    struct growth again;
    struct err e;
    (void)state;
    history_make(&h, MOST);
    const struct growth g = growth_of(&h, 12, 37);
    json_t *o = growth_json(&g);
    assert_int_equal(growth_read(o, &again, &e), 0);
    assert_int_equal(again.n, g.n);
    assert_memory_equal(again.path, g.path, (size_t)g.n * sizeof *g.path);
    assert_memory_equal(again.root.b, g.root.b, MERKLE_HASH);
    static const char *const members[] = {"size", "root", "proof"};
    for (int i = 0; i < 3; i++) {
        json_t *less = json_copy(o);
        json_object_del(less, members[i]);
        assert_int_equal(growth_read(less, &again, &e), -1);
        json_decref(less);
    }
    json_t *proof = json_object_get(o, "proof");
    while (json_array_size(proof) <= MERKLE_LEVELS) json_array_append(proof, json_array_get(proof, 0));
    assert_int_equal(growth_read(o, &again, &e), -1);
    json_decref(o);
    assert_int_equal(growth_read(NULL, &again, &e), -1);
}

static void sign(EVP_PKEY *key, const struct checkpoint *c, char note[NOTE_BYTES], size_t *n) {
    struct err e;
    assert_int_equal(checkpoint_write(c, key, note, n, &e), 0);
}

// The proof names the log, and nobody can make one for a log that has only grown.
static void test_fork(void **state) {
    struct history h, other;
    struct err e;
    struct verified v;
    uint64_t parted = 0;
    char held[NOTE_BYTES], head[NOTE_BYTES], honest[NOTE_BYTES];
    (void)state;
    EVP_PKEY *key = key_new(&e);
    struct note_key k = {.name = "home/0123/1-ab"};
    assert_int_equal(key_public(key, k.public), 0);
    history_make(&h, MOST);
    history_make(&other, 5);
    const struct checkpoint a = head_of(&h, 12), b = head_of(&other, 37), c = head_of(&h, 37);
    const struct growth g = growth_of(&other, 12, 37), grown = growth_of(&h, 12, 37);
    struct fork f = {.held = held, .head = head, .growth = &g, .key = &k};
    size_t honest_len;
    sign(key, &a, held, &f.held_len);
    sign(key, &b, head, &f.head_len);
    sign(key, &c, honest, &honest_len);
    json_t *o = fork_json(&f);
    assert_int_equal(fork_verify(o, NULL, &v, &parted, &e), 0);
    assert_string_equal(v.key.name, k.name);
    assert_int_equal(parted, 12);
    const uint8_t root[KEY_PUBLIC] = {1};
    assert_int_equal(fork_verify(o, root, &v, &parted, &e), -1); // nobody vouches for the key
    json_decref(o);
    f.head = honest;
    f.head_len = honest_len;
    for (int i = 0; i < 2; i++) {
        f.growth = i ? &grown : &g;
        o = fork_json(&f);
        assert_int_equal(fork_verify(o, NULL, &v, &parted, &e), -1);
        json_decref(o);
    }
    EVP_PKEY_free(key);
}

// That it has grown is proven just where it has, and a proof of one thing is none of the other.
static void test_growth_proof(void **state) {
    struct history h, other;
    struct err e;
    struct verified v;
    uint64_t from = 0;
    char held[NOTE_BYTES], head[NOTE_BYTES], nothing[NOTE_BYTES];
    (void)state;
    EVP_PKEY *key = key_new(&e);
    struct note_key k = {.name = "home/0123/1-ab"};
    assert_int_equal(key_public(key, k.public), 0);
    history_make(&h, MOST);
    history_make(&other, 5);
    const struct checkpoint a = head_of(&h, 12), b = head_of(&h, 37), c = head_of(&other, 37), empty = head_of(&h, 0);
    const struct growth g = growth_of(&h, 12, 37), parted = growth_of(&other, 12, 37), of_nothing = {.size = 0};
    struct fork f = {.held = held, .head = head, .growth = &g, .key = &k};
    sign(key, &a, held, &f.held_len);
    sign(key, &b, head, &f.head_len);
    json_t *o = growth_proof(&f);
    assert_int_equal(growth_verify(o, NULL, &v, &from, &e), 0);
    assert_int_equal(from, 12);
    assert_int_equal(v.records, 37);
    assert_int_equal(fork_verify(o, NULL, &v, &from, &e), -1);
    const uint8_t root[KEY_PUBLIC] = {1};
    assert_int_equal(growth_verify(o, root, &v, &from, &e), -1); // nobody vouches for the key
    json_decref(o);
    f.growth = &parted; // a fork's
    sign(key, &c, head, &f.head_len);
    o = growth_proof(&f);
    assert_int_equal(growth_verify(o, NULL, &v, &from, &e), -1);
    json_decref(o);
    f.growth = &of_nothing; // all logs begin with nothing: that says nothing
    f.held = nothing;
    sign(key, &empty, nothing, &f.held_len);
    o = growth_proof(&f);
    assert_int_equal(growth_verify(o, NULL, &v, &from, &e), -1);
    json_decref(o);
    EVP_PKEY_free(key);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_root_at),     cmocka_unit_test(test_every_history),
                                       cmocka_unit_test(test_bent_proofs), cmocka_unit_test(test_json),
                                       cmocka_unit_test(test_fork),        cmocka_unit_test(test_growth_proof)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

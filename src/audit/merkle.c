#include "audit/merkle.h"

#include <assert.h>
#include <string.h>

static struct hash node_of(EVP_MD_CTX *sha, const struct hash *left, const struct hash *right) {
    uint8_t data[1 + 2 * MERKLE_HASH] = {1};
    struct hash out = {{0}};
    memcpy(data + 1, left->b, MERKLE_HASH);
    memcpy(data + 1 + MERKLE_HASH, right->b, MERKLE_HASH);
    if (!sha)
        digest_of(data, sizeof data, out.b);
    else if (EVP_DigestInit_ex2(sha, NULL, NULL) != 1 || EVP_DigestUpdate(sha, data, sizeof data) != 1 ||
             EVP_DigestFinal_ex(sha, out.b, NULL) != 1)
        assert(!"SHA-256 does not work");
    return out;
}

int merkle_init(struct merkle *m, struct err *e) {
    *m = (struct merkle){.sha = EVP_MD_CTX_new()};
    if (m->sha && EVP_DigestInit_ex2(m->sha, EVP_sha256(), NULL) == 1) return 0;
    merkle_close(m);
    return err_set(e, ERR_INTERNAL, "out of memory for a hash tree");
}

void merkle_close(struct merkle *m) {
    EVP_MD_CTX_free(m->sha);
    m->sha = NULL;
}

struct hash merkle_leaf(struct merkle *m, uint8_t type, const void *data, size_t n) {
    const uint8_t head[2] = {0, type};
    struct hash out = {{0}};
    if (EVP_DigestInit_ex2(m->sha, NULL, NULL) != 1 || EVP_DigestUpdate(m->sha, head, sizeof head) != 1 ||
        EVP_DigestUpdate(m->sha, data, n) != 1 || EVP_DigestFinal_ex(m->sha, out.b, NULL) != 1)
        assert(!"SHA-256 does not work");
    return out;
}

void merkle_add(struct merkle *m, const struct hash *leaf, struct hash *done, int *n) {
    int level = 0;
    done[0] = *leaf;
    for (; m->size >> level & 1; level++) done[level + 1] = node_of(m->sha, &m->peaks[level], &done[level]);
    m->peaks[level] = done[level];
    *n = level + 1;
    m->size++;
}

struct hash merkle_root(struct merkle *m) {
    struct hash out = {{0}};
    bool any = false;
    if (!m->size) digest_of("", 0, out.b);
    for (int level = 0; level < MERKLE_LEVELS; level++) {
        if (!(m->size >> level & 1)) continue;
        out = any ? node_of(m->sha, &m->peaks[level], &out) : m->peaks[level];
        any = true;
    }
    return out;
}

// ---------------------------------------------------------------- places
// Before leaf i stand i leaves and the i - popcount(i) inner nodes that they have completed.
static uint64_t before(uint64_t leaves) { return 2 * leaves - (uint64_t)__builtin_popcountll(leaves); }

uint64_t merkle_place(int level, uint64_t index) { return before(((index + 1) << level) - 1) + (uint64_t)level; }
uint64_t merkle_kept(uint64_t size) { return before(size); }

// ---------------------------------------------------------------- proofs
struct proof {
    merkle_node *node;
    void *arg;
    struct hash *path;
    int n;
    struct err *e;
};

static int log2_of(uint64_t n) { return 63 - __builtin_clzll(n); } // rounded down; n > 0

// The largest power of two below n; n > 1.
static uint64_t split_of(uint64_t n) { return 1ull << log2_of(n - 1); }

// The root of leaves [first, first + n), where first is a multiple of the powers of two in n.
static int range_root(struct proof *p, uint64_t first, uint64_t n, struct hash *out) {
    int level = log2_of(n);
    if (n == 1ull << level) return p->node(p->arg, level, first >> level, out, p->e);
    struct hash left, right;
    uint64_t k = split_of(n);
    if (range_root(p, first, k, &left) || range_root(p, first + k, n - k, &right)) return -1;
    *out = node_of(NULL, &left, &right);
    return 0;
}

int merkle_root_at(merkle_node *node, void *arg, uint64_t size, struct hash *out, struct err *e) {
    struct proof p = {.node = node, .arg = arg, .e = e};
    if (size) return range_root(&p, 0, size, out);
    digest_of("", 0, out->b);
    return 0;
}

static int put(struct proof *p, uint64_t first, uint64_t n) {
    assert(p->n < MERKLE_LEVELS);
    return range_root(p, first, n, &p->path[p->n++]);
}

static int inclusion(struct proof *p, uint64_t index, uint64_t first, uint64_t n) {
    if (n == 1) return 0;
    uint64_t k = split_of(n);
    if (index < k) return inclusion(p, index, first, k) || put(p, first + k, n - k) ? -1 : 0;
    return inclusion(p, index - k, first + k, n - k) || put(p, first, k) ? -1 : 0;
}

int merkle_inclusion(merkle_node *node, void *arg, uint64_t index, uint64_t size, struct hash path[MERKLE_LEVELS],
                     int *n, struct err *e) {
    struct proof p = {.node = node, .arg = arg, .path = path, .e = e};
    assert(index < size);
    int rc = inclusion(&p, index, 0, size);
    *n = p.n;
    return rc;
}

// `whole`: the old tree's root is known to whoever checks, as it is that of these leaves.
static int consistency(struct proof *p, uint64_t old, uint64_t first, uint64_t n, bool whole) {
    if (old == n) return whole ? 0 : put(p, first, n);
    uint64_t k = split_of(n);
    if (old <= k) return consistency(p, old, first, k, whole) || put(p, first + k, n - k) ? -1 : 0;
    return consistency(p, old - k, first + k, n - k, false) || put(p, first, k) ? -1 : 0;
}

int merkle_consistency(merkle_node *node, void *arg, uint64_t old, uint64_t size, struct hash path[MERKLE_LEVELS],
                       int *n, struct err *e) {
    struct proof p = {.node = node, .arg = arg, .path = path, .e = e};
    assert(old && old <= size);
    int rc = consistency(&p, old, 0, size, true);
    *n = p.n;
    return rc;
}

static bool same(const struct hash *a, const struct hash *b) { return !memcmp(a->b, b->b, MERKLE_HASH); }

bool merkle_included(const struct hash *leaf, uint64_t index, uint64_t size, const struct hash *path, int n,
                     const struct hash *root) {
    if (index >= size) return false;
    uint64_t fn = index, sn = size - 1;
    struct hash r = *leaf;
    for (int i = 0; i < n; i++) {
        if (!sn) return false;
        if (fn & 1 || fn == sn) {
            r = node_of(NULL, &path[i], &r);
            for (; !(fn & 1) && fn; fn >>= 1) sn >>= 1;
        } else
            r = node_of(NULL, &r, &path[i]);
        fn >>= 1;
        sn >>= 1;
    }
    return !sn && same(&r, root);
}

bool merkle_consistent(uint64_t old, const struct hash *old_root, uint64_t size, const struct hash *root,
                       const struct hash *path, int n) {
    if (!old || old > size) return false;
    if (old == size) return !n && same(old_root, root);
    bool power = !(old & (old - 1)); // then the old root is the first hash of the proof, and not in it
    if (!power && n < 1) return false;
    struct hash fr = power ? *old_root : path[0], sr = fr;
    uint64_t fn = old - 1, sn = size - 1;
    for (; fn & 1; fn >>= 1) sn >>= 1;
    for (int i = power ? 0 : 1; i < n; i++) {
        if (!sn) return false;
        if (fn & 1 || fn == sn) {
            fr = node_of(NULL, &path[i], &fr);
            sr = node_of(NULL, &path[i], &sr);
            for (; !(fn & 1) && fn; fn >>= 1) sn >>= 1;
        } else
            sr = node_of(NULL, &sr, &path[i]);
        fn >>= 1;
        sn >>= 1;
    }
    return !sn && same(&fr, old_root) && same(&sr, root);
}

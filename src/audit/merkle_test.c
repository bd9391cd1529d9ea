#include "audit/crc32c.h"
#include "audit/merkle.h"
#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

// The leaves and roots of the reference implementation's tests (google/certificate-transparency, merkle_tree_test.cc).
static const char *const inputs[] = {
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"};
static const char *const roots[] = {"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                                    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
                                    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
                                    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                                    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
                                    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
                                    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
                                    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};

static struct hash plain_leaf(const void *data, size_t n) { // of a leaf without a type
    uint8_t bytes[64] = {0};
    struct hash out;
    assert_true(n < sizeof bytes);
    memcpy(bytes + 1, data, n);
    digest_of(bytes, n + 1, out.b);
    return out;
}

static void test_vectors(void **state) {
    struct merkle m;
    struct err e;
    (void)state;
    assert_int_equal(merkle_init(&m, &e), 0);
    for (size_t i = 0; i < 8; i++) {
        uint8_t data[16];
        char hex[65];
        struct hash done[MERKLE_LEVELS];
        int n;
        size_t len = strlen(inputs[i]) / 2;
        assert_int_equal(hex_decode(inputs[i], data, len), 0);
        struct hash leaf = plain_leaf(data, len);
        merkle_add(&m, &leaf, done, &n);
        struct hash root = merkle_root(&m);
        hex_encode(root.b, sizeof root.b, hex);
        assert_string_equal(hex, roots[i]);
    }
    merkle_close(&m);
}

static void test_no_leaves(void **state) {
    struct merkle m;
    struct err e;
    char hex[65];
    (void)state;
    assert_int_equal(merkle_init(&m, &e), 0);
    struct hash root = merkle_root(&m);
    hex_encode(root.b, sizeof root.b, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    merkle_close(&m);
}

// RFC 6962, 2.1, as it stands there.
enum { MOST = 70 };
static struct hash leaves[MOST];

static struct hash naive_root(size_t first, size_t n) {
    uint8_t data[65] = {1};
    struct hash out;
    if (n == 1) return leaves[first];
    size_t k = 1;
    while (2 * k < n) k *= 2;
    struct hash left = naive_root(first, k), right = naive_root(first + k, n - k);
    memcpy(data + 1, left.b, 32);
    memcpy(data + 33, right.b, 32);
    digest_of(data, sizeof data, out.b);
    return out;
}

static struct hash kept[2 * MOST];

static int read_kept(void *arg, int level, uint64_t index, struct hash *out, struct err *e) {
    const uint64_t *size = arg;
    (void)e;
    uint64_t place = merkle_place(level, index);
    assert_true(place < merkle_kept(*size));
    *out = kept[place];
    return 0;
}

static void check_inclusion(uint64_t index, uint64_t size, const struct hash *root) {
    struct hash path[MERKLE_LEVELS];
    struct err e;
    int n;
    assert_int_equal(merkle_inclusion(read_kept, &size, index, size, path, &n, &e), 0);
    assert_true(merkle_included(&leaves[index], index, size, path, n, root));
    assert_false(merkle_included(&leaves[index], index, size, path, n, &leaves[index]) && size > 1);
    assert_false(merkle_included(&leaves[(index + 1) % MOST], index, size, path, n, root));
    assert_false(merkle_included(&leaves[index], size, size, path, n, root));
    assert_false(n && merkle_included(&leaves[index], index, size, path, n - 1, root));
    assert_false(size > 1 && merkle_included(&leaves[index], (index + 1) % size, size, path, n, root));
    if (!n) return;
    path[n / 2].b[7] ^= 1;
    assert_false(merkle_included(&leaves[index], index, size, path, n, root));
}

static void check_consistency(uint64_t old, uint64_t size, const struct hash *root) {
    struct hash path[MERKLE_LEVELS + 1], old_root = naive_root(0, old), other = old_root;
    struct err e;
    int n;
    assert_int_equal(merkle_consistency(read_kept, &size, old, size, path, &n, &e), 0);
    assert_true(merkle_consistent(old, &old_root, size, root, path, n));
    other.b[0] ^= 1;
    assert_false(merkle_consistent(old, &other, size, root, path, n));
    assert_false(merkle_consistent(size + 1, &old_root, size, root, path, n));
    path[n] = other;
    assert_false(merkle_consistent(old, &old_root, size, root, path, n + 1));
    assert_false(n && merkle_consistent(old, &old_root, size, root, path, n - 1));
    if (!n) return;
    path[n - 1].b[31] ^= 128;
    assert_false(merkle_consistent(old, &old_root, size, root, path, n));
}

static void test_against_the_definition(void **state) {
    struct merkle m;
    struct err e;
    (void)state;
    assert_int_equal(merkle_init(&m, &e), 0);
    for (uint8_t i = 0; i < MOST; i++) leaves[i] = merkle_leaf(&m, 1, &i, 1);
    for (uint64_t size = 1; size <= MOST; size++) {
        struct hash done[MERKLE_LEVELS];
        int n;
        uint64_t at = merkle_kept(size - 1);
        merkle_add(&m, &leaves[size - 1], done, &n);
        assert_int_equal(merkle_kept(size), at + (uint64_t)n);
        memcpy(kept + at, done, (size_t)n * sizeof *done);
        struct hash root = merkle_root(&m), naive = naive_root(0, size);
        assert_memory_equal(&root, &naive, sizeof root);
        for (uint64_t i = 0; i < size; i++) check_inclusion(i, size, &root);
        for (uint64_t old = 1; old <= size; old++) check_consistency(old, size, &root);
    }
    merkle_close(&m);
}

// A leaf is no inner node, and its type counts.
static void test_leaf(void **state) {
    struct merkle m;
    struct err e;
    (void)state;
    assert_int_equal(merkle_init(&m, &e), 0);
    struct hash a = merkle_leaf(&m, 3, "{}", 2), b = plain_leaf("\3{}", 3), c = merkle_leaf(&m, 4, "{}", 2);
    assert_memory_equal(&a, &b, sizeof a);
    assert_memory_not_equal(&a, &c, sizeof a);
    merkle_close(&m);
}

// RFC 3720, B.4, and the usual check value.
static void test_crc32c(void **state) {
    uint8_t data[32];
    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    memset(data, 0, sizeof data);
    assert_int_equal(crc32c(0, data, sizeof data), 0x8a9136aa);
    memset(data, 0xff, sizeof data);
    assert_int_equal(crc32c(0, data, sizeof data), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++) data[i] = i;
    assert_int_equal(crc32c(0, data, sizeof data), 0x46dd794e);
    for (size_t cut = 0; cut <= 32; cut++)
        assert_int_equal(crc32c(crc32c(0, data, cut), data + cut, 32 - cut), 0x46dd794e);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors), cmocka_unit_test(test_no_leaves),
                                       cmocka_unit_test(test_against_the_definition), cmocka_unit_test(test_leaf),
                                       cmocka_unit_test(test_crc32c)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// The Merkle tree of RFC 6962, section 2: SHA-256, leaves hashed as 0x00 || data, inner nodes as 0x01 || left || right.
// Complete subtrees are kept in the order in which they are completed, each leaf before its parent, so that any of them
// is found by its place: merkle_place. Threads: one at a time per struct merkle; the rest any.
#pragma once

#include "trust/keys.h"

enum { MERKLE_HASH = DIGEST_BYTES, MERKLE_LEVELS = 64 };

struct hash {
    uint8_t b[MERKLE_HASH];
};

struct merkle {
    EVP_MD_CTX *sha;                  // owned
    uint64_t size;                    // leaves
    struct hash peaks[MERKLE_LEVELS]; // of complete subtrees, by level; those of the bits set in size
};

int merkle_init(struct merkle *m, struct err *e) MUST_USE; // an empty tree
void merkle_close(struct merkle *m);                       // fine for a zeroed one

// Of a leaf whose data is the byte `type` and data[0..n).
struct hash merkle_leaf(struct merkle *m, uint8_t type, const void *data, size_t n);
// Adds one leaf; done[0..*n) are the subtrees that it completes, itself first (room for MERKLE_LEVELS).
void merkle_add(struct merkle *m, const struct hash *leaf, struct hash *done, int *n);
struct hash merkle_root(struct merkle *m); // of no leaves: the hash of nothing

// Where the complete subtree of 2^level leaves from index * 2^level on is kept, counted in hashes.
uint64_t merkle_place(int level, uint64_t index);
uint64_t merkle_kept(uint64_t size); // how many hashes are kept for a tree of that size

// Reads a complete subtree's hash: 0, or -1 with *e.
typedef int merkle_node(void *arg, int level, uint64_t index, struct hash *out, struct err *e);

// The proof that leaf `index` is in the tree of `size` leaves (RFC 6962, 2.1.1); index < size.
int merkle_inclusion(merkle_node *node, void *arg, uint64_t index, uint64_t size, struct hash path[MERKLE_LEVELS],
                     int *n, struct err *e) MUST_USE;
// The proof that the tree of `size` leaves begins with that of `old` (2.1.2); 0 < old <= size.
int merkle_consistency(merkle_node *node, void *arg, uint64_t old, uint64_t size, struct hash path[MERKLE_LEVELS],
                       int *n, struct err *e) MUST_USE;

// The root of the first `size` leaves.
int merkle_root_at(merkle_node *node, void *arg, uint64_t size, struct hash *out, struct err *e) MUST_USE;

// What follows from a proof (RFC 9162, 2.1.3.2 and 2.1.4.2); any input is fine.
bool merkle_included(const struct hash *leaf, uint64_t index, uint64_t size, const struct hash *path, int n,
                     const struct hash *root);
bool merkle_consistent(uint64_t old, const struct hash *old_root, uint64_t size, const struct hash *root,
                       const struct hash *path, int n);

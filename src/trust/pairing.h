// How an unknown node joins a cluster: the token that a person carries over, and the proofs that both sides know its
// secret, over a TLS connection on which neither knows the other's key yet. A proof is an HMAC under the secret of who
// speaks, of the connection's exporter (so that it is worth nothing on another connection, or with somebody in
// between), of both pins and of what is said. Pure functions. Threads: any.
//
//     joiner                                       inviter
//     {"t":"pair","v":1,"invitation":ID}   ->                    an ID says nothing about the secret
//                                          <-      {"t":"root","root","proof"}         or {"t":"refused",..}
//     (root's fingerprint = token's)
//     {"t":"join","node":{..},"proof"}     ->                    3 wrong ones burn the invitation
//                                          <-      {"t":"roster","roster":{body,sig}}  or {"t":"refused",..}
//     {"t":"stored"}                       ->
#pragma once

#include "trust/roster.h"

enum {
    PAIRING_SECRET = 16,
    PAIRING_ID = 33, // of an invitation: 32 hexadecimal digits
    PAIRING_ADDRESSES = 8,
    PAIRING_TOKEN = 4096, // bytes of a token, with the NUL
    PAIRING_PROOF = 32,
    PAIRING_EXPORTER = 32,
};

struct pairing_token {
    uint8_t root[DIGEST_BYTES]; // SHA-256 of the root's public key
    uint8_t secret[PAIRING_SECRET];
    char addresses[PAIRING_ADDRESSES][ROSTER_ADDRESS]; // of the inviter, HOST:PORT; at least one
    size_t n;
};

// "neb1-" and base64url of: version 1 | root | secret | n | n times (length | address). ERR_LIMIT where it gets too
// long.
int pairing_encode(const struct pairing_token *t, char out[PAIRING_TOKEN], struct err *e) MUST_USE;
int pairing_decode(const char *text, struct pairing_token *t, struct err *e) MUST_USE; // the secret is never quoted

void pairing_id(const uint8_t secret[PAIRING_SECRET], char out[PAIRING_ID]);

// What a proof is about.
struct pairing_link {
    uint8_t exporter[PAIRING_EXPORTER];
    uint8_t inviter[IDENTITY_PIN], joiner[IDENTITY_PIN];
};
void pairing_prove_root(const uint8_t secret[PAIRING_SECRET], const struct pairing_link *l,
                        const uint8_t root[KEY_PUBLIC], uint8_t out[PAIRING_PROOF]);
void pairing_prove_node(const uint8_t secret[PAIRING_SECRET], const struct pairing_link *l,
                        const struct roster_node *node, uint8_t out[PAIRING_PROOF]);
bool pairing_same(const uint8_t a[PAIRING_PROOF], const uint8_t b[PAIRING_PROOF]); // in constant time

// The roster: the list of a cluster's nodes, signed by the cluster's root. It travels and is kept as a document
// {"body": TEXT, "sig": HEX}: the signature is over the bytes of TEXT, which is canonical JSON (members sorted, no
// blanks)
//     {v, cluster, root, epoch, prev, nodes[{id,name,pin,audit,role,labels[],address}], revoked[{id,pin,when}], policy}
// and nothing else: an unknown, missing or duplicate member refuses the whole. Epochs begin at 1 and only grow; prev is
// the digest of the roster of the epoch before; policy is null, or the digest of the policy (trust/policy.h), whose
// text then stands beside the body, {"body", "policy": TEXT, "sig"}: whoever has the roster has the policy, and no
// other. Pure functions. Threads: any.
#pragma once

#include "trust/identity.h"
#include "trust/policy.h"
#include <jansson.h>

enum {
    ROSTER_NODES = 64,
    ROSTER_REVOKED = 256,
    ROSTER_LABELS = 16,
    ROSTER_NAME = 64,     // bytes of a cluster's or node's name or a label, with the NUL
    ROSTER_ROLE = 8,      // "auto", "prime" or "edge"
    ROSTER_ADDRESS = 280, // HOST:PORT, with the NUL; "" = not known
    ROSTER_BYTES = 256 << 10,
};

struct roster_node {
    char id[IDENTITY_ID], name[ROSTER_NAME], role[ROSTER_ROLE], address[ROSTER_ADDRESS];
    uint8_t pin[IDENTITY_PIN], audit[KEY_PUBLIC];
    char labels[ROSTER_LABELS][ROSTER_NAME];
    size_t n_labels;
};

struct roster_revoked {
    char id[IDENTITY_ID];
    uint8_t pin[IDENTITY_PIN];
    int64_t when; // seconds since 1970
};

struct roster {
    char cluster[ROSTER_NAME];
    uint8_t root[KEY_PUBLIC]; // public half of the key that signs
    int64_t epoch;
    uint8_t prev[DIGEST_BYTES]; // zeros in epoch 1
    struct roster_node nodes[ROSTER_NODES];
    struct roster_revoked revoked[ROSTER_REVOKED]; // oldest first
    size_t n_nodes, n_revoked;
    struct policy *policy; // owned; NULL: none
    // of the signed document
    char *body; // owned
    size_t body_len;
    uint8_t signature[KEY_SIGNATURE];
    uint8_t digest[DIGEST_BYTES]; // SHA-256 of the body
};

// Reads a document and verifies its signature by `root`, or - where root is NULL - by the key that it names itself.
struct roster *roster_read(const json_t *document, const uint8_t root[KEY_PUBLIC], struct err *e) MUST_USE;
void roster_free(struct roster *r);              // NULL is fine
json_t *roster_document(const struct roster *r); // new reference; NULL when out of memory

// Writes the body of what the fields say (checked as when read) and signs it; r->root becomes the key's.
int roster_sign(struct roster *r, EVP_PKEY *root, struct err *e) MUST_USE;

// A copy to make the next epoch from: epoch + 1, prev set, without body and signature.
struct roster *roster_next(const struct roster *r, struct err *e) MUST_USE;

// What to do with another roster of the same root.
enum roster_order {
    ROSTER_SAME,
    ROSTER_NEWER, // take it
    ROSTER_OLDER, // ours is newer
    ROSTER_FORK,  // the root has signed two histories: alarm
};
enum roster_order roster_order(const struct roster *have, const struct roster *other);

const struct roster_node *roster_find(const struct roster *r, const char *id_or_name); // ids first; NULL: none
const struct roster_node *roster_of_pin(const struct roster *r, const uint8_t pin[IDENTITY_PIN]);
bool roster_is_revoked(const struct roster *r, const uint8_t pin[IDENTITY_PIN]);

// Changes for a next epoch. A node with that pin is replaced. ERR_INVALID (param "name") where another has the
// name, ERR_DENIED where the
// key was revoked, ERR_LIMIT.
int roster_add(struct roster *r, const struct roster_node *node, struct err *e) MUST_USE;
void roster_drop(struct roster *r, const char *id);
void roster_revoke(struct roster *r, const char *id, int64_t when); // drops it, and the oldest revocation where full

// One node as it stands in the body, {id,name,pin,audit,role,labels,address}, by itself.
json_t *roster_node_json(const struct roster_node *n); // new reference; NULL when out of memory
int roster_node_read(const json_t *o, struct roster_node *n, struct err *e) MUST_USE;

// Whether a name is fit for a cluster, node or label: 1..63 bytes of [A-Za-z0-9._-], not beginning with '.' or '-'.
bool roster_is_name(const char *name);
bool roster_is_role(const char *role);       // "auto", "prime" or "edge"
bool roster_is_address(const char *address); // "" or HOST:PORT without blanks and control characters

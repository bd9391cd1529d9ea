#include "trust/roster.h"
#include "base/bytes.h"
#include "base/json.h"
#include "base/text.h"
#include "trust/roster_fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool roster_is_name(const char *name) { return text_is_name(name) && strlen(name) < ROSTER_NAME; }

bool roster_is_address(const char *address) {
    const char *port = strrchr(address, ':');
    long number;
    if (!*address) return true;
    if (!port || port == address || strlen(address) >= ROSTER_ADDRESS || text_parse_long(port + 1, 1, 65535, &number))
        return false;
    for (const char *p = address; p < port; p++)
        if (*p <= ' ' || *p >= 0x7f || *p == ',' || *p == '"' || *p == '\\') return false;
    return true;
}

static struct roster *out_of_memory(struct err *e) {
    err_set(e, ERR_INTERNAL, "out of memory");
    return NULL;
}

void roster_free(struct roster *r) {
    if (!r) return;
    policy_free(r->policy);
    free(r->body);
    free(r);
}

// ---------------------------------------------------------------- documents
json_t *roster_document(const struct roster *r) {
    char signature[2 * KEY_SIGNATURE + 1];
    size_t n = 0;
    const char *policy = r->policy ? policy_text(r->policy, &n) : NULL;
    hex_encode(r->signature, sizeof r->signature, signature);
    return json_pack("{s:s, s:s, s:s*}", "body", r->body, "sig", signature, "policy", policy);
}

static int take_body(struct roster *r, const char *text, size_t n, struct err *e) {
    if (n > ROSTER_BYTES) return err_set(e, ERR_LIMIT, "a roster is longer than %d bytes", ROSTER_BYTES);
    if (!(r->body = malloc(n + 1))) return err_set(e, ERR_INTERNAL, "out of memory");
    memcpy(r->body, text, n);
    r->body[n] = 0;
    r->body_len = n;
    digest_of(r->body, n, r->digest);
    return 0;
}

// Its digest is compared when the body is read.
static int take_policy(struct roster *r, const json_t *policy, struct err *e) {
    if (!policy) return 0;
    r->policy = policy_read(json_string_value(policy), json_string_length(policy), e);
    return r->policy ? 0 : -1;
}

static int read_document(struct roster *r, const json_t *document, const uint8_t *root, struct err *e) {
    const json_t *body = json_object_get(document, "body"), *policy = json_object_get(document, "policy");
    const char *text = json_string_value(body), *signature = json_string_value(json_object_get(document, "sig"));
    if (json_object_size(document) != (policy ? 3 : 2) || !text || (policy && !json_is_string(policy)) ||
        hex_decode(signature, r->signature, sizeof r->signature))
        return err_set(e, ERR_INVALID, "a roster document is {\"body\", \"sig\"}, and \"policy\" where it has one");
    if (take_body(r, text, json_string_length(body), e)) return -1;
    // What the pinned root has not signed is not looked at any further.
    if (root && !key_verify(root, r->body, r->body_len, r->signature))
        return err_set(e, ERR_DENIED, "the roster is not signed by this cluster's root");
    if (take_policy(r, policy, e) || roster_read_body(r, r->body, r->body_len, e)) return -1;
    if (root && memcmp(r->root, root, KEY_PUBLIC) != 0)
        return err_set(e, ERR_DENIED, "the roster names another root than the one that has signed it");
    if (!root && !key_verify(r->root, r->body, r->body_len, r->signature))
        return err_set(e, ERR_DENIED, "the roster is not signed by the root that it names");
    return 0;
}

struct roster *roster_read(const json_t *document, const uint8_t root[KEY_PUBLIC], struct err *e) {
    struct roster *r = calloc(1, sizeof *r);
    if (!r) return out_of_memory(e);
    if (!read_document(r, document, root, e)) return r;
    roster_free(r);
    return NULL;
}

int roster_sign(struct roster *r, EVP_PKEY *root, struct err *e) {
    int rc = -1;
    struct roster *check = calloc(1, sizeof *check);
    char *text = NULL;
    if (check) check->policy = r->policy; // borrowed
    if (!check || key_public(root, r->root) || !(text = roster_write_body(r)))
        err_set(e, ERR_INTERNAL, "cannot write the roster: out of memory, or the key is of another kind than Ed25519");
    else if (!roster_read_body(check, text, strlen(text), e)) { // nothing is signed that others would refuse
        free(r->body);
        r->body = NULL;
        rc = take_body(r, text, strlen(text), e) || key_sign(root, r->body, r->body_len, r->signature, e) ? -1 : 0;
    }
    free(text);
    if (check) check->policy = NULL;
    roster_free(check);
    return rc;
}

struct roster *roster_next(const struct roster *r, struct err *e) {
    struct roster *next = malloc(sizeof *next);
    if (!next) return out_of_memory(e);
    *next = *r;
    next->epoch++;
    memcpy(next->prev, r->digest, sizeof next->prev);
    next->body = NULL;
    next->body_len = 0;
    if (!r->policy || (next->policy = policy_copy(r->policy, e))) return next;
    roster_free(next);
    return NULL;
}

enum roster_order roster_order(const struct roster *have, const struct roster *other) {
    if (other->epoch < have->epoch) return ROSTER_OLDER;
    if (other->epoch == have->epoch)
        return memcmp(have->digest, other->digest, DIGEST_BYTES) ? ROSTER_FORK : ROSTER_SAME;
    bool next = other->epoch == have->epoch + 1;
    return next && memcmp(other->prev, have->digest, DIGEST_BYTES) != 0 ? ROSTER_FORK : ROSTER_NEWER;
}

// ---------------------------------------------------------------- nodes
static size_t index_of(const struct roster *r, const char *id) {
    size_t i = 0;
    while (i < r->n_nodes && strcmp(r->nodes[i].id, id) != 0) i++;
    return i;
}

const struct roster_node *roster_find(const struct roster *r, const char *id_or_name) {
    size_t i = index_of(r, id_or_name);
    if (i < r->n_nodes) return &r->nodes[i];
    for (i = 0; i < r->n_nodes; i++)
        if (!strcmp(r->nodes[i].name, id_or_name)) return &r->nodes[i];
    return NULL;
}

const struct roster_node *roster_of_pin(const struct roster *r, const uint8_t pin[IDENTITY_PIN]) {
    for (size_t i = 0; i < r->n_nodes; i++)
        if (!memcmp(r->nodes[i].pin, pin, IDENTITY_PIN)) return &r->nodes[i];
    return NULL;
}

bool roster_is_revoked(const struct roster *r, const uint8_t pin[IDENTITY_PIN]) {
    for (size_t i = 0; i < r->n_revoked; i++)
        if (!memcmp(r->revoked[i].pin, pin, IDENTITY_PIN)) return true;
    return false;
}

int roster_add(struct roster *r, const struct roster_node *node, struct err *e) {
    if (roster_is_revoked(r, node->pin))
        return err_set(e, ERR_DENIED,
                       "the key of node '%s' was revoked in cluster '%s': remove the folder `identity` of its state "
                       "directory, so that it makes another",
                       node->name, r->cluster);
    const struct roster_node *same = roster_find(r, node->name);
    size_t i = index_of(r, node->id);
    if (same && strcmp(same->id, node->id) != 0)
        return err_param(e, "name", "cluster '%s' has a node called '%s' already: join with another --name", r->cluster,
                         node->name);
    if (i == ROSTER_NODES) return err_set(e, ERR_LIMIT, "a cluster has at most %d nodes", ROSTER_NODES);
    if (i == r->n_nodes) r->n_nodes++;
    r->nodes[i] = *node;
    return 0;
}

void roster_drop(struct roster *r, const char *id) {
    size_t i = index_of(r, id);
    if (i == r->n_nodes) return;
    r->n_nodes--;
    memmove(&r->nodes[i], &r->nodes[i + 1], (r->n_nodes - i) * sizeof *r->nodes);
}

void roster_revoke(struct roster *r, const char *id, int64_t when) {
    size_t i = index_of(r, id);
    if (i == r->n_nodes) return;
    if (r->n_revoked == ROSTER_REVOKED) memmove(r->revoked, r->revoked + 1, --r->n_revoked * sizeof *r->revoked);
    struct roster_revoked *one = &r->revoked[r->n_revoked++];
    *one = (struct roster_revoked){.when = when};
    snprintf(one->id, sizeof one->id, "%s", id);
    memcpy(one->pin, r->nodes[i].pin, sizeof one->pin);
    roster_drop(r, one->id);
}

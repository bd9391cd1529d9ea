// trust/roster: a body that is accepted is the only way to write what it says, and holds within its bounds. The first
// byte chooses: a body that the root has signed (only the parser stands in its way), or a whole document.
#include "base/bytes.h"
#include "base/json.h"
#include "trust/roster.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static EVP_PKEY *root_key(void) {
    static EVP_PKEY *key;
    static const uint8_t seed[32] = {1, 2, 3}; // a key that is the same in every run
    if (!key) key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
    if (!key) abort();
    return key;
}

// The fuzzer cannot know the root: it writes "ROOT" where the root's key stands.
static json_t *sign_body(const char *text, size_t n) {
    uint8_t public[KEY_PUBLIC], signature[KEY_SIGNATURE];
    char root[2 * KEY_PUBLIC + 1], hex[2 * KEY_SIGNATURE + 1];
    struct err e;
    if (key_public(root_key(), public)) abort();
    hex_encode(public, sizeof public, root);
    char *body = malloc(n + sizeof root), *at = NULL;
    if (!body) abort();
    for (size_t i = 0; i + 4 <= n && !at; i++)
        if (!memcmp(text + i, "ROOT", 4)) {
            memcpy(body, text, i);
            memcpy(body + i, root, sizeof root - 1);
            memcpy(body + i + sizeof root - 1, text + i + 4, n - i - 4);
            at = body;
        }
    if (at)
        n += sizeof root - 5;
    else
        memcpy(body, text, n);
    if (key_sign(root_key(), body, n, signature, &e)) abort();
    hex_encode(signature, sizeof signature, hex);
    json_t *document = json_pack("{s:s%, s:s}", "body", body, n, "sig", hex); // NULL: no UTF-8
    free(body);
    return document;
}

static void check(const struct roster *r) {
    struct err e = {.code = ERR_NONE};
    if (r->epoch < 1 || r->n_nodes > ROSTER_NODES || r->n_revoked > ROSTER_REVOKED || !roster_is_name(r->cluster))
        abort();
    for (size_t i = 0; i < r->n_nodes; i++) {
        const struct roster_node *n = &r->nodes[i];
        if (!roster_is_name(n->name) || !roster_is_address(n->address) || n->n_labels > ROSTER_LABELS) abort();
        if (roster_find(r, n->id) != n || roster_find(r, n->name) != n || roster_of_pin(r, n->pin) != n) abort();
        if (roster_is_revoked(r, n->pin)) abort();
    }
    struct roster *copy = roster_next(r, &e); // what is read can be written, and comes out the same
    if (!copy) abort();
    copy->epoch--;
    memcpy(copy->prev, r->prev, sizeof copy->prev);
    if (roster_sign(copy, root_key(), &e)) abort();
    if (!memcmp(copy->root, r->root, KEY_PUBLIC) && roster_order(r, copy) != ROSTER_SAME) abort();
    roster_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct err e = {.code = ERR_NONE};
    if (!size) return 0;
    const char *text = (const char *)data + 1;
    uint8_t public[KEY_PUBLIC];
    if (key_public(root_key(), public)) abort();
    json_t *document = data[0] == 'S' ? sign_body(text, size - 1) : json_parse(text, size - 1, &e);
    if (!document) return 0;
    struct roster *r = roster_read(document, public, &e);
    if (!r && (e.code == ERR_NONE || !e.msg[0])) abort();
    if (r) check(r);
    roster_free(r);
    json_decref(document);
    return 0;
}

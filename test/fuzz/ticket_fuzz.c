// trust/ticket: a body that is accepted is the only way to write what it says, and holds within its bounds. The first
// byte chooses: S, a body that its gateway has signed (only the parser stands in its way), or a whole document.
#include "base/bytes.h"
#include "base/json.h"
#include "trust/ticket.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
    if (!holds) abort();
}

static EVP_PKEY *gateway_key(void) {
    static EVP_PKEY *key;
    static const uint8_t seed[32] = {1, 2, 3}; // a key that is the same in every run
    if (!key) key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
    must(key);
    return key;
}

static const struct roster *home(void) {
    static struct roster r = {.cluster = "home", .epoch = 7};
    if (r.n_nodes) return &r;
    struct roster_node n = {.name = "prime", .role = "auto"};
    memset(n.pin, 1, sizeof n.pin);
    identity_id_of(n.pin, n.id);
    must(!key_public(gateway_key(), n.audit) && !roster_add(&r, &n, NULL));
    return &r;
}

static json_t *sign_text(const char *text, size_t n) {
    static const char purpose[] = "nebulus-ticket-v1";
    uint8_t signature[KEY_SIGNATURE];
    char hex[2 * KEY_SIGNATURE + 1];
    struct err e;
    char *all = malloc(sizeof purpose + n);
    must(all);
    memcpy(all, purpose, sizeof purpose);
    memcpy(all + sizeof purpose, text, n);
    must(!key_sign(gateway_key(), all, sizeof purpose + n, signature, &e));
    hex_encode(signature, sizeof signature, hex);
    json_t *document = json_pack("{s:s%, s:s}", "body", text, n, "sig", hex); // NULL: no UTF-8
    free(all);
    return document;
}

static void check(struct ticket *t) {
    static const uint8_t policy[DIGEST_BYTES];
    struct ticket_view view = {.roster = home(), .policy = policy, .node = home()->nodes->id, .session = t->nonce};
    struct err e = {.code = ERR_NONE};
    enum ticket_fault why;
    must(t->who->n >= 1 && t->who->n <= POLICY_LINEAGE && t->who->labels.v && t->who->labels.n <= TICKET_NAMES);
    for (size_t i = 0; i < t->who->n; i++) must(t->who->lineage[i].id[0] && t->who->lineage[i].groups.v);
    must(t->expires > t->issued && t->expires <= t->issued + TICKET_LIFE_MS && t->tokens >= -1 && t->epoch >= 1);
    for (view.now_ms = 0; view.now_ms < INT64_MAX / 8; view.now_ms = 2 * view.now_ms + t->issued + 1)
        must(ticket_check(t, &view) < TICKET_FAULTS);
    if (t->issued >= 1ll << 52) return;                           // its times could not be written anew
    json_t *again = ticket_sign(t, gateway_key(), t->issued, &e); // what is read can be written
    struct ticket *other = ticket_read(again, home(), home()->nodes->id, &why);
    must(other && !strcmp(other->nonce, t->nonce) && other->tokens == t->tokens && other->who->n == t->who->n);
    ticket_free(other);
    json_decref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct err e = {.code = ERR_NONE};
    enum ticket_fault why = TICKET_FINE;
    if (!size) return 0;
    const char *text = (const char *)data + 1;
    json_t *document = data[0] == 'S' ? sign_text(text, size - 1) : json_parse(text, size - 1, &e);
    if (!document) return 0;
    struct ticket *t = ticket_read(document, home(), home()->nodes->id, &why);
    must(!t == (why != TICKET_FINE) && why < TICKET_FAULTS);
    if (t) check(t);
    ticket_free(t);
    json_decref(document);
    return 0;
}

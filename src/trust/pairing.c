#include "trust/pairing.h"
#include "base/bytes.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "neb1-"
enum { TOKEN_VERSION = 1, TOKEN_FIXED = 1 + DIGEST_BYTES + PAIRING_SECRET + 1, LABEL = 24 };
enum { TOKEN_RAW = TOKEN_FIXED + PAIRING_ADDRESSES * ROSTER_ADDRESS };
_Static_assert(sizeof PREFIX + BASE64_SIZE(TOKEN_RAW) <= PAIRING_TOKEN, "a full token fits");

// ---------------------------------------------------------------- tokens
static bool is_usable(const struct pairing_token *t) {
    if (!t->n || t->n > PAIRING_ADDRESSES) return false;
    for (size_t i = 0; i < t->n; i++)
        if (!t->addresses[i][0] || strlen(t->addresses[i]) > UINT8_MAX || !roster_is_address(t->addresses[i]))
            return false;
    return true;
}

int pairing_encode(const struct pairing_token *t, char out[PAIRING_TOKEN], struct err *e) {
    uint8_t raw[TOKEN_RAW], *p = raw;
    if (!is_usable(t)) return err_set(e, ERR_INVALID, "a token carries 1 to %d addresses HOST:PORT", PAIRING_ADDRESSES);
    *p++ = TOKEN_VERSION;
    memcpy(p, t->root, sizeof t->root);
    p += sizeof t->root;
    memcpy(p, t->secret, sizeof t->secret);
    p += sizeof t->secret;
    *p++ = (uint8_t)t->n;
    for (size_t i = 0; i < t->n; i++) {
        size_t n = strlen(t->addresses[i]);
        *p++ = (uint8_t)n;
        memcpy(p, t->addresses[i], n);
        p += n;
    }
    memcpy(out, PREFIX, sizeof PREFIX - 1);
    base64_encode(raw, (size_t)(p - raw), out + sizeof PREFIX - 1);
    OPENSSL_cleanse(raw, sizeof raw);
    return 0;
}

static int read_addresses(const uint8_t *p, size_t left, struct pairing_token *t) {
    for (size_t i = 0; i < t->n; i++) {
        size_t n = left ? *p : 0;
        if (!n || n > left - 1 || memchr(p + 1, 0, n)) return -1;
        memcpy(t->addresses[i], p + 1, n); // at most 255 bytes of 280
        t->addresses[i][n] = 0;
        p += 1 + n;
        left -= 1 + n;
    }
    return left ? -1 : 0;
}

static int read_raw(const uint8_t *raw, size_t n, struct pairing_token *t) {
    if (n < TOKEN_FIXED) return -1;
    memcpy(t->root, raw + 1, sizeof t->root);
    memcpy(t->secret, raw + 1 + DIGEST_BYTES, sizeof t->secret);
    t->n = raw[TOKEN_FIXED - 1];
    if (!t->n || t->n > PAIRING_ADDRESSES || read_addresses(raw + TOKEN_FIXED, n - TOKEN_FIXED, t)) return -1;
    return is_usable(t) ? 0 : -1;
}

int pairing_decode(const char *text, struct pairing_token *t, struct err *e) {
    uint8_t raw[TOKEN_RAW];
    size_t n = 0, prefix = sizeof PREFIX - 1, len = strnlen(text, PAIRING_TOKEN);
    int rc = 0;
    *t = (struct pairing_token){.n = 0};
    if (strncmp(text, "neb", 3) != 0)
        rc = err_param(e, "token", "this is no token: it begins with " PREFIX " (`nebulus invite` prints one)");
    else if (len <= prefix || len >= PAIRING_TOKEN || base64_decode(text + prefix, len - prefix, raw, sizeof raw, &n))
        rc = err_param(e, "token", "the token is damaged: copy the whole line that `nebulus invite` printed");
    else if (strncmp(text, PREFIX, prefix) != 0 || !n || raw[0] != TOKEN_VERSION)
        rc = err_param(e, "token", "the token is of another version of nebulus: update this one or the inviter's");
    else if (read_raw(raw, n, t))
        rc = err_param(e, "token", "the token is damaged: copy the whole line that `nebulus invite` printed");
    OPENSSL_cleanse(raw, sizeof raw);
    if (rc) OPENSSL_cleanse(t, sizeof *t);
    return rc;
}

// ---------------------------------------------------------------- proofs
// Every text that is hashed begins with a label of its own and of fixed length, so that none can be taken for another.
static void put_label(uint8_t out[LABEL], const char *label) {
    memset(out, 0, LABEL);
    memcpy(out, label, strnlen(label, LABEL));
}

void pairing_id(const uint8_t secret[PAIRING_SECRET], char out[PAIRING_ID]) {
    uint8_t text[LABEL + PAIRING_SECRET], digest[DIGEST_BYTES];
    put_label(text, "nebulus invitation");
    memcpy(text + LABEL, secret, PAIRING_SECRET);
    digest_of(text, sizeof text, digest);
    hex_encode(digest, (PAIRING_ID - 1) / 2, out);
    OPENSSL_cleanse(text, sizeof text);
}

static void prove(const uint8_t *secret, const char *label, const struct pairing_link *l, const void *said, size_t n,
                  uint8_t out[PAIRING_PROOF]) {
    struct {
        uint8_t label[LABEL], exporter[PAIRING_EXPORTER], inviter[IDENTITY_PIN], joiner[IDENTITY_PIN];
        uint8_t said[DIGEST_BYTES];
    } text; // bytes only: no padding
    unsigned len = PAIRING_PROOF;
    put_label(text.label, label);
    memcpy(text.exporter, l->exporter, sizeof text.exporter);
    memcpy(text.inviter, l->inviter, sizeof text.inviter);
    memcpy(text.joiner, l->joiner, sizeof text.joiner);
    digest_of(said, n, text.said);
    if (!HMAC(EVP_sha256(), secret, PAIRING_SECRET, (const uint8_t *)&text, sizeof text, out, &len))
        abort(); // no memory
}

void pairing_prove_root(const uint8_t secret[PAIRING_SECRET], const struct pairing_link *l,
                        const uint8_t root[KEY_PUBLIC], uint8_t out[PAIRING_PROOF]) {
    prove(secret, "nebulus pairing inviter", l, root, KEY_PUBLIC, out);
}

void pairing_prove_node(const uint8_t secret[PAIRING_SECRET], const struct pairing_link *l,
                        const struct roster_node *node, uint8_t out[PAIRING_PROOF]) {
    json_t *o = roster_node_json(node);
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (!text) abort(); // no memory
    prove(secret, "nebulus pairing joiner", l, text, strlen(text), out);
    free(text);
    json_decref(o);
}

bool pairing_same(const uint8_t a[PAIRING_PROOF], const uint8_t b[PAIRING_PROOF]) {
    return !CRYPTO_memcmp(a, b, PAIRING_PROOF);
}

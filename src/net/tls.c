// Contexts, sessions and whom they accept. Reading and writing is tls_io.c's.
#include "net/tls.h"

#include <openssl/err.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { CHAIN_BYTES = 16 << 10 }; // what a peer may send as its certificates

struct tls { // lives as long as its SSL_CTX, that is, as the last session
    SSL_CTX *ctx;
    bool (*trusted)(void *arg, const uint8_t pin[TLS_PIN]);
    void *arg;
};

struct session { // belongs to its SSL
    bool server, pinned, chosen;
    enum tls_use use; // where chosen
    uint8_t pin[TLS_PIN], peer[TLS_PIN];
};

static const char *const alpn[TLS_USES] = {"nebulus-control/1", "nebulus-data/1", "nebulus-pair/1"};
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int tls_slot = -1, session_slot = -1;

static void free_slot(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp) {
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    free(ptr);
}

static void make_slots(void) {
    tls_slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_slot);
    session_slot = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_slot);
}

static int failed(struct err *e, const char *what) {
    char why[256];
    tls_why(NULL, why, sizeof why);
    return err_set(e, ERR_INTERNAL, "%s: %s", what, why);
}

int tls_pin_of(const X509 *cert, uint8_t out[TLS_PIN]) {
    unsigned char *der = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    int rc = n > 0 && EVP_Digest(der, (size_t)n, out, NULL, EVP_sha256(), NULL) == 1 ? 0 : -1;
    OPENSSL_free(der);
    return rc;
}

// ---------------------------------------------------------------- whom a session accepts
static int choose_use(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in,
                      unsigned int inlen, void *arg) {
    struct session *s = SSL_get_ex_data(ssl, session_slot);
    (void)arg;
    for (unsigned int at = 0; s && at < inlen && in[at] < inlen - at; at += in[at] + 1u) {
        for (int u = 0; u < TLS_USES; u++) {
            if (in[at] != strlen(alpn[u]) || memcmp(in + at + 1, alpn[u], in[at])) continue;
            s->use = (enum tls_use)u;
            s->chosen = true;
            *out = in + at + 1;
            *outlen = in[at];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static bool same_use_chosen(const SSL *ssl, enum tls_use use) {
    const unsigned char *got;
    unsigned int n;
    SSL_get0_alpn_selected(ssl, &got, &n);
    return n == strlen(alpn[use]) && !memcmp(got, alpn[use], n);
}

static bool acceptable(const SSL *ssl, struct session *s, const X509 *cert) {
    const struct tls *t = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), tls_slot);
    if (!cert || tls_pin_of(cert, s->peer)) return false;
    if (s->server) return s->chosen && (s->use == TLS_PAIR || (t->trusted && t->trusted(t->arg, s->peer)));
    return same_use_chosen(ssl, s->use) && (!s->pinned || !CRYPTO_memcmp(s->pin, s->peer, TLS_PIN));
}

// Replaces the checking of chains: the key is all that counts. That the peer holds it, its CertificateVerify proves.
static int verify(X509_STORE_CTX *store, void *arg) {
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct session *s = ssl ? SSL_get_ex_data(ssl, session_slot) : NULL;
    (void)arg;
    if (s && acceptable(ssl, s, X509_STORE_CTX_get0_cert(store))) return 1;
    X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
    return 0;
}

// ---------------------------------------------------------------- contexts
static int set_up(SSL_CTX *ctx, EVP_PKEY *key, X509 *cert, struct err *e) {
    if (!SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) || !SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"))
        return failed(e, "TLS 1.3 cannot be set up");
    if (SSL_CTX_use_certificate(ctx, cert) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1)
        return failed(e, "this node's key and certificate cannot be used for TLS");
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_cert_list(ctx, CHAIN_BYTES);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, verify, NULL);
    SSL_CTX_set_alpn_select_cb(ctx, choose_use, NULL);
    return 0;
}

struct tls *tls_new(EVP_PKEY *key, X509 *cert, struct err *e) {
    pthread_once(&once, make_slots);
    struct tls *t = calloc(1, sizeof *t);
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    if (!t || !ctx || !SSL_CTX_set_ex_data(ctx, tls_slot, t)) {
        free(t);
        SSL_CTX_free(ctx);
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    t->ctx = ctx;
    if (!set_up(ctx, key, cert, e)) return t;
    SSL_CTX_free(ctx);
    return NULL;
}

void tls_free(struct tls *t) {
    if (!t) return;
    t->trusted = NULL;
    SSL_CTX_free(t->ctx);
}

void tls_trust(struct tls *t, bool (*trusted)(void *arg, const uint8_t pin[TLS_PIN]), void *arg) {
    t->trusted = trusted;
    t->arg = arg;
}

// ---------------------------------------------------------------- sessions
static SSL *session_new(struct tls *t, const struct session *like, struct err *e) {
    struct session *s = malloc(sizeof *s);
    SSL *ssl = SSL_new(t->ctx);
    if (!s || !ssl || !SSL_set_ex_data(ssl, session_slot, s)) {
        free(s);
        SSL_free(ssl);
        failed(e, "a TLS session cannot be made");
        return NULL;
    }
    *s = *like;
    return ssl;
}

SSL *tls_client(struct tls *t, enum tls_use use, const uint8_t pin[TLS_PIN], struct err *e) {
    struct session like = {.use = use, .chosen = true, .pinned = pin != NULL};
    uint8_t offer[64];
    size_t n = strlen(alpn[use]);
    if (!pin && use != TLS_PAIR) {
        err_set(e, ERR_DENIED, "only a pairing connection may go to a machine whose key is not known");
        return NULL;
    }
    if (pin) memcpy(like.pin, pin, TLS_PIN);
    SSL *ssl = session_new(t, &like, e);
    if (!ssl) return NULL;
    offer[0] = (uint8_t)n;
    memcpy(offer + 1, alpn[use], n);
    SSL_set_connect_state(ssl);
    if (!SSL_set_alpn_protos(ssl, offer, (unsigned int)n + 1)) return ssl;
    SSL_free(ssl);
    failed(e, "a TLS session cannot be made");
    return NULL;
}

SSL *tls_server(struct tls *t, struct err *e) {
    SSL *ssl = session_new(t, &(struct session){.server = true}, e);
    if (ssl) SSL_set_accept_state(ssl);
    return ssl;
}

enum tls_use tls_use_of(const SSL *ssl) {
    const struct session *s = SSL_get_ex_data(ssl, session_slot);
    return s->use;
}

void tls_peer_pin(const SSL *ssl, uint8_t out[TLS_PIN]) {
    const struct session *s = SSL_get_ex_data(ssl, session_slot);
    memcpy(out, s->peer, TLS_PIN);
}

int tls_exporter(SSL *ssl, uint8_t out[32], struct err *e) {
    static const char label[] = "EXPORTER-nebulus-binding";
    if (SSL_export_keying_material(ssl, out, 32, label, sizeof label - 1, NULL, 0, 0) == 1) return 0;
    return failed(e, "this TLS session has no keying material");
}

// For tests and benches: nodes with keys of their own, and connected sockets.
#pragma once

#include "net/tls.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

struct fixture_node {
    EVP_PKEY *key;
    X509 *cert;
    struct tls *tls;
    uint8_t pin[TLS_PIN];
};

static inline X509 *fixture_cert(EVP_PKEY *key) {
    X509 *cert = X509_new();
    X509_NAME *name = cert ? X509_get_subject_name(cert) : NULL;
    if (!cert || !X509_set_version(cert, 2) || !ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) ||
        !X509_gmtime_adj(X509_getm_notBefore(cert), -7200) || // expired: nobody may care
        !X509_gmtime_adj(X509_getm_notAfter(cert), -3600) || !X509_set_pubkey(cert, key) ||
        !X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"node", -1, -1, 0) ||
        !X509_set_issuer_name(cert, name) || !X509_sign(cert, key, NULL))
        abort();
    return cert;
}

static inline void fixture_node_init(struct fixture_node *n) {
    struct err e;
    n->key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    if (!n->key) abort();
    n->cert = fixture_cert(n->key);
    n->tls = tls_new(n->key, n->cert, &e);
    if (!n->tls || tls_pin_of(n->cert, n->pin)) abort();
}

static inline void fixture_node_close(struct fixture_node *n) {
    tls_free(n->tls);
    X509_free(n->cert);
    EVP_PKEY_free(n->key);
}

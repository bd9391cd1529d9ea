#include "trust/identity.h"
#include "base/bytes.h"
#include "base/paths.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <string.h>

enum { ID_BYTES = 16, SPKI_MAX = 256 };

void identity_id_of(const uint8_t pin[IDENTITY_PIN], char out[IDENTITY_ID]) { hex_encode(pin, ID_BYTES, out); }

// Also when two processes make it at the same time, both get the same key: that of the file which was there first.
static EVP_PKEY *load_or_make(const char *dir, const char *name, struct err *e) {
    char path[PATH_SIZE];
    struct err why = {.code = ERR_NONE};
    if (path_join(path, dir, name, e)) return NULL;
    EVP_PKEY *key = key_load(path, NULL, &why);
    if (key || why.code != ERR_NOT_FOUND) {
        if (!key && e) *e = why;
        return key;
    }
    if (!(key = key_new(e))) return NULL;
    int rc = key_save(path, key, NULL, &why);
    EVP_PKEY_free(key);
    if (!rc || why.code == ERR_BUSY) return key_load(path, NULL, e);
    if (e) *e = why;
    return NULL;
}

static int spki_digest(EVP_PKEY *key, uint8_t out[IDENTITY_PIN]) {
    uint8_t der[SPKI_MAX], *end = der;
    int n = i2d_PUBKEY(key, NULL);
    if (n <= 0 || n > SPKI_MAX || i2d_PUBKEY(key, &end) != n) return -1;
    digest_of(der, (size_t)n, out);
    return 0;
}

static X509 *self_signed(EVP_PKEY *key) {
    static const unsigned char common_name[] = "nebulus node";
    X509 *cert = X509_new();
    X509_NAME *name = cert ? X509_get_subject_name(cert) : NULL; // the certificate's own
    if (name && X509_set_version(cert, X509_VERSION_3) && ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) &&
        ASN1_TIME_set_string(X509_getm_notBefore(cert), "20000101000000Z") &&
        ASN1_TIME_set_string(X509_getm_notAfter(cert), "99991231235959Z") && X509_set_pubkey(cert, key) &&
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common_name, -1, -1, 0) &&
        X509_set_issuer_name(cert, name) && X509_sign(cert, key, NULL))
        return cert;
    X509_free(cert);
    ERR_clear_error();
    return NULL;
}

int identity_open(struct identity *i, const char *state_dir, struct err *e) {
    char dir[PATH_SIZE];
    *i = (struct identity){.id = ""};
    if (path_join(dir, state_dir, "identity", e) || path_make_dir(dir, e) ||
        !(i->key = load_or_make(dir, "node.key", e)) || !(i->audit_key = load_or_make(dir, "audit.key", e)))
        goto failed;
    if (spki_digest(i->key, i->pin) || key_public(i->audit_key, i->audit) || !(i->cert = self_signed(i->key))) {
        err_set(e, ERR_INTERNAL, "cannot make this node's certificate: out of memory");
        goto failed;
    }
    identity_id_of(i->pin, i->id);
    return 0;
failed:
    identity_close(i);
    return -1;
}

void identity_close(struct identity *i) {
    X509_free(i->cert);
    EVP_PKEY_free(i->key);
    EVP_PKEY_free(i->audit_key);
    *i = (struct identity){.id = ""};
}

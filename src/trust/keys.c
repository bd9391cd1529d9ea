#include "trust/keys.h"
#include "base/paths.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// scrypt with 16 MiB, the most that OpenSSL allows without further ado: about 50 ms per guess
enum { KEY_FILE_MAX = 16 << 10, SCRYPT_N = 1 << 14, SCRYPT_R = 8, SCRYPT_P = 1 };

void digest_of(const void *data, size_t n, uint8_t out[DIGEST_BYTES]) { SHA256(data, n, out); }

// OpenSSL's reason for what has just failed, in *e.
static int fail(struct err *e, const char *what) {
    char reason[160] = "out of memory";
    unsigned long code = ERR_get_error();
    if (code) ERR_error_string_n(code, reason, sizeof reason);
    ERR_clear_error();
    return err_set(e, ERR_INTERNAL, "%s: %s", what, reason);
}

EVP_PKEY *key_new(struct err *e) {
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    if (!key) fail(e, "cannot make a key");
    return key;
}

int key_public(const EVP_PKEY *key, uint8_t out[KEY_PUBLIC]) {
    size_t n = KEY_PUBLIC;
    if (EVP_PKEY_is_a(key, "ED25519") && EVP_PKEY_get_raw_public_key(key, out, &n) == 1 && n == KEY_PUBLIC) return 0;
    ERR_clear_error();
    return -1;
}

int key_sign(EVP_PKEY *key, const void *data, size_t n, uint8_t out[KEY_SIGNATURE], struct err *e) {
    size_t len = KEY_SIGNATURE;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int bad = !ctx || EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) != 1 ||
              EVP_DigestSign(ctx, out, &len, data, n) != 1 || len != KEY_SIGNATURE;
    EVP_MD_CTX_free(ctx);
    return bad ? fail(e, "cannot sign") : 0;
}

bool key_verify(const uint8_t public[KEY_PUBLIC], const void *data, size_t n, const uint8_t signature[KEY_SIGNATURE]) {
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public, KEY_PUBLIC);
    EVP_MD_CTX *ctx = key ? EVP_MD_CTX_new() : NULL;
    bool good = ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
                EVP_DigestVerify(ctx, signature, KEY_SIGNATURE, data, n) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return good;
}

// ---------------------------------------------------------------- files
static int write_encrypted(BIO *out, EVP_PKEY *key, const char *passphrase) {
    X509_ALGOR *how = PKCS5_pbe2_set_scrypt(EVP_aes_256_cbc(), NULL, 0, NULL, SCRYPT_N, SCRYPT_R, SCRYPT_P);
    PKCS8_PRIV_KEY_INFO *plain = how ? EVP_PKEY2PKCS8(key) : NULL;
    X509_SIG *locked = plain ? PKCS8_set0_pbe(passphrase, (int)strlen(passphrase), plain, how) : NULL;
    int bad = !locked || PEM_write_bio_PKCS8(out, locked) != 1;
    if (!locked) X509_ALGOR_free(how); // else it is part of it
    X509_SIG_free(locked);
    PKCS8_PRIV_KEY_INFO_free(plain);
    return bad ? -1 : 0;
}

// So that the file appears as a whole, and never over another one.
static int publish(const char *path, const char *data, size_t n, struct err *e) {
    char fresh[PATH_SIZE];
    if (snprintf(fresh, sizeof fresh, "%s.%ld", path, (long)getpid()) >= (int)sizeof fresh)
        return err_set(e, ERR_LIMIT, "a file's path is too long");
    if (file_write(fresh, data, n, e)) return -1;
    int rc = link(fresh, path);
    if (rc && errno == EEXIST)
        err_set(e, ERR_BUSY, "%s exists already", path);
    else if (rc)
        err_errno(e, "cannot write %s", path);
    unlink(fresh);
    return rc;
}

int key_save(const char *path, EVP_PKEY *key, const char *passphrase, struct err *e) {
    BIO *out = BIO_new(BIO_s_secmem());
    char *data;
    int rc = -1;
    if (!out || (passphrase ? write_encrypted(out, key, passphrase)
                            : PEM_write_bio_PKCS8PrivateKey(out, key, NULL, NULL, 0, NULL, NULL) != 1))
        fail(e, "cannot write a key");
    else {
        long n = BIO_get_mem_data(out, &data);
        rc = publish(path, data, (size_t)n, e);
    }
    BIO_free(out);
    return rc;
}

static int check_file(const char *path, struct err *e) {
    struct stat st;
    if (stat(path, &st)) {
        enum err_code code = errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
        err_errno(e, "cannot read the key %s", path);
        if (e) e->code = code;
        return -1;
    }
    if (st.st_mode & 077)
        return err_set(e, ERR_DENIED, "other users may read the key %s: run `chmod 600` on it, if none has", path);
    return 0;
}

static int give_passphrase(char *out, int size, int writing, void *arg) {
    const char *passphrase = arg;
    (void)writing;
    if (!passphrase || strlen(passphrase) > (size_t)size) return -1;
    memcpy(out, passphrase, strlen(passphrase));
    return (int)strlen(passphrase);
}

EVP_PKEY *key_load(const char *path, const char *passphrase, struct err *e) {
    char *text = NULL;
    size_t n;
    uint8_t public[KEY_PUBLIC];
    if (check_file(path, e) || file_read(path, KEY_FILE_MAX, &text, &n, e)) return NULL;
    bool locked = strstr(text, "-----BEGIN ENCRYPTED PRIVATE KEY-----");
    BIO *in = BIO_new_mem_buf(text, (int)n);
    EVP_PKEY *key = in ? PEM_read_bio_PrivateKey(in, NULL, give_passphrase, (void *)(uintptr_t)passphrase) : NULL;
    BIO_free(in);
    OPENSSL_cleanse(text, n);
    free(text);
    ERR_clear_error();
    if (!key && locked)
        err_set(e, ERR_DENIED, passphrase ? "this is not the passphrase of %s" : "%s needs its passphrase", path);
    else if (!key)
        err_set(e, ERR_INVALID, "%s is not a private key (PEM)", path);
    else if (!key_public(key, public))
        return key;
    else
        err_set(e, ERR_INVALID, "%s holds a key of another kind than Ed25519", path);
    EVP_PKEY_free(key);
    return NULL;
}

#include "base/bytes.h"
#include "base/paths.h"
#include "trust/identity.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/nebulus-identity-XXXXXX";

static char *file(const char *name) {
    static char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static int make_dir(void **state) {
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static void forget(void) {
    unlink(file("identity/node.key"));
    unlink(file("identity/audit.key"));
    rmdir(file("identity"));
}

static int remove_dir(void **state) {
    (void)state;
    forget();
    unlink(file("k"));
    return rmdir(dir);
}

static void open_it(struct identity *i) {
    struct err e = {.code = ERR_NONE};
    if (identity_open(i, dir, &e)) fail_msg("%s", e.msg);
}

static void test_made_once(void **state) {
    (void)state;
    struct identity one, two;
    struct stat st;
    char id[IDENTITY_ID];
    forget();
    open_it(&one);
    open_it(&two);
    assert_string_equal(one.id, two.id);
    assert_int_equal(strlen(one.id), 32);
    hex_encode(one.pin, 16, id);
    assert_string_equal(one.id, id);
    assert_memory_equal(one.audit, two.audit, sizeof one.audit);
    assert_int_equal(stat(file("identity/node.key"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(file("identity"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(X509_verify(one.cert, one.key), 1);
    assert_int_equal(X509_check_private_key(one.cert, two.key), 1);
    identity_close(&one);
    identity_close(&two);
    identity_close(&two); // a closed one is a zeroed one
}

// The pin is the SHA-256 of the certificate's public key, as others compute it from the wire.
static void test_pin(void **state) {
    (void)state;
    struct identity i;
    uint8_t *der = NULL, digest[DIGEST_BYTES], public[KEY_PUBLIC];
    open_it(&i);
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(i.cert), &der);
    assert_true(n > 0);
    digest_of(der, (size_t)n, digest);
    assert_memory_equal(digest, i.pin, sizeof digest);
    assert_int_equal(key_public(i.key, public), 0);
    assert_memory_not_equal(public, i.audit, sizeof public); // two keys
    OPENSSL_free(der);
    identity_close(&i);
}

static void test_two_processes_at_once(void **state) {
    (void)state;
    enum { PROCESSES = 8 };
    struct identity i;
    int ids[2];
    forget();
    assert_int_equal(pipe(ids), 0);
    for (int k = 0; k < PROCESSES; k++) {
        if (fork()) continue;
        struct err e;
        int bad = identity_open(&i, dir, &e) || write(ids[1], i.id, sizeof i.id) != sizeof i.id;
        if (!bad) identity_close(&i);
        _exit(bad);
    }
    open_it(&i);
    for (int k = 0; k < PROCESSES; k++) {
        char id[IDENTITY_ID];
        int status;
        assert_true(wait(&status) > 0 && !status);
        assert_int_equal(read(ids[0], id, sizeof id), sizeof id);
        assert_string_equal(id, i.id);
    }
    close(ids[0]);
    close(ids[1]);
    identity_close(&i);
}

static void test_refused_files(void **state) {
    (void)state;
    struct identity i;
    struct err e = {.code = ERR_NONE};
    open_it(&i);
    identity_close(&i);
    chmod(file("identity/node.key"), 0640);
    assert_int_equal(identity_open(&i, dir, &e), -1);
    assert_int_equal(e.code, ERR_DENIED);
    assert_non_null(strstr(e.msg, "chmod 600"));
    chmod(file("identity/node.key"), 0600);
    assert_int_equal(truncate(file("identity/node.key"), 40), 0);
    assert_int_equal(identity_open(&i, dir, &e), -1); // a damaged key is not replaced by another one in silence
    assert_int_equal(e.code, ERR_INVALID);
    forget();
}

static void test_passphrase(void **state) {
    (void)state;
    struct err e = {.code = ERR_NONE};
    uint8_t a[KEY_PUBLIC], b[KEY_PUBLIC];
    char *text;
    size_t n;
    EVP_PKEY *key = key_new(&e);
    assert_int_equal(key_save(file("k"), key, "correct horse", &e), 0);
    assert_int_equal(key_save(file("k"), key, "another", &e), -1); // never over an existing one
    assert_int_equal(e.code, ERR_BUSY);
    assert_int_equal(file_read(file("k"), 10000, &text, &n, &e), 0);
    assert_non_null(strstr(text, "BEGIN ENCRYPTED PRIVATE KEY"));
    free(text);
    assert_null(key_load(file("k"), NULL, &e));
    assert_int_equal(e.code, ERR_DENIED);
    assert_null(key_load(file("k"), "correct horsf", &e));
    assert_int_equal(e.code, ERR_DENIED);
    assert_null(key_load(file("k"), "", &e));
    EVP_PKEY *again = key_load(file("k"), "correct horse", &e);
    assert_non_null(again);
    assert_int_equal(key_public(key, a) | key_public(again, b), 0);
    assert_memory_equal(a, b, sizeof a);
    EVP_PKEY_free(key);
    EVP_PKEY_free(again);
    assert_null(key_load(file("none"), NULL, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
}

// RFC 8032, section 7.1, test 2: that key_verify takes raw keys and signatures as everybody writes them.
static void test_signature_vector(void **state) {
    (void)state;
    uint8_t public[KEY_PUBLIC], signature[KEY_SIGNATURE];
    struct err e;
    assert_int_equal(
        hex_decode("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", public, sizeof public), 0);
    assert_int_equal(hex_decode("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                                "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
                                signature, sizeof signature),
                     0);
    assert_true(key_verify(public, "\x72", 1, signature));
    assert_false(key_verify(public, "\x73", 1, signature));
    assert_false(key_verify(public, "", 0, signature));
    for (size_t i = 0; i < KEY_SIGNATURE; i++) {
        signature[i] ^= 4;
        assert_false(key_verify(public, "\x72", 1, signature));
        signature[i] ^= 4;
    }
    EVP_PKEY *key = key_new(&e);
    assert_int_equal(key_sign(key, "\x72", 1, signature, &e), 0);
    assert_false(key_verify(public, "\x72", 1, signature));
    assert_int_equal(key_public(key, public), 0);
    assert_true(key_verify(public, "\x72", 1, signature));
    EVP_PKEY_free(key);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_once),
        cmocka_unit_test(test_pin),
        cmocka_unit_test(test_two_processes_at_once),
        cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_passphrase),
        cmocka_unit_test(test_signature_vector),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

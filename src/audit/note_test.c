#include "audit/note.h"

#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

// The example of golang.org/x/mod/sumdb/note (example_test.go).
static const char go_vkey[] = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
static const char go_skey[] = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
#define GO_TEXT "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
#define GO_LINE                                                                                                        \
    "\xe2\x80\x94 PeterNeumann "                                                                                       \
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBw"                          \
    "JnAM=\n"
static const char go_note[] = GO_TEXT "\n" GO_LINE;

static EVP_PKEY *go_key(void) {
    uint8_t raw[64];
    assert_true(EVP_DecodeBlock(raw, (const uint8_t *)go_skey, (int)strlen(go_skey)) >= 33);
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, raw + 1, 32);
    assert_non_null(key);
    return key;
}

static void read_vkey(struct note_key *k) {
    struct err e;
    assert_int_equal(note_vkey_read(go_vkey, strlen(go_vkey), k, &e), 0);
}

static void test_vkey(void **state) {
    struct note_key k;
    struct err e;
    char text[NOTE_VKEY];
    (void)state;
    read_vkey(&k);
    assert_string_equal(k.name, "PeterNeumann");
    note_vkey(&k, text);
    assert_string_equal(text, go_vkey);
    for (size_t i = 0; i < sizeof go_vkey - 1; i++) { // no byte of it is without meaning
        memcpy(text, go_vkey, sizeof go_vkey);
        text[i] = (char)(text[i] ^ 1);
        assert_int_equal(note_vkey_read(text, sizeof go_vkey - 1, &k, &e), -1);
        assert_int_equal(note_vkey_read(go_vkey, i, &k, &e), -1);
    }
}

static void test_vector(void **state) {
    struct note_key k;
    struct err e = {.msg = ""};
    char text[NOTE_BYTES] = GO_TEXT;
    size_t n = strlen(text), len;
    (void)state;
    read_vkey(&k);
    EVP_PKEY *key = go_key();
    assert_int_equal(note_sign(text, &n, "PeterNeumann", key, &e), 0);
    assert_int_equal(n, sizeof go_note - 1);
    assert_memory_equal(text, go_note, n);
    assert_int_equal(note_verify(text, n, &k, &len, &e), 0);
    assert_int_equal(len, strlen(GO_TEXT));
    EVP_PKEY_free(key);
}

static void test_every_byte_counts(void **state) {
    struct note_key k;
    struct err e;
    size_t len;
    (void)state;
    read_vkey(&k);
    for (size_t i = 0; i < sizeof go_note - 1; i++) {
        char text[sizeof go_note];
        for (int bit = 0; bit < 8; bit++) {
            memcpy(text, go_note, sizeof text);
            text[i] = (char)(text[i] ^ 1 << bit);
            assert_int_equal(note_verify(text, sizeof text - 1, &k, &len, &e), -1);
        }
        assert_int_equal(note_verify(go_note, i, &k, &len, &e), -1);
    }
}

// Others' signatures do not matter, in any order; a note without ours is not signed.
static void test_several_signatures(void **state) {
    struct note_key k, other = {.name = "example.org/other"};
    struct err e = {.msg = ""};
    char text[NOTE_BYTES];
    size_t n = (size_t)snprintf(text, sizeof text, "%s", go_note), len;
    (void)state;
    read_vkey(&k);
    EVP_PKEY *key = key_new(&e);
    assert_non_null(key);
    assert_int_equal(key_public(key, other.public), 0);
    assert_int_equal(note_verify(text, n, &other, &len, &e), -1);
    assert_int_equal(e.code, ERR_DENIED);
    assert_int_equal(note_sign(text, &n, other.name, key, &e), 0);
    assert_int_equal(note_verify(text, n, &other, &len, &e), 0);
    assert_int_equal(note_verify(text, n, &k, &len, &e), 0);
    EVP_PKEY_free(key);
}

static void test_checkpoint(void **state) {
    struct note_key k = {.name = "home/0123/1-ab"}, other = {.name = "home/0123/2-cd"};
    struct checkpoint c = {.origin = "home/0123/1-ab", .size = 12345678901, .root = {{1, 2, 3}}}, seen;
    struct err e = {.msg = ""};
    char text[NOTE_BYTES];
    size_t n;
    (void)state;
    EVP_PKEY *key = key_new(&e);
    assert_int_equal(key_public(key, k.public), 0);
    memcpy(other.public, k.public, sizeof k.public);
    assert_int_equal(checkpoint_write(&c, key, text, &n, &e), 0);
    static const char signed_text[] = "home/0123/1-ab\n12345678901\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n";
    assert_memory_equal(text, signed_text, sizeof signed_text - 1);
    assert_int_equal(checkpoint_verify(text, n, &k, &seen, &e), 0);
    assert_int_equal(seen.size, c.size);
    assert_memory_equal(&seen.root, &c.root, sizeof c.root);
    assert_string_equal(seen.origin, c.origin);
    assert_int_equal(checkpoint_verify(text, n, &other, &seen, &e), -1);
    EVP_PKEY_free(key);
}

static void test_bad_checkpoints(void **state) {
    static const char *const bad[] = {
        "",
        "a\n1\n",
        "a\n01\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "a\n+1\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "a\n-1\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "a\n99999999999999999999\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "a b\n1\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "\n1\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "a\n1\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n", // bits beside the 32 bytes
        "a\n1\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n",
    };
    struct checkpoint c;
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(checkpoint_read(bad[i], strlen(bad[i]), &c, &e), -1);
}

// A witness's line stands beside the log's; each is checked with its own key only, and no byte of it is without
// meaning.
static void test_cosignature(void **state) {
    struct note_key log = {.name = "home/0123/1-ab"}, witness = {.name = "home/4567", .kind = NOTE_WITNESS}, again;
    struct checkpoint c = {.origin = "home/0123/1-ab", .size = 7};
    struct err e;
    char note[NOTE_BYTES], other[NOTE_BYTES], vkey[NOTE_VKEY];
    size_t n, signed_len;
    uint64_t when = 0;
    (void)state;
    EVP_PKEY *key = key_new(&e), *own = key_new(&e);
    assert_int_equal(key_public(key, log.public), 0);
    assert_int_equal(key_public(own, witness.public), 0);
    assert_int_equal(checkpoint_write(&c, key, note, &n, &e), 0);
    assert_int_equal(note_cosigned(note, n, &witness, &when, &e), -1);
    size_t before = n;
    assert_int_equal(note_cosign(note, &n, witness.name, own, 1679315147, &e), 0);
    assert_int_equal(note_cosigned(note, n, &witness, &when, &e), 0);
    assert_int_equal(when, 1679315147);
    assert_int_equal(checkpoint_verify(note, n, &log, &c, &e), 0);
    for (size_t i = before; i < n; i++) {
        memcpy(other, note, n);
        other[i] ^= 1;
        assert_int_equal(note_cosigned(other, n, &witness, &when, &e), -1);
    }
    memcpy(other, note, n);
    other[strlen(c.origin) + 1] = '8'; // another size
    assert_int_equal(note_cosigned(other, n, &witness, &when, &e), -1);
    // neither kind of key passes for the other
    struct note_key as_log = witness, as_witness = log;
    as_log.kind = NOTE_LOG;
    as_witness.kind = NOTE_WITNESS;
    assert_int_equal(note_verify(note, n, &as_log, &signed_len, &e), -1);
    assert_int_equal(note_cosigned(note, n, &as_witness, &when, &e), -1);
    assert_int_equal(checkpoint_verify(note, n, &witness, &c, &e), -1);
    note_vkey(&witness, vkey);
    assert_int_equal(note_vkey_read(vkey, strlen(vkey), &again, &e), 0);
    assert_int_equal(again.kind, NOTE_WITNESS);
    assert_int_equal(note_cosign(note, &before, witness.name, own, UINT64_MAX, &e), -1);
    EVP_PKEY_free(key);
    EVP_PKEY_free(own);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vkey),
                                       cmocka_unit_test(test_vector),
                                       cmocka_unit_test(test_every_byte_counts),
                                       cmocka_unit_test(test_checkpoint),
                                       cmocka_unit_test(test_bad_checkpoints),
                                       cmocka_unit_test(test_several_signatures),
                                       cmocka_unit_test(test_cosignature)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

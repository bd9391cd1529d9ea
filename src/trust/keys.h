// Ed25519 keys, their signatures and their files; SHA-256. Threads: any.
#pragma once

#include "base/err.h"
#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KEY_PUBLIC = 32, KEY_SIGNATURE = 64, DIGEST_BYTES = 32 };

void digest_of(const void *data, size_t n, uint8_t out[DIGEST_BYTES]); // SHA-256

EVP_PKEY *key_new(struct err *e) MUST_USE;                    // a fresh one; EVP_PKEY_free it
int key_public(const EVP_PKEY *key, uint8_t out[KEY_PUBLIC]); // 0, or -1 where key is no Ed25519 key
int key_sign(EVP_PKEY *key, const void *data, size_t n, uint8_t out[KEY_SIGNATURE], struct err *e) MUST_USE;
bool key_verify(const uint8_t public[KEY_PUBLIC], const void *data, size_t n, const uint8_t signature[KEY_SIGNATURE]);

// Writes a private key as PEM (PKCS#8), mode 0600, encrypted where a passphrase is given (scrypt, AES-256). Never
// replaces a file: ERR_BUSY where there is one.
int key_save(const char *path, EVP_PKEY *key, const char *passphrase, struct err *e) MUST_USE;

// Reads one. ERR_NOT_FOUND; ERR_DENIED where the file is encrypted and the passphrase is NULL or wrong, or where other
// users may read the file.
EVP_PKEY *key_load(const char *path, const char *passphrase, struct err *e) MUST_USE;

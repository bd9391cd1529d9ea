// Who this node is: a key for its TLS connections, with a self-signed certificate that only carries it, and another
// key that signs its audit records. Both are made once and live in files (mode 0600) below the state directory.
// Threads: any; one at a time.
#pragma once

#include "trust/keys.h"
#include <openssl/x509.h>

enum { IDENTITY_ID = 33, IDENTITY_PIN = 32 };

struct identity {
    char id[IDENTITY_ID];      // the first 16 bytes of the pin, in hexadecimal
    uint8_t pin[IDENTITY_PIN]; // SHA-256 of the TLS key's SubjectPublicKeyInfo
    uint8_t audit[KEY_PUBLIC]; // public half of the audit key
    EVP_PKEY *key, *audit_key; // owned
    X509 *cert;                // owned; made anew each time: nobody looks at anything but its key
};

// Reads the identity, or makes it where there is none. On failure *i needs no closing.
int identity_open(struct identity *i, const char *state_dir, struct err *e) MUST_USE;
void identity_close(struct identity *i); // fine for a zeroed one

void identity_id_of(const uint8_t pin[IDENTITY_PIN], char out[IDENTITY_ID]);

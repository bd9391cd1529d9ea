// Signed notes (https://c2sp.org/signed-note) with Ed25519 keys, and the checkpoints of a log as such notes
// (https://c2sp.org/tlog-checkpoint): a text of three lines - origin, number of records, root hash in base64 -, an
// empty line, and one line per signature. The name of a log's key is the log's origin. A witness adds its cosignature,
// which says when (https://c2sp.org/tlog-cosignature, Ed25519). Pure. Threads: any.
#pragma once

#include "audit/merkle.h"

enum {
    NOTE_NAME = 160,   // bytes of a key's name, with the NUL
    NOTE_BYTES = 4096, // of a whole note
    NOTE_VKEY = NOTE_NAME + 64,
    NOTE_SIGNATURES = 16, // that one is looked through for
};

enum note_kind {
    NOTE_LOG,     // signs its own notes (type 0x01)
    NOTE_WITNESS, // cosigns others' (type 0x04)
};

struct note_key { // that verifies
    char name[NOTE_NAME];
    uint8_t public[KEY_PUBLIC];
    enum note_kind kind;
};

// Base64 with padding (RFC 4648, section 4) of exactly n bytes, in one way only. 0, or -1.
int note_base64(const char *text, size_t len, uint8_t *out, size_t n);

bool note_is_name(const char *name); // fit for a key: no blanks, no control characters, no '+', ASCII
// NAME+HASH+KEY in one line (a "vkey") and back.
void note_vkey(const struct note_key *k, char out[NOTE_VKEY]);
int note_vkey_read(const char *text, size_t n, struct note_key *k, struct err *e) MUST_USE;

// Appends to text[0..*n) - which ends with a line feed - an empty line, where none is yet, and the signature.
int note_sign(char text[NOTE_BYTES], size_t *n, const char *name, EVP_PKEY *key, struct err *e) MUST_USE;
// Appends a witness's cosignature to a note that is signed; `when`: seconds since 1970.
int note_cosign(char note[NOTE_BYTES], size_t *n, const char *name, EVP_PKEY *key, uint64_t when,
                struct err *e) MUST_USE;
// Whether k has signed the note; *text_len: the bytes that are signed.
int note_verify(const char *note, size_t n, const struct note_key *k, size_t *text_len, struct err *e) MUST_USE;
// Whether k, a witness's, has cosigned the note, and when.
int note_cosigned(const char *note, size_t n, const struct note_key *k, uint64_t *when, struct err *e) MUST_USE;

struct checkpoint {
    char origin[NOTE_NAME];
    uint64_t size;
    struct hash root;
};

int checkpoint_write(const struct checkpoint *c, EVP_PKEY *key, char out[NOTE_BYTES], size_t *n,
                     struct err *e) MUST_USE;
int checkpoint_read(const char *note, size_t n, struct checkpoint *c, struct err *e) MUST_USE; // verifies nothing
int checkpoint_verify(const char *note, size_t n, const struct note_key *k, struct checkpoint *c,
                      struct err *e) MUST_USE; // signed by k, a log's, whose name is the origin

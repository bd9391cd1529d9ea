// What two workers compare before they exchange rows: SHA-256 of a model file's parts. Threads: a thread of its own
// reads the file while the model is loaded.
#pragma once

#include "base/err.h"
#include <stdint.h>

enum { DIGEST_SIZE = 65 }; // hexadecimal, with its NUL

struct digests {
    // Architecture, shapes, rope parameters, tokenizer: all metadata that computing depends on, in the order of their
    // names; and the names and shapes of the tensors.
    char contract[DIGEST_SIZE];
    char weights[DIGEST_SIZE]; // the tensors' types and bytes
};

struct digest;

// Begins to read. parts: how many files the model is split into, 0 or 1 = one.
struct digest *digest_start(const char *path, int64_t parts, struct err *e) MUST_USE;

// Waits for the end; `tell` is called every 50 ms meanwhile (may be NULL). Frees d, as does digest_free, which does
// not wait for the whole file.
int digest_finish(struct digest *d, void (*tell)(void *arg), void *arg, struct digests *out, struct err *e) MUST_USE;
void digest_free(struct digest *d); // NULL is fine

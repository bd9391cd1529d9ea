// From the bytes of tokens to text that may be shown: valid UTF-8, no character split, no part of a stop string. Pure;
// one owner.
//
// What is wrong becomes U+FFFD, and so does NUL. Bytes that may still become a character, and text that may still
// become a stop string, are held back. Text is examined byte by byte, so that the result does not depend on how it was
// cut into tokens: the stop string that is complete first wins, the longest of several that end at the same byte.
#pragma once

#include "base/buf.h"
#include "base/limits.h"

struct detok {
    struct buf bytes; // the beginning of a character
    struct buf held;  // text that may turn out to be a stop string
    size_t n_stop;
    char *const *stop; // borrowed
};

enum { DETOK_PIECE = 64 << 10 }; // bytes of one token's text

void detok_init(struct detok *d, char *const *stop, size_t n_stop); // stop: valid for d's lifetime
void detok_close(struct detok *d);

// Takes the bytes of one token and appends to out what may be shown. Returns the index of the stop string that is
// complete now (the text before it was appended, what follows is dropped), -1 where there is none. Out of memory shows
// as out->failed.
int detok_push(struct detok *d, const char *piece, size_t n, struct buf *out);

// The end: what was held back is text after all.
void detok_flush(struct detok *d, struct buf *out);

// A growable byte buffer with a maximum that is fixed at birth. The content is always followed by a NUL that is not
// counted. A failed append leaves the content as it was and sets `failed`, so that a run of appends may be checked once
// at its end.
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data; // NULL until the first append; owned
    size_t len, cap, max;
    bool failed; // an append did not fit or memory ran out
};

void buf_init(struct buf *b, size_t max);
void buf_free(struct buf *b);  // also resets to the state after buf_init
void buf_clear(struct buf *b); // keeps the memory; clears `failed`

int buf_append(struct buf *b, const void *data, size_t n);
int buf_puts(struct buf *b, const char *s);
int buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_consume(struct buf *b, size_t n); // drops the first n bytes (n <= len)
char *buf_str(struct buf *b);              // the content as a C string ("" when empty); borrowed until the next append
int buf_reserve(struct buf *b, size_t n);  // room for n more bytes

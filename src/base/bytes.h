// Bytes as text and back, strictly: what decodes has exactly one encoding. Pure functions. Threads: any.
#pragma once

#include <stddef.h>
#include <stdint.h>

// 2n lower-case digits and a NUL.
void hex_encode(const void *data, size_t n, char *out);

// Whole text of exactly 2n lower-case digits. 0, or -1 (out is then undefined); text may be NULL: -1.
int hex_decode(const char *text, void *out, size_t n);

// URL-safe base64 without padding (RFC 4648, section 5). BASE64_SIZE(n) bytes with the NUL.
#define BASE64_SIZE(n) (((n)*4 + 2) / 3 + 1)
void base64_encode(const void *data, size_t n, char *out);

// text[0..len) into out (max bytes); *n = bytes written. 0, or -1 where it is not canonical or does not fit.
int base64_decode(const char *text, size_t len, uint8_t *out, size_t max, size_t *n);

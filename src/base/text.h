// Small text helpers: UTF-8 and strings from outside. Pure functions. Threads: any.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// Copies src to dst (size bytes, always terminated), with control characters, DEL and invalid UTF-8 shown as \xNN, so
// that the result is safe on a terminal and in a log line.
void text_escape(char *dst, size_t size, const char *src);

// Whether s[0..n) is valid UTF-8 (no surrogates, no overlong forms, at most U+10FFFF).
bool text_is_utf8(const char *s, size_t n);

// The length of the longest prefix of s[0..n) that does not end inside a character. Invalid bytes count as complete.
size_t text_utf8_complete(const char *s, size_t n);

// The length of the valid UTF-8 character at s (1..4, n >= 1 bytes left), 0 where the bytes are invalid, -1 where they
// are the beginning of a character that n bytes cut off.
int text_utf8_char(const char *s, size_t n);

// Parses a whole decimal integer within [min, max]. Returns 0, or -1 where s is anything else.
int text_parse_long(const char *s, long min, long max, long *out);

// Whether `name` is fit to name a model: 1..128 bytes of [A-Za-z0-9._-], not beginning with '.' or '-'.
bool text_is_name(const char *name);

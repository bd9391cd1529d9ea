// What depends on a terminal: colours, its width, and text that is safe to show on it. Data goes to stdout, everything
// else to stderr.
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

bool term_is_tty(int fd);
int term_width(int fd); // columns; 80 where unknown

enum style { STYLE_BOLD, STYLE_DIM, STYLE_GREEN, STYLE_YELLOW, STYLE_RED, STYLE_CYAN, STYLE_END };
// The escape sequence, or "" where fd is no terminal, TERM is dumb or NO_COLOR is set.
const char *term_style(int fd, enum style s);

enum { SIZE_TEXT = 24, ESCAPED_MAX = 1024 };
const char *term_size(char out[SIZE_TEXT], uint64_t bytes);       // "4.7 GB", SI units
const char *term_count(char out[SIZE_TEXT], uint64_t n);          // "8.0 B", "22.4 M", "512"
const char *term_duration(char out[SIZE_TEXT], uint64_t seconds); // "24s", "3m 20s", "2h 5m", "4d 3h"

// Columns that UTF-8 text takes (one per character; wide ones are counted as one).
size_t term_columns(const char *text);

// One line on stderr, its control characters escaped.
void term_notice(const char *fmt, ...) PRINTF_LIKE(1, 2);
void term_note(FILE *to, const char *fmt, ...) PRINTF_LIKE(2, 3); // the same there

// v as one line on stdout, given away (decref'd); NULL (out of memory) and a failed write are errors.
int term_print_json(json_t *v, struct err *e) MUST_USE;

// Removes escape sequences and control characters other than newline and tab from a stream of text, across its pieces.
// A sequence without an end stops at the next newline, so that it cannot swallow an answer.
struct cleaner {
    enum { CLEAN_TEXT, CLEAN_ESC, CLEAN_CSI, CLEAN_STRING, CLEAN_STRING_ESC } state;
    bool held; // the last byte was the first half of a C1 control (0xC2)
};
int clean_append(struct cleaner *c, struct buf *out, const char *text, size_t n) MUST_USE;

// How a log travels from node to node: pieces of its file, in JSON messages. docs/audit-format.md. Pure. Threads: any.
//     {"t":"audit.want","log":ORIGIN,"at":N,"bytes":M}                   at most M bytes of that log, from byte N on
//     {"t":"audit.piece","log":ORIGIN,"at":N,"data":BASE64,"note":NOTE}  note: of a mirror, what it reaches
//     {"t":"audit.piece","log":ORIGIN,"at":N,"error":TEXT}               it cannot be had
#pragma once

#include "audit/note.h"
#include "base/bytes.h"
#include <jansson.h>

enum { PIECE_LEAST = 4 << 10, PIECE_MOST = 128 << 10, PIECE_ERROR = 256 };
// A frame is shorter than a piece may be, so that each piece can bring one.

struct piece_want {
    const char *log; // borrowed
    uint64_t at;
    size_t bytes; // 0: only the note
};
json_t *piece_want_json(const struct piece_want *w); // a new reference; NULL when out of memory
int piece_want_read(const json_t *msg, struct piece_want *out, struct err *e) MUST_USE;

struct piece {
    const char *log; // all borrowed
    uint64_t at;
    const char *data; // URL-safe base64 without padding, PIECE_MOST bytes at most; NULL: there is an error
    size_t n;         // of that text
    const char *note; // NULL: none
    size_t note_len;
    const char *error;
};
json_t *piece_json(const struct piece *p);
int piece_read(const json_t *msg, struct piece *out, struct err *e) MUST_USE;

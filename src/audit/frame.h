// What stands in the file of an audit log: frames
//     length of the data (4 bytes) | CRC-32C (4) | type (1) | data
// numbers little-endian, the CRC over length, type and data. Data is a record, {"v":1,"seq":N,"type":"..",...} in one
// line of ASCII, or a checkpoint. docs/audit-format.md has it all. Pure. Threads: any.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FRAME_HEAD = 9, FRAME_MAX = 64 << 10 }; // FRAME_MAX: bytes of data

enum frame_type {
    FRAME_INTENT = 1,
    FRAME_DENY,
    FRAME_PREFILL_DONE,
    FRAME_KV_SENT,
    FRAME_KV_RECV,
    FRAME_OUTCOME,
    FRAME_POLICY,
    FRAME_ROSTER,
    FRAME_AGENT,
    FRAME_PRUNE,
    FRAME_RECOVER,
    FRAME_GAP,
    FRAME_RECORDS, // those before are records
    FRAME_CHECKPOINT = 64,
};

const char *frame_type_name(enum frame_type t); // "intent"; NULL: no record

struct frame {
    enum frame_type type;
    const char *data; // borrowed
    size_t n;
};

void frame_head(enum frame_type type, const void *data, size_t n, uint8_t out[FRAME_HEAD]);
// Reads the frame at the beginning of p[0..n): 1, and *used, its bytes in all; 0: it goes on behind n; -1: damaged.
int frame_read(const uint8_t *p, size_t n, struct frame *f, size_t *used);

// How a record begins: its number, its type, and the number of the intent that it belongs to (RECORD_ALONE: none).
#define RECORD_ALONE UINT64_MAX
enum { RECORD_BEGIN = 128 };
struct record_begin {
    uint64_t seq, intent;
    enum frame_type type;
};
// {"v":1,"seq":N,"type":"T", or {"v":1,"seq":N,"type":"T","intent":M, - the rest of the record follows. *n: its bytes.
void record_begin_write(const struct record_begin *r, char out[RECORD_BEGIN], size_t *n);
bool record_begin_read(const struct frame *f, struct record_begin *out); // false: it does not begin like this

// What stands in the file of an audit log: frames
//     length of the data (4 bytes) | CRC-32C (4) | type (1) | data
// numbers little-endian, the CRC over length, type and data. Data is a record, {"v":1,"seq":N,"type":"..",...} in one
// line of ASCII, or a checkpoint. docs/audit-format.md has it all. Pure. Threads: any.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ENTRY_HEAD = 9, ENTRY_MAX = 64 << 10 }; // ENTRY_MAX: bytes of data

enum entry_type {
    ENTRY_INTENT = 1,
    ENTRY_DENY,
    ENTRY_PREFILL_DONE,
    ENTRY_KV_SENT,
    ENTRY_KV_RECV,
    ENTRY_OUTCOME,
    ENTRY_POLICY,
    ENTRY_ROSTER,
    ENTRY_AGENT,
    ENTRY_PRUNE,
    ENTRY_RECOVER,
    ENTRY_GAP,
    ENTRY_RESERVE,
    ENTRY_WITNESS,
    ENTRY_RECORDS, // those before are records
    ENTRY_CHECKPOINT = 64,
};

const char *entry_type_name(enum entry_type t); // "intent"; NULL: no record

struct entry {
    enum entry_type type;
    const char *data; // borrowed
    size_t n;
};

void entry_head(enum entry_type type, const void *data, size_t n, uint8_t out[ENTRY_HEAD]);
// Reads the frame at the beginning of p[0..n): 1, and *used, its bytes in all; 0: it goes on behind n; -1: damaged.
int entry_read(const uint8_t *p, size_t n, struct entry *f, size_t *used);

// How a record begins: its number, its type, and the number of the intent that it belongs to (RECORD_ALONE: none).
#define RECORD_ALONE UINT64_MAX
enum { RECORD_BEGIN = 128 };
struct record_begin {
    uint64_t seq, intent;
    enum entry_type type;
};
// {"v":1,"seq":N,"type":"T", or {"v":1,"seq":N,"type":"T","intent":M, - the rest of the record follows. *n: its bytes.
void record_begin_write(const struct record_begin *r, char out[RECORD_BEGIN], size_t *n);
bool record_begin_read(const struct entry *f, struct record_begin *out); // false: it does not begin like this

// What of one KV stream has arrived, and where the rest of it goes: which unit, which slot, which bytes. Refuses every
// frame that does not fit, with the reason. Holds no rows and does no I/O: slots are numbers from 0 here. Threads: one
// at a time.
//
// The first frame of a stream says as which type all its rows travel: what is computed from rows that were rounded is
// marked by it (serve/site.c). The first frame of a unit, whatever its layer, says what the unit is: [first, first +
// count). The unit takes a slot,
// and all its other frames must say the same. Each layer's K and V is claimed once, before its bytes are read, so that
// no two connections ever write to the same place. A state (KV_OPAQUE) is one unit from 0 to its length in bytes; its
// pieces begin at multiples of ASSEMBLY_GRAIN and, but for the last one, end there.
#pragma once

#include "engine/kv.h"
#include "net/frame.h"
#include <stdbool.h>

enum { ASSEMBLY_GRAIN = KV_GRAIN };

struct assembly;

struct piece { // a frame's place
    int32_t slot;
    size_t offset, bytes;   // in the slot
    size_t elements;        // of rows
    enum kv_dtype from, to; // the frame's type and the cache's; where they differ, the rows are to be converted
};

// Expects positions [first, last) in slots of slot_bytes. The shape is checked and copied.
struct assembly *assembly_new(const struct kv_shape *shape, int32_t first, int32_t last, int32_t n_slots,
                              size_t slot_bytes, struct err *e) MUST_USE;
void assembly_free(struct assembly *a); // NULL is fine

// Claims the place of a decoded frame. A refusal (ERR_INVALID; ERR_BUSY: no slot is free) changes nothing.
int assembly_claim(struct assembly *a, const struct kvframe *f, struct piece *p, struct err *e) MUST_USE;
bool assembly_arrived(struct assembly *a, const struct piece *p); // its bytes are there; true: its unit is complete

// The next unit in order, if it is complete: told once.
bool assembly_next(struct assembly *a, int32_t *slot, int32_t *first, int32_t *count);
int assembly_installed(struct assembly *a, int32_t slot) MUST_USE; // -1: no unit that was told lies there
int32_t assembly_upto(const struct assembly *a);                   // all before is complete (told or not)

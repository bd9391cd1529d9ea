// The memory that a daemon shares with one worker, for KV rows on their way: blocks, into which the worker copies rows
// that leave (one block = the rows of one layer, K or V, of one unit, or a piece of a state), and slots, in which units
// (or states) that arrive are assembled. A memfd (or an unlinked shm object) that the worker inherits as file
// descriptor 4 and maps once an "arena" message has told its size. Bounded: when all blocks are taken, rows wait in the
// KV cache; when all slots are, a new stream is refused. Threads: the event-loop thread, but the bytes of a block or
// slot belong to whoever was given it, and arena_ref and arena_unref may be called on any thread: data threads may
// finish with it after its worker has died.
#pragma once

#include "engine/kv.h"
#include <stdbool.h>

struct arena;

struct arena *arena_new(struct err *e) MUST_USE; // empty
struct arena *arena_ref(struct arena *a);
void arena_unref(struct arena *a);   // NULL is fine; the last one unmaps
int arena_fd(const struct arena *a); // borrowed

// Sizes and maps it, at most `bytes` in all: a quarter for blocks, the rest for slots of a shape that was checked;
// where a state travels whole, a slot holds one, and an eighth is enough for blocks. Its memory is taken from the
// system later, and kept: for slots when they are taken first, for blocks by arena_reserve. (Memory that is only
// touched would end the process that touches it, where the system has none left.) Where the system can, the size is
// sealed: a worker cannot cut memory off that the daemon reads. Fails with ERR_LIMIT where not one block and one slot
// fit, ERR_IO where the system refuses (then streams are refused, and all else works). Once.
int arena_size(struct arena *a, const struct kv_shape *s, size_t bytes, struct err *e) MUST_USE;
size_t arena_bytes(const struct arena *a); // 0 = not sized

// Takes the blocks' memory from the system, once; before rows may leave. ERR_BUSY where the system has none left.
int arena_reserve(struct arena *a, struct err *e) MUST_USE;
int32_t arena_blocks(const struct arena *a);
size_t arena_block_bytes(const struct arena *a);
void *arena_block(const struct arena *a, int32_t block); // NULL where there is no such block

// Takes n slots or none. Fails with ERR_BUSY, also where the system has no memory left for them.
int arena_take(struct arena *a, int32_t n, int32_t *slots, struct err *e) MUST_USE;
void arena_give(struct arena *a, int32_t slot); // of one that is not taken: nothing
int32_t arena_slots(const struct arena *a);
void *arena_slot(const struct arena *a, int32_t slot);         // NULL where there is no such slot
size_t arena_slot_offset(const struct arena *a, int32_t slot); // from the beginning of the memory

// Done with a block that the worker gave: it goes back there, if the worker lives yet. Event-loop thread.
void arena_return(struct arena *a, int32_t block);

// ---- for the engine's handle
void arena_on_return(struct arena *a, void (*back)(void *arg, int32_t block), void *arg); // NULL: not any more
// A block comes from the worker and goes back to it. -1 where there is no such block, or it is here (not here) already;
// a block that comes before arena_reserve is none.
int arena_block_in(struct arena *a, int32_t block) MUST_USE;
int arena_block_out(struct arena *a, int32_t block) MUST_USE;
// A slot that the worker may be reading is not taken anew, even when it was given back, until it is unpinned as often
// as it was pinned. -1 where the slot is not taken.
int arena_pin(struct arena *a, int32_t slot) MUST_USE;
void arena_unpin(struct arena *a, int32_t slot);

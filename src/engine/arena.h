// The memory that a daemon shares with one worker, for KV rows on their way: blocks, into which the worker copies rows
// that leave (one block = the rows of one layer, K or V, of one unit), and slots, in which units that arrive are
// assembled. A memfd (or an unlinked shm object) that the worker inherits as file descriptor 4 and maps once an "arena"
// message has told its size. Bounded: when all blocks are taken, rows wait in the KV cache; when all slots are, a new
// stream is refused.
// Threads: the event-loop thread, but the bytes of a block or slot belong to whoever was given it. Reference-counted,
// so that data threads may finish with it after its worker has died.
#pragma once

#include "engine/kv.h"
#include <stdbool.h>

struct arena;

struct arena *arena_new(struct err *e) MUST_USE; // empty
struct arena *arena_ref(struct arena *a);
void arena_unref(struct arena *a);   // NULL is fine; the last one unmaps
int arena_fd(const struct arena *a); // borrowed

// Sizes and maps it: `blocks` blocks, then as many slots as fit into `bytes` (at most `most` bytes in all). Fails with
// ERR_IO where there is no memory for it (then streams are refused, and all else works). Once.
int arena_size(struct arena *a, const struct kv_shape *s, size_t bytes, struct err *e) MUST_USE;
size_t arena_bytes(const struct arena *a); // 0 = not sized

int32_t arena_blocks(const struct arena *a);
size_t arena_block_bytes(const struct arena *a);
void *arena_block(const struct arena *a, int32_t block); // NULL where there is no such block

// Takes n slots or none. Fails with ERR_BUSY.
int arena_take(struct arena *a, int32_t n, int32_t *slots, struct err *e) MUST_USE;
void arena_give(struct arena *a, int32_t slot);
void *arena_slot(const struct arena *a, int32_t slot);
size_t arena_slot_offset(const struct arena *a, int32_t slot); // from the beginning of the memory

// The memory that this worker shares with its daemon (engine/arena.h), as the worker sees it. Threads: the control
// thread maps it and gives blocks back, the compute thread takes blocks and reads slots.
#pragma once

#include "engine/protocol.h"
#include <pthread.h>

struct blocks {
    pthread_mutex_t lock;
    unsigned char *memory; // NULL: none is shared
    struct arena_info info;
    int32_t *idle, n_idle; // those that nothing is in
    bool *away;            // those that the daemon has
};

void blocks_init(struct blocks *b);
void blocks_close(struct blocks *b);

int blocks_map(struct blocks *b, int fd, const struct arena_info *info, struct err *e) MUST_USE; // once
int blocks_give(struct blocks *b, const int32_t *list, int32_t n); // -1: some were not away; the others are back

int32_t blocks_take(struct blocks *b); // -1: none is idle
void *blocks_at(const struct blocks *b, int32_t block);
// The bytes of a unit in a slot; NULL where they are not all in the slots' part of the memory.
unsigned char *blocks_unit(const struct blocks *b, int64_t offset, size_t bytes);

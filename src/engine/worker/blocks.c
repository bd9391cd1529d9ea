#include "engine/worker/blocks.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

void blocks_init(struct blocks *b) {
    *b = (struct blocks){.memory = NULL};
    pthread_mutex_init(&b->lock, NULL);
}

void blocks_close(struct blocks *b) {
    if (b->memory) munmap(b->memory, (size_t)b->info.bytes);
    free(b->idle);
    free(b->away);
    pthread_mutex_destroy(&b->lock);
}

int blocks_map(struct blocks *b, int fd, const struct arena_info *info, struct err *e) {
    struct stat st;
    if (b->memory) return err_set(e, ERR_INVALID, "memory is shared already");
    if (fstat(fd, &st)) return err_errno(e, "no memory is shared");
    if (st.st_size < info->bytes)
        return err_set(e, ERR_INVALID, "the shared memory has %lld bytes, not %lld", (long long)st.st_size,
                       (long long)info->bytes);
    b->idle = calloc((size_t)info->blocks, sizeof *b->idle);
    b->away = calloc((size_t)info->blocks, sizeof *b->away);
    if (!b->idle || !b->away) return err_set(e, ERR_INTERNAL, "out of memory");
    void *memory = mmap(NULL, (size_t)info->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) return err_errno(e, "cannot map the shared memory");
    pthread_mutex_lock(&b->lock);
    b->memory = memory;
    b->info = *info;
    for (int32_t i = info->blocks; i > 0;) b->idle[b->n_idle++] = --i;
    pthread_mutex_unlock(&b->lock);
    return 0;
}

int blocks_give(struct blocks *b, const int32_t *list, int32_t n) {
    int rc = 0;
    pthread_mutex_lock(&b->lock);
    for (int32_t i = 0; i < n; i++) {
        if (list[i] < 0 || list[i] >= b->info.blocks || !b->away[list[i]]) {
            rc = -1;
            continue;
        }
        b->away[list[i]] = false;
        b->idle[b->n_idle++] = list[i];
    }
    pthread_mutex_unlock(&b->lock);
    return rc;
}

int32_t blocks_take(struct blocks *b) {
    pthread_mutex_lock(&b->lock);
    int32_t block = b->n_idle ? b->idle[--b->n_idle] : -1;
    if (block >= 0) b->away[block] = true;
    pthread_mutex_unlock(&b->lock);
    return block;
}

void *blocks_at(const struct blocks *b, int32_t block) {
    return b->memory + (size_t)block * (size_t)b->info.block_bytes;
}

unsigned char *blocks_unit(const struct blocks *b, int64_t offset, size_t bytes) {
    int64_t begin = b->info.blocks * b->info.block_bytes;
    if (!b->memory || offset < begin || offset > b->info.bytes || (uint64_t)(b->info.bytes - offset) < bytes)
        return NULL;
    return b->memory + offset;
}

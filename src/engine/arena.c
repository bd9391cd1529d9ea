#include "engine/arena.h"
#include "base/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ALIGNMENT = KV_GRAIN,
    BLOCKS_SHARE = 4,       // of the memory, one part in so many
    STATE_BLOCKS_SHARE = 8, // where states travel
    STATE_BLOCK = 1 << 20   // bytes of a piece of a state
};

struct slot {
    bool taken, reserved;
    int32_t pins;
};

struct arena {
    atomic_int refs;
    int fd;
    unsigned char *memory;
    size_t bytes, block_bytes, slot_bytes;
    int32_t n_blocks, n_slots;
    bool reserved; // the blocks' memory is
    bool *blocks;  // here, not with the worker
    struct slot *slots;
    void (*back)(void *arg, int32_t block);
    void *arg;
};

// ---------------------------------------------------------------- the memory
#ifdef MFD_ALLOW_SEALING
static int open_memory(void) { return memfd_create("nebulus-kv", MFD_CLOEXEC | MFD_ALLOW_SEALING); }
static int seal_memory(int fd) { return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL); }
#else
static int open_memory(void) {
    static atomic_int serial;
    char name[64];
    snprintf(name, sizeof name, "/nebulus-kv-%ld-%d", (long)getpid(), atomic_fetch_add(&serial, 1));
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd >= 0) {
        shm_unlink(name);
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    return fd;
}
static int seal_memory(int fd) {
    (void)fd;
    return 0;
}
#endif

// Until then a page of it is taken when it is touched, and where there is none that is a SIGBUS.
static int reserve_memory(const struct arena *a, size_t from, size_t bytes, struct err *e) {
#ifdef __linux__
    int rc;
    do rc = fallocate(a->fd, 0, (off_t)from, (off_t)bytes);
    while (rc && errno == EINTR);
    if (rc)
        return err_set(e, ERR_BUSY,
                       "the system has no memory for KV rows on their way: %s; lower kv_buffer, or end "
                       "other programs",
                       strerror(errno));
#else
    (void)a, (void)from, (void)bytes, (void)e;
#endif
    return 0;
}

struct arena *arena_new(struct err *e) {
    struct arena *a = calloc(1, sizeof *a);
    if (!a) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    atomic_init(&a->refs, 1);
    a->fd = open_memory();
    if (a->fd >= 0) return a;
    err_errno(e, "cannot make shared memory");
    free(a);
    return NULL;
}

struct arena *arena_ref(struct arena *a) {
    atomic_fetch_add(&a->refs, 1);
    return a;
}

void arena_unref(struct arena *a) {
    if (!a || atomic_fetch_sub(&a->refs, 1) > 1) return;
    if (a->memory) munmap(a->memory, a->bytes);
    close(a->fd);
    free(a->blocks);
    free(a->slots);
    free(a);
}

int arena_fd(const struct arena *a) { return a->fd; }

// ---------------------------------------------------------------- its parts
static size_t align(size_t n) { return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static int32_t at_most(size_t n, unsigned most) { return (int32_t)(n < most ? n : most); }

static size_t block_size(const struct kv_shape *s, size_t bytes) {
    if (s->form == KV_OPAQUE) {
        size_t most = bytes / STATE_BLOCKS_SHARE / ALIGNMENT * ALIGNMENT, state = align((size_t)s->state);
        if (most > STATE_BLOCK) most = STATE_BLOCK;
        return state < most ? state : most;
    }
    size_t k = kv_row_bytes(s, KV_K, s->dtype), v = kv_row_bytes(s, KV_V, s->dtype);
    return align((size_t)s->unit * (k > v ? k : v));
}

static int divide(struct arena *a, const struct kv_shape *s, size_t bytes, struct err *e) {
    size_t share = s->form == KV_OPAQUE ? STATE_BLOCKS_SHARE : BLOCKS_SHARE;
    a->block_bytes = block_size(s, bytes);
    a->slot_bytes = align(kv_slot_most(s));
    if (!a->slot_bytes) return err_set(e, ERR_LIMIT, "the state of a sequence is too large to travel, or not known");
    a->n_blocks = a->block_bytes ? at_most(bytes / share / a->block_bytes, LIMIT_KV_BLOCKS) : 0;
    a->n_slots = at_most((bytes - bytes / share) / a->slot_bytes, LIMIT_KV_SLOTS);
    if (!a->n_blocks || !a->n_slots)
        return err_set(e, ERR_LIMIT, "%zu bytes are too few for what a sequence remembers, raise kv_buffer to %zu MB",
                       bytes, (2 * a->slot_bytes + share * a->block_bytes) / (1u << 20) + 1);
    a->blocks = calloc((size_t)a->n_blocks, sizeof *a->blocks);
    a->slots = calloc((size_t)a->n_slots, sizeof *a->slots);
    return a->blocks && a->slots ? 0 : err_set(e, ERR_INTERNAL, "out of memory");
}

int arena_size(struct arena *a, const struct kv_shape *s, size_t bytes, struct err *e) {
    struct stat st;
    if (divide(a, s, bytes, e)) return -1;
    size_t all = (size_t)a->n_blocks * a->block_bytes + (size_t)a->n_slots * a->slot_bytes;
    // the worker has the descriptor, too: only what cannot change any more counts
    if (ftruncate(a->fd, (off_t)all) || seal_memory(a->fd) || fstat(a->fd, &st))
        return err_errno(e, "cannot have %zu bytes of shared memory", all);
    if ((size_t)st.st_size != all) return err_set(e, ERR_IO, "the shared memory has changed its size");
    void *memory = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
    if (memory == MAP_FAILED) return err_errno(e, "cannot map %zu bytes of shared memory", all);
    a->memory = memory;
    a->bytes = all;
    return 0;
}

size_t arena_bytes(const struct arena *a) { return a->bytes; }

// ---------------------------------------------------------------- blocks
int32_t arena_blocks(const struct arena *a) { return a->n_blocks; }
size_t arena_block_bytes(const struct arena *a) { return a->block_bytes; }

static bool is_block(const struct arena *a, int32_t block) { return a->bytes && block >= 0 && block < a->n_blocks; }

int arena_reserve(struct arena *a, struct err *e) {
    if (a->reserved || !a->bytes) return 0;
    if (reserve_memory(a, 0, (size_t)a->n_blocks * a->block_bytes, e)) return -1;
    a->reserved = true;
    return 0;
}

void *arena_block(const struct arena *a, int32_t block) {
    return is_block(a, block) ? a->memory + (size_t)block * a->block_bytes : NULL;
}

static int move_block(struct arena *a, int32_t block, bool here) {
    if (!is_block(a, block) || a->blocks[block] == here) return -1;
    a->blocks[block] = here;
    return 0;
}
int arena_block_in(struct arena *a, int32_t block) { return a->reserved ? move_block(a, block, true) : -1; }
int arena_block_out(struct arena *a, int32_t block) { return move_block(a, block, false); }

// ---------------------------------------------------------------- slots
static bool is_slot(const struct arena *a, int32_t slot) { return a->bytes && slot >= 0 && slot < a->n_slots; }

int32_t arena_slots(const struct arena *a) { return a->n_slots; }

static int reserve_slot(struct arena *a, int32_t slot, struct err *e) {
    if (a->slots[slot].reserved) return 0;
    if (reserve_memory(a, arena_slot_offset(a, slot), a->slot_bytes, e)) return -1;
    a->slots[slot].reserved = true;
    return 0;
}

int arena_take(struct arena *a, int32_t n, int32_t *slots, struct err *e) {
    int32_t found = 0;
    for (int32_t i = 0; a->bytes && i < a->n_slots && found < n; i++)
        if (!a->slots[i].taken && !a->slots[i].pins) slots[found++] = i;
    if (found < n)
        return err_set(e, ERR_BUSY,
                       "the memory for KV rows on their way is taken: try again later, or raise kv_buffer");
    for (int32_t i = 0; i < n; i++)
        if (reserve_slot(a, slots[i], e)) return -1;
    for (int32_t i = 0; i < n; i++) a->slots[slots[i]].taken = true;
    return 0;
}

void arena_give(struct arena *a, int32_t slot) {
    if (is_slot(a, slot)) a->slots[slot].taken = false;
}

size_t arena_slot_offset(const struct arena *a, int32_t slot) {
    return (size_t)a->n_blocks * a->block_bytes + (size_t)slot * a->slot_bytes;
}

void *arena_slot(const struct arena *a, int32_t slot) {
    return is_slot(a, slot) ? a->memory + arena_slot_offset(a, slot) : NULL;
}

int arena_pin(struct arena *a, int32_t slot) {
    if (!is_slot(a, slot) || !a->slots[slot].taken) return -1;
    a->slots[slot].pins++;
    return 0;
}

void arena_unpin(struct arena *a, int32_t slot) {
    if (is_slot(a, slot) && a->slots[slot].pins > 0) a->slots[slot].pins--;
}

void arena_on_return(struct arena *a, void (*back)(void *arg, int32_t block), void *arg) {
    a->back = back;
    a->arg = arg;
}

void arena_return(struct arena *a, int32_t block) {
    if (a->back) a->back(a->arg, block);
}

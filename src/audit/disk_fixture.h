// For tests: a disk in memory. It loses what was not synchronized when the power is cut, and any operation may fail.
#pragma once

#include "audit/io.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { DISK_FILES = 6, DISK_MOST = 256 << 10, DISK_SECTOR = 512 };
enum disk_harm {
    DISK_FINE,
    DISK_FAILS, // the operation number harm_at, with EIO; those after it are well
    DISK_DIES,  // the power is cut before it ends
};

struct disk_file {
    char name[64];
    char *data, *durable; // DISK_MOST bytes each
    size_t n, n_durable;
};

struct disk {
    struct disk_file files[DISK_FILES];
    enum disk_harm harm;
    uint64_t operations, harm_at, random;
    bool dead;
    pthread_mutex_t lock;
};

static inline void disk_init(struct disk *d, uint64_t seed) {
    *d = (struct disk){.random = seed * 0x9e3779b97f4a7c15u + 1};
    pthread_mutex_init(&d->lock, NULL);
}

static inline void disk_free(struct disk *d) {
    for (int i = 0; i < DISK_FILES; i++) {
        free(d->files[i].data);
        free(d->files[i].durable);
    }
    pthread_mutex_destroy(&d->lock);
}

static inline uint64_t disk_random(struct disk *d, uint64_t n) { // xorshift64
    d->random ^= d->random << 13;
    d->random ^= d->random >> 7;
    d->random ^= d->random << 17;
    return d->random % n;
}

static inline int disk_find(struct disk *d, const char *path, bool make) {
    const char *slash = strrchr(path, '/');
    for (int i = 0; i < DISK_FILES; i++) {
        struct disk_file *f = &d->files[i];
        if (f->data && !strcmp(f->name, slash + 1)) return i;
        if (f->data || !make) continue;
        strncat(f->name, slash + 1, sizeof f->name - 1);
        f->data = calloc(1, DISK_MOST);
        f->durable = calloc(1, DISK_MOST);
        return i;
    }
    errno = ENOENT;
    return -1;
}

// Whether an operation that changes something comes to be.
static inline bool disk_does(struct disk *d) {
    bool hit = d->harm != DISK_FINE && d->operations++ == d->harm_at;
    if (hit && d->harm == DISK_DIES) d->dead = true;
    errno = EIO;
    return !d->dead && !hit;
}

static inline int disk_open(void *arg, const char *path, bool write) { return disk_find(arg, path, write); }

static inline int64_t disk_size(void *arg, int file) { return (int64_t)((struct disk *)arg)->files[file].n; }

static inline int64_t disk_read(void *arg, int file, void *data, size_t n, uint64_t offset) {
    struct disk_file *f = &((struct disk *)arg)->files[file];
    if (offset >= f->n) return 0;
    if (n > f->n - offset) n = f->n - offset;
    memcpy(data, f->data + offset, n);
    return (int64_t)n;
}

static inline int disk_write(void *arg, int file, const void *data, size_t n, uint64_t offset) {
    struct disk *d = arg;
    struct disk_file *f = &d->files[file];
    pthread_mutex_lock(&d->lock);
    bool full = offset + n + DISK_SECTOR > DISK_MOST, bad = !disk_does(d) || full;
    if (bad) n = full ? 0 : disk_random(d, n + 1); // the beginning of it may have come to be
    if (n) memcpy(f->data + offset, data, n);
    if (n && offset + n > f->n) f->n = offset + n;
    pthread_mutex_unlock(&d->lock);
    return bad ? -1 : 0;
}

static inline int disk_sync(void *arg, int file) {
    struct disk *d = arg;
    struct disk_file *f = &d->files[file];
    pthread_mutex_lock(&d->lock);
    bool well = disk_does(d);
    if (well) memcpy(f->durable, f->data, DISK_MOST);
    if (well) f->n_durable = f->n;
    pthread_mutex_unlock(&d->lock);
    return well ? 0 : -1;
}

static inline int disk_truncate(void *arg, int file, uint64_t size) {
    struct disk *d = arg;
    struct disk_file *f = &d->files[file];
    if (!disk_does(d)) return -1;
    memset(f->data + size, 0, DISK_MOST - size);
    f->n = size;
    if (f->n_durable > size) f->n_durable = size; // a file system that is quick about it
    return 0;
}

static inline void disk_close(void *arg, int file) { (void)arg, (void)file; }

static inline int disk_replace(void *arg, const char *path, const void *data, size_t n) {
    struct disk *d = arg;
    if (!disk_does(d)) return -1;
    struct disk_file *f = &d->files[disk_find(d, path, true)];
    memcpy(f->data, data, n);
    memcpy(f->durable, data, n);
    f->n = f->n_durable = n;
    return 0;
}

static inline int disk_load(void *arg, const char *path, void *data, size_t max, size_t *n) {
    int file = disk_find(arg, path, false);
    if (file < 0) return -1;
    *n = (size_t)disk_read(arg, file, data, max, 0);
    return 0;
}

static inline int disk_sync_dir(void *arg, const char *path) {
    (void)path;
    return disk_does(arg) ? 0 : -1;
}

static inline struct audit_io disk_io(struct disk *d) {
    return (struct audit_io){d,          disk_open,    disk_size, disk_read,    disk_write, disk_sync, disk_truncate,
                             disk_close, disk_replace, disk_load, disk_sync_dir};
}

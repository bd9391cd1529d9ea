#include "base/limits.h"
#include <stddef.h>

#if NEBULUS_HAVE_JINJA
#include "base/clock.h"
#include "engine/worker/template_heap.h"
#include <stdlib.h>
#include <string.h>

enum { LARGE = 32 << 10 };

struct heap_block {
    struct heap_block *previous, *next;
    size_t size;
    max_align_t data[];
};

static struct heap_block *block_of(const void *p) {
    return (struct heap_block *)((uintptr_t)p - offsetof(struct heap_block, data));
}

static size_t usable_size(const void *p) { return p ? block_of(p)->size : 0; }

bool heap_is_late(struct heap *h) {
    h->late = h->late || clock_mono_ns() > h->deadline;
    return h->late;
}

// Whether the runtime may grow by `more` for a block of `whole` bytes.
static bool fits(JSMallocState *s, size_t more, size_t whole) {
    struct heap *h = s->opaque;
    bool room = more <= LIMIT_TEMPLATE_MEMORY && s->malloc_size <= LIMIT_TEMPLATE_MEMORY - more;
    if (room && (whole < LARGE || !heap_is_late(h))) return true;
    h->refused = true;
    return false;
}

static void link_block(struct heap *h, struct heap_block *b) {
    b->previous = NULL;
    b->next = h->first;
    if (h->first) h->first->previous = b;
    h->first = b;
}

static void unlink_block(struct heap *h, struct heap_block *b) {
    if (b->next) b->next->previous = b->previous;
    if (b->previous)
        b->previous->next = b->next;
    else
        h->first = b->next;
}

static void *heap_malloc(JSMallocState *s, size_t size) {
    struct heap *h = s->opaque;
    if (!fits(s, sizeof(struct heap_block) + size, size)) return NULL;
    struct heap_block *b = malloc(sizeof *b + size);
    if (!b) {
        h->refused = true;
        return NULL;
    }
    b->size = size;
    link_block(h, b);
    s->malloc_count++;
    s->malloc_size += sizeof *b + size;
    return b->data;
}

static void heap_release(JSMallocState *s, void *p) {
    if (!p) return;
    struct heap_block *b = block_of(p);
    unlink_block(s->opaque, b);
    s->malloc_count--;
    s->malloc_size -= sizeof *b + b->size;
    free(b);
}

static void *heap_realloc(JSMallocState *s, void *p, size_t size) {
    if (!p) return size ? heap_malloc(s, size) : NULL;
    if (!size) {
        heap_release(s, p);
        return NULL;
    }
    struct heap *h = s->opaque;
    struct heap_block *b = block_of(p);
    size_t before = b->size;
    if (size > before && !fits(s, size - before, size)) return NULL;
    unlink_block(h, b);
    struct heap_block *moved = realloc(b, sizeof *b + size);
    if (!moved)
        h->refused = true;
    else
        moved->size = size;
    link_block(h, moved ? moved : b);
    if (!moved) return NULL;
    s->malloc_size = s->malloc_size - before + size;
    return moved->data;
}

void heap_free(struct heap *h) {
    while (h->first) {
        struct heap_block *b = h->first;
        h->first = b->next;
        free(b);
    }
}

const JSMallocFunctions heap_functions = {heap_malloc, heap_release, heap_realloc, usable_size};
#endif

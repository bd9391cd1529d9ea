#include "engine/worker/import.h"

#include <stdlib.h>
#include <string.h>

struct piece { // rows [at, at + count) of a unit that has `rows`
    const unsigned char *unit;
    int32_t rows, at, count;
};

static int install(struct importer *m, const unsigned char *blob, llama_seq_id slot, int32_t first, int32_t count) {
    llama_memory_t memory = llama_get_memory(m->ctx);
    size_t size = kv_slot_bytes(&m->layout->shape, count);
    if (llama_state_seq_set_data(m->ctx, blob, size, m->staging) != size) {
        llama_memory_seq_rm(memory, m->staging, -1, -1);
        return -1;
    }
    llama_memory_seq_cp(memory, m->staging, slot, first, first + count);
    llama_memory_seq_rm(memory, m->staging, -1, -1);
    return 0;
}

static void copy_rows(const struct importer *m, const struct piece *p, unsigned char *out) {
    const struct kv_shape *s = &m->layout->shape;
    for (int k = 0; k < KV_KINDS; k++)
        for (int32_t layer = 0; layer < s->layers; layer++) {
            size_t bytes = kv_row_bytes(s, (enum kv_kind)k, s->dtype);
            memcpy(out + kv_plane_offset(s, p->count, layer, (enum kv_kind)k),
                   p->unit + kv_plane_offset(s, p->rows, layer, (enum kv_kind)k) + (size_t)p->at * bytes,
                   (size_t)p->count * bytes);
        }
}

static int install_piece(struct importer *m, const struct piece *p, llama_seq_id slot, int32_t first) {
    copy_rows(m, p, m->part);
    layout_frame(m->layout, m->part, first + p->at, p->count);
    return install(m, m->part, slot, first + p->at, p->count);
}

// In pieces of half the size, until all fit into what is free.
static int install_pieces(struct importer *m, const unsigned char *unit, llama_seq_id slot, int32_t first,
                          int32_t count) {
    struct piece p = {.unit = unit, .rows = count, .count = count / 2};
    while (p.at < count && p.count) {
        if (p.count > count - p.at) p.count = count - p.at;
        if (install_piece(m, &p, slot, first))
            p.count /= 2;
        else
            p.at += p.count;
    }
    return p.at == count ? 0 : -1;
}

int importer_install(struct importer *m, unsigned char *unit, llama_seq_id slot, int32_t first, int32_t count,
                     struct err *e) {
    layout_frame(m->layout, unit, first, count);
    if (!install(m, unit, slot, first, count)) return 0;
    size_t size = kv_slot_bytes(&m->layout->shape, count);
    if (size > m->room) {
        unsigned char *part = realloc(m->part, size);
        if (!part) return err_set(e, ERR_INTERNAL, "out of memory for rows that arrive");
        m->part = part;
        m->room = size;
    }
    if (!install_pieces(m, unit, slot, first, count)) return 0;
    llama_memory_seq_rm(llama_get_memory(m->ctx), slot, first, -1);
    return err_set(e, ERR_BUSY, "the KV cache has no room for the rows of this sequence");
}

void importer_close(struct importer *m) {
    free(m->part);
    m->part = NULL;
    m->room = 0;
}

#include "engine/worker/speed.h"
#include "base/clock.h"
#include "engine/worker/import.h"

#include <stdlib.h>

enum { TURNS = 6 };
static const uint64_t MOST_NS = 40 * NS_PER_MS;

// As the exporter does between steps. False: they cannot be taken out.
static bool take_out(const struct model *m, unsigned char *unit, int32_t count) {
    llama_memory_t memory = llama_get_memory(m->ctx);
    size_t size = kv_slot_bytes(&m->kv.layout.shape, count);
    llama_memory_seq_cp(memory, m->measuring, m->staging, 0, count);
    bool whole = llama_state_seq_get_size(m->ctx, m->staging) == size &&
                 llama_state_seq_get_data(m->ctx, unit, size, m->staging) == size;
    llama_memory_seq_rm(memory, m->staging, -1, -1);
    return whole;
}

static void keep_best(int64_t *best, double bytes, uint64_t from, uint64_t to) {
    double now = bytes * (double)NS_PER_S / (double)(to > from ? to - from : 1);
    if (now > (double)*best) *best = (int64_t)now;
}

void speed_measure(struct model *m) {
    const struct kv_shape *shape = &m->kv.layout.shape;
    struct importer in = {.layout = &m->kv.layout, .ctx = m->ctx, .staging = m->staging};
    int32_t count = shape->unit < m->info.kv_cells / 2 ? shape->unit : m->info.kv_cells / 2;
    unsigned char *unit = shape->form == KV_ROWS && count > 0 ? calloc(1, kv_slot_bytes(shape, count)) : NULL;
    double bytes = unit ? (double)count * (double)kv_token_bytes(shape, shape->dtype) : 0;
    uint64_t begun = clock_mono_ns();
    struct err e;
    for (int i = 0; unit && i < TURNS && clock_mono_ns() - begun < MOST_NS; i++) {
        uint64_t before = clock_mono_ns();
        if (importer_install(&in, unit, m->measuring, 0, count, &e)) break;
        uint64_t between = clock_mono_ns();
        if (!take_out(m, unit, count)) break;
        keep_best(&m->info.import_bytes_s, bytes, before, between);
        keep_best(&m->info.export_bytes_s, bytes, between, clock_mono_ns());
        llama_memory_seq_rm(llama_get_memory(m->ctx), m->measuring, -1, -1);
    }
    llama_memory_clear(llama_get_memory(m->ctx), true);
    free(unit);
}

#include "engine/worker/import.h"

int importer_install(const struct importer *m, unsigned char *unit, llama_seq_id slot, int32_t first, int32_t count,
                     struct err *e) {
    llama_memory_t memory = llama_get_memory(m->ctx);
    size_t size = kv_slot_bytes(&m->layout->shape, count);
    layout_frame(m->layout, unit, first, count);
    bool whole = llama_state_seq_set_data(m->ctx, unit, size, m->staging) == size;
    if (whole) llama_memory_seq_cp(memory, m->staging, slot, first, first + count);
    llama_memory_seq_rm(memory, m->staging, -1, -1);
    return whole ? 0 : err_set(e, ERR_BUSY, "the KV cache has no room for the rows of this sequence");
}

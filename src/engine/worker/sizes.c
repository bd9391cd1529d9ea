#include "engine/worker/sizes.h"
#include "base/limits.h"

static int64_t clamp(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }

// Cells for all sequences together: from a quarter of the memory that the model leaves free.
static int64_t default_cells(const struct engine_options *o, const struct facts *f, int64_t parallel) {
    int64_t train = f->ctx_train ? f->ctx_train : SIZES_CELLS_MIN, cells = SIZES_CELLS_MAX;
    int64_t room = (f->free_bytes - f->model_bytes) / 4;
    if (f->kv_bytes && f->free_bytes) cells = clamp(room / f->kv_bytes, SIZES_CELLS_MIN, SIZES_CELLS_MAX);
    cells = clamp(cells, 1, train * parallel);
    return o->ctx > cells ? o->ctx : cells;
}

// As many layers as the GPU's memory holds with their part of the cache, a tenth left for what is computed.
static int64_t default_gpu_layers(const struct facts *f, int64_t kv_cells) {
    if (!f->gpu_bytes || !f->layers) return 0;
    int64_t layer = (f->model_bytes + f->kv_bytes * kv_cells) / (f->layers + 1) + 1;
    int64_t fit = f->gpu_bytes / 10 * 9 / layer;
    return fit > f->layers ? f->layers + 1 : fit; // + 1: the output layer
}

void sizes_choose(const struct engine_options *o, const struct facts *f, struct sizes *out) {
    int64_t parallel = clamp(o->parallel, 1, LIMIT_PARALLEL);
    int64_t cells = o->kv_cells > 0 ? o->kv_cells : default_cells(o, f, parallel);
    int64_t ctx = o->ctx > 0 ? o->ctx : f->ctx_train ? f->ctx_train : cells;
    out->parallel = (int32_t)parallel;
    out->kv_cells = (int32_t)clamp(cells, 2, INT32_MAX / 2);
    out->ctx = (int32_t)clamp(ctx, 2, out->kv_cells);
    out->threads = (int32_t)clamp(o->threads > 0 ? o->threads : f->cores, 1, 1024);
    out->chunk = (int32_t)clamp(o->chunk > 0 ? o->chunk : 512, 1, 8192);
    out->gpu_layers = (int32_t)(o->gpu_layers >= 0 ? o->gpu_layers : default_gpu_layers(f, out->kv_cells));
}

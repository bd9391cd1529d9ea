#include "engine/worker/export.h"

#include <stdlib.h>
#include <string.h>

enum {
    FEW_ROWS = 16,    // of a pass: taking them between steps costs less than stopping at every layer
    TOLD_AT_ONCE = 64 // rows of so many layers in one message
};

// ---------------------------------------------------------------- units
static void unit_close(struct export *x, int32_t i) {
    free(x->open[i].gone);
    x->n_open--;
    memmove(&x->open[i], &x->open[i + 1], (size_t)(x->n_open - i) * sizeof *x->open);
}

void export_stop(struct export *x) {
    while (x->n_open) unit_close(x, x->n_open - 1);
    free(x->open);
    *x = (struct export){.on = false};
}

void export_start(struct export *x, int32_t first, int32_t credits) {
    export_stop(x);
    *x = (struct export){.on = true, .begun = first, .credits = credits};
}

bool export_done(const struct export *x, int32_t past) { return !x->on || (!x->n_open && x->begun >= past); }

// Begins the unit of the next `count` rows. NULL where none may be.
static struct unit *unit_begin(struct export *x, int32_t count, int32_t parts) {
    if (!x->credits || x->n_open == (int32_t)LIMIT_KV_UNITS) return NULL;
    if (x->n_open == x->room) {
        int32_t room = x->room ? 2 * x->room : 8;
        struct unit *open = realloc(x->open, (size_t)room * sizeof *open);
        if (!open) return NULL;
        x->open = open;
        x->room = room;
    }
    bool *gone = calloc((size_t)parts, sizeof *gone);
    if (!gone) return NULL;
    struct unit *u = &x->open[x->n_open++];
    *u = (struct unit){.first = x->begun, .count = count, .left = parts, .gone = gone};
    x->begun += count;
    x->credits--;
    return u;
}

// ---------------------------------------------------------------- telling
struct telling {
    struct kv_rows rows[TOLD_AT_ONCE];
    int32_t n;
};

static void tell(struct exporter *r, uint64_t id, struct telling *t) {
    if (t->n && channel_send(r->channel, rows_encode(id, t->rows, t->n))) r->lost = true;
    t->n = 0;
}

static void note(struct exporter *r, uint64_t id, struct telling *t, const struct kv_rows *rows) {
    t->rows[t->n++] = *rows;
    if (t->n == TOLD_AT_ONCE) tell(r, id, t);
}

static bool *part_of(const struct exporter *r, const struct unit *u, int32_t layer, enum kv_kind k) {
    return &u->gone[k * r->kv->layout.shape.layers + layer];
}

// ---------------------------------------------------------------- while a pass is computed
static bool is_known(const struct exporter *r, const struct tap_rows *rows) {
    const struct kv_shape *s = &r->kv->layout.shape;
    return rows->layer < (int32_t)LIMIT_KV_LAYERS && r->kv->layers[rows->layer] >= 0 && rows->n == r->n_tokens &&
           rows->width == s->width[rows->kind];
}

// Rows of one layer and kind. False where no block is idle.
static bool take_rows(struct exporter *r, const struct exporting *m, const struct tap_rows *rows,
                      struct telling *told) {
    int32_t layer = r->kv->layers[rows->layer];
    for (int32_t k = 0; k < m->x->n_open; k++) {
        struct unit *u = &m->x->open[k];
        bool *gone = part_of(r, u, layer, rows->kind);
        if (*gone || u->first < m->past || u->first + u->count > m->past + m->count) continue;
        int32_t block = blocks_take(r->blocks);
        if (block < 0) return false;
        tap_copy(rows, m->at + u->first - m->past, u->count, blocks_at(r->blocks, block));
        *gone = true;
        u->left--;
        note(r, m->id, told, &(struct kv_rows){layer, u->first, u->count, block, rows->kind});
    }
    return true;
}

// Those that are not taken here are taken between steps.
static void on_rows(void *arg, const struct tap_rows *rows, int32_t n) {
    struct exporter *r = arg;
    for (int32_t i = 0; i < r->n_members; i++) {
        struct telling told = {.n = 0};
        bool room = true;
        for (int32_t k = 0; k < n && room; k++)
            if (is_known(r, &rows[k])) room = take_rows(r, &r->members[i], &rows[k], &told);
        tell(r, r->members[i].id, &told);
    }
}

void exporter_begin(struct exporter *r) { r->n_members = r->n_tokens = 0; }

void exporter_member(struct exporter *r, const struct exporting *m) {
    const struct kv_shape *s = &r->kv->layout.shape;
    int32_t end = m->past + m->count;
    if (s->form != KV_ROWS) return;
    r->n_tokens = m->at + m->count > r->n_tokens ? m->at + m->count : r->n_tokens;
    if (!m->x || !m->x->on || m->x->begun < m->past || end - m->x->begun < FEW_ROWS) return;
    while (m->x->begun < end) {
        int32_t left = end - m->x->begun;
        if (!unit_begin(m->x, left < s->unit ? left : s->unit, KV_KINDS * s->layers)) break;
    }
    r->members[r->n_members++] = *m;
    r->tap->rows = on_rows;
    r->tap->arg = r;
    r->tap->waiting = NULL;
    r->tap->on = r->tap->paired = true;
}

void exporter_end(struct exporter *r) {
    r->tap->on = false;
    for (int32_t i = 0; i < r->n_members; i++) {
        struct export *x = r->members[i].x;
        for (int32_t k = x->n_open - 1; k >= 0; k--)
            if (!x->open[k].left) unit_close(x, k);
    }
}

// ---------------------------------------------------------------- between steps
// The unit's rows as libllama writes them out, into r->state, and the order they stand in.
static int stage(struct exporter *r, uint64_t id, const struct unit *u, llama_seq_id slot, struct err *e) {
    if (r->staged == id && r->staged_first == u->first && r->staged_count == u->count) return 0;
    llama_memory_t memory = llama_get_memory(r->ctx);
    size_t size = kv_slot_bytes(&r->kv->layout.shape, u->count);
    r->staged = 0;
    if (size > r->room) {
        unsigned char *state = realloc(r->state, size);
        if (!state) return err_set(e, ERR_INTERNAL, "out of memory for rows on their way");
        r->state = state;
        r->room = size;
    }
    llama_memory_seq_cp(memory, slot, r->staging, u->first, u->first + u->count);
    bool whole = llama_state_seq_get_size(r->ctx, r->staging) == size &&
                 llama_state_seq_get_data(r->ctx, r->state, size, r->staging) == size;
    llama_memory_seq_rm(memory, r->staging, -1, -1);
    if (!whole || !layout_rows(&r->kv->layout, r->state, size, u->first, u->count, r->row_at))
        return err_set(e, ERR_INTERNAL, "rows %d to %d cannot be taken out of the KV cache", u->first,
                       u->first + u->count - 1);
    r->staged = id;
    r->staged_first = u->first;
    r->staged_count = u->count;
    return 0;
}

static void copy_plane(const struct exporter *r, const struct unit *u, int32_t layer, enum kv_kind k, void *out) {
    const struct kv_shape *s = &r->kv->layout.shape;
    const unsigned char *plane = r->state + kv_plane_offset(s, u->count, layer, k);
    size_t bytes = kv_row_bytes(s, k, s->dtype);
    for (int32_t i = 0, run; i < u->count; i += run) {
        for (run = 1; i + run < u->count && r->row_at[i + run] == r->row_at[i] + run;) run++;
        memcpy((unsigned char *)out + (size_t)i * bytes, plane + (size_t)r->row_at[i] * bytes, (size_t)run * bytes);
    }
}

// Takes what has not left of a unit that was staged, as far as there are blocks; `block` is the first.
static void take_unit(struct exporter *r, uint64_t id, struct unit *u, int32_t block) {
    const struct kv_shape *s = &r->kv->layout.shape;
    struct telling told = {.n = 0};
    for (int32_t layer = 0; layer < s->layers && block >= 0; layer++)
        for (int k = 0; k < KV_KINDS && block >= 0; k++) {
            bool *gone = part_of(r, u, layer, (enum kv_kind)k);
            if (*gone) continue;
            copy_plane(r, u, layer, (enum kv_kind)k, blocks_at(r->blocks, block));
            *gone = true;
            u->left--;
            note(r, id, &told, &(struct kv_rows){layer, u->first, u->count, block, (enum kv_kind)k});
            block = u->left ? blocks_take(r->blocks) : -1;
        }
    tell(r, id, &told);
}

// The first unit with rows left that are all in the cache; begun where there is none. -1: none.
static int32_t unit_due(struct exporter *r, struct export *x, int32_t past) {
    const struct kv_shape *s = &r->kv->layout.shape;
    for (int32_t i = 0; i < x->n_open; i++)
        if (x->open[i].first + x->open[i].count <= past) return i;
    int32_t left = past - x->begun;
    if (left <= 0 || !unit_begin(x, left < s->unit ? left : s->unit, KV_KINDS * s->layers)) return -1;
    return x->n_open - 1;
}

int exporter_take(struct exporter *r, uint64_t id, struct export *x, llama_seq_id slot, int32_t past, struct err *e) {
    if (!x->on) return 0;
    int32_t block = blocks_take(r->blocks);
    if (block < 0) return 0;
    int32_t due = unit_due(r, x, past), rc = due < 0 ? 0 : stage(r, id, &x->open[due], slot, e);
    if (due < 0 || rc) {
        blocks_give(r->blocks, &block, 1);
        return rc;
    }
    take_unit(r, id, &x->open[due], block);
    bool whole = !x->open[due].left;
    if (whole) unit_close(x, due);
    return whole;
}

// ---------------------------------------------------------------- whole states
static void forget_state(struct exporter *r) {
    free(r->state);
    r->state = NULL;
    r->room = 0;
    r->staged = 0;
}

// Sees to it that r->state is the sequence's.
static int stage_state(struct exporter *r, uint64_t id, struct export *x, llama_seq_id slot, struct err *e) {
    if (x->size && r->staged == id) return 0;
    size_t size = llama_state_seq_get_size(r->ctx, slot);
    forget_state(r);
    if (!size || size > (size_t)r->kv->layout.shape.state || (x->size && size != (size_t)x->size))
        return err_set(e, ERR_INTERNAL, "a state of %zu bytes is not what was expected", size);
    r->state = malloc(size);
    if (!r->state) return err_set(e, ERR_INTERNAL, "out of memory for a state on its way");
    if (llama_state_seq_get_data(r->ctx, r->state, size, slot) != size)
        return err_set(e, ERR_INTERNAL, "the state of a sequence cannot be taken out");
    r->staged = id;
    x->size = (int32_t)size;
    return 0;
}

static void take_pieces(struct exporter *r, uint64_t id, struct export *x, int32_t block) {
    struct telling told = {.n = 0};
    for (int64_t most = r->blocks->info.block_bytes; block >= 0;) {
        int32_t left = x->size - x->sent, bytes = left < most ? left : (int32_t)most;
        memcpy(blocks_at(r->blocks, block), r->state + x->sent, (size_t)bytes);
        note(r, id, &told, &(struct kv_rows){.first = x->sent, .count = x->size, .block = block});
        x->sent += bytes;
        block = x->sent < x->size ? blocks_take(r->blocks) : -1;
    }
    tell(r, id, &told);
}

int exporter_take_state(struct exporter *r, uint64_t id, struct export *x, llama_seq_id slot, int32_t past,
                        struct err *e) {
    if (!x->on || !x->credits || (x->size && x->sent == x->size)) return 0;
    int32_t block = blocks_take(r->blocks);
    if (block < 0) return 0;
    if (stage_state(r, id, x, slot, e)) {
        blocks_give(r->blocks, &block, 1);
        return -1;
    }
    take_pieces(r, id, x, block);
    if (x->sent < x->size) return 0;
    x->begun = past; // it is done
    forget_state(r);
    return 0;
}

// ----------------------------------------------------------------
void exporter_init(struct exporter *r, const struct probe *kv, struct llama_context *ctx, struct tap *tap,
                   llama_seq_id staging, struct blocks *blocks, struct channel *channel) {
    memset(r, 0, sizeof *r);
    r->kv = kv;
    r->ctx = ctx;
    r->tap = tap;
    r->staging = staging;
    r->blocks = blocks;
    r->channel = channel;
}

void exporter_close(struct exporter *r) { free(r->state); }

#include "engine/worker/tap.h"
#include "base/text.h"

#include <ggml-backend.h>
#include <stdlib.h>
#include <string.h>

int tap_init(struct tap *t, int32_t most, struct err *e) {
    *t = (struct tap){.most = most, .cells = malloc((size_t)KV_KINDS * most * sizeof *t->cells)};
    return t->cells ? 0 : err_set(e, ERR_INTERNAL, "out of memory");
}

void tap_close(struct tap *t) {
    free(t->cells);
    *t = (struct tap){.on = false};
}

// A cache tensor's name, in which a device may stand in front: "cache_k_l12".
static bool parse_name(const char *name, struct tap_rows *r) {
    static const char *const parts[KV_KINDS] = {"cache_k_l", "cache_v_l"};
    for (int k = 0; k < KV_KINDS; k++) {
        const char *at = strstr(name, parts[k]);
        long layer;
        if (!at) continue;
        at += strlen(parts[k]);
        char digits[8] = "";
        for (size_t i = 0; i + 1 < sizeof digits && at[i] >= '0' && at[i] <= '9'; i++) digits[i] = at[i];
        if (text_parse_long(digits, 0, 1000000, &layer)) return false;
        r->kind = (enum kv_kind)k;
        r->layer = (int32_t)layer;
        return true;
    }
    return false;
}

static bool is_wanted(const struct tap *tap, const struct ggml_tensor *t, struct tap_rows *r) {
    if (!tap->on || t->op != GGML_OP_SET_ROWS || !t->view_src || !parse_name(t->view_src->name, r)) return false;
    const struct ggml_tensor *index = t->src[1];
    return index && index->type == GGML_TYPE_I64 && index->ne[0] <= tap->most && ggml_nelements(index) == index->ne[0];
}

// False where they are not in the form that is known.
static bool look(const struct tap *tap, const struct ggml_tensor *t, struct tap_rows *r) {
    r->type = t->type;
    r->width = (int32_t)t->ne[0];
    r->n = (int32_t)t->src[1]->ne[0];
    r->cache = t;
    int64_t *cells = tap->cells + (size_t)r->kind * tap->most;
    r->cells = cells;
    ggml_backend_tensor_get(t->src[1], cells, 0, (size_t)r->n * sizeof *cells);
    for (int32_t i = 0; i < r->n; i++)
        if (cells[i] < 0 || cells[i] >= t->ne[1]) return false;
    return true;
}

// Whether libllama is to stop once these rows are written.
static bool stops_at(struct tap *tap, const struct ggml_tensor *t, enum kv_kind kind) {
    if (!tap->paired || kind == KV_V) return true;
    tap->waiting = t;
    return false;
}

static void show(struct tap *tap, const struct ggml_tensor *t, struct tap_rows r) {
    struct tap_rows seen[KV_KINDS], k;
    int32_t n = 0;
    if (tap->waiting && is_wanted(tap, tap->waiting, &k) && k.layer == r.layer && look(tap, tap->waiting, &k))
        seen[n++] = k;
    tap->waiting = NULL;
    if (look(tap, t, &r)) seen[n++] = r;
    if (!n) return;
    if (tap->written) tap->written(tap->written_arg, r.layer);
    tap->rows(tap->arg, seen, n);
}

bool tap_see(struct ggml_tensor *t, bool ask, void *arg) {
    struct tap *tap = arg;
    struct tap_rows r;
    if (tap->activity) activity_step(tap->activity);
    if (!is_wanted(tap, t, &r)) return !ask; // "go on", when this is not a question
    if (ask) return stops_at(tap, t, r.kind);
    show(tap, t, r);
    return true;
}

void tap_copy(const struct tap_rows *r, int32_t first, int32_t count, void *out) {
    size_t bytes = r->cache->nb[1];
    for (int32_t i = 0, run; i < count; i += run) {
        int64_t cell = r->cells[first + i];
        for (run = 1; i + run < count && r->cells[first + i + run] == cell + run;) run++;
        ggml_backend_tensor_get(r->cache, (unsigned char *)out + (size_t)i * bytes, (size_t)cell * bytes,
                                (size_t)run * bytes);
    }
}

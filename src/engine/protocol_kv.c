// The part of the wire that moves sequences: orders for them, rows, memory.
#include "base/json.h"
#include "engine/protocol.h"

#include <stdlib.h>
#include <string.h>

int message_id(const json_t *msg, uint64_t *id, struct err *e) {
    int64_t v = 0;
    if (json_get_int(msg, "id", 1, INT64_MAX, &v, e)) return -1;
    if (!v) return err_param(e, "id", "'id' is missing");
    *id = (uint64_t)v;
    return 0;
}

// A whole number that must be there.
static int must_get(const json_t *msg, const char *name, int64_t min, int64_t max, int64_t *out, struct err *e) {
    if (!json_object_get(msg, name)) return err_param(e, name, "'%s' is missing", name);
    return json_get_int(msg, name, min, max, out, e);
}

static int must_get_i32(const json_t *msg, const char *name, int32_t min, int32_t *out, struct err *e) {
    int64_t v = 0;
    if (must_get(msg, name, min, INT32_MAX, &v, e)) return -1;
    *out = (int32_t)v;
    return 0;
}

// ---------------------------------------------------------------- shapes
static const char *const form_names[] = {[KV_ROWS] = "rows", [KV_OPAQUE] = "opaque"};

json_t *kv_shape_encode(const struct kv_shape *s) {
    if (s->form == KV_OPAQUE) return json_pack("{s:s, s:i}", "form", form_names[KV_OPAQUE], "state", (int)s->state);
    return json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "form", form_names[KV_ROWS], "dtype",
                     kv_dtype_name(s->dtype), "layers", (int)s->layers, "unit", (int)s->unit, "k_width",
                     (int)s->width[KV_K], "v_width", (int)s->width[KV_V], "head", (int)s->head, "cell", (int)s->cell,
                     "middle", (int)s->middle, "plane", (int)s->plane);
}

int kv_shape_decode(const json_t *o, struct kv_shape *s, struct err *e) {
    const char *form = form_names[KV_OPAQUE], *dtype = "";
    *s = (struct kv_shape){.form = KV_OPAQUE};
    if (json_get_string(o, "form", &form, e) || json_get_string(o, "dtype", &dtype, e)) return -1;
    if (!strcmp(form, form_names[KV_OPAQUE])) {
        int64_t state = 0;
        if (json_get_int(o, "state", 0, LIMIT_KV_STATE, &state, e)) return -1;
        s->state = (int32_t)state;
        return 0;
    }
    if (strcmp(form, form_names[KV_ROWS])) return err_param(e, "form", "a KV cache of an unknown form");
    s->form = KV_ROWS;
    if (kv_dtype_of(dtype, &s->dtype)) return err_param(e, "dtype", "a KV cache of an unknown type");
    if (must_get_i32(o, "layers", 0, &s->layers, e) || must_get_i32(o, "unit", 0, &s->unit, e) ||
        must_get_i32(o, "k_width", 0, &s->width[KV_K], e) || must_get_i32(o, "v_width", 0, &s->width[KV_V], e) ||
        must_get_i32(o, "head", 0, &s->head, e) || must_get_i32(o, "cell", 0, &s->cell, e) ||
        must_get_i32(o, "middle", 0, &s->middle, e) || must_get_i32(o, "plane", 0, &s->plane, e))
        return -1;
    return kv_shape_check(s, e);
}

// ---------------------------------------------------------------- orders
static const char *const order_names[ORDER_KINDS] = {"go", "export", "credit", "pause", "install"};

int order_kind_of(const char *type) {
    for (int k = 0; k < ORDER_KINDS; k++)
        if (!strcmp(type, order_names[k])) return k;
    return -1;
}

json_t *order_encode(uint64_t id, const struct order *o) {
    json_t *msg = json_pack("{s:s, s:I}", "t", order_names[o->kind], "id", (json_int_t)id), *more = NULL;
    switch (o->kind) {
    case ORDER_GO:
        more = json_pack("{s:o, s:i}", "generated", json_ints(o->generated, o->n), "from", (int)o->from);
        break;
    case ORDER_EXPORT: more = json_pack("{s:i, s:i}", "first", (int)o->first, "credits", (int)o->units); break;
    case ORDER_CREDIT: more = json_pack("{s:i}", "units", (int)o->units); break;
    case ORDER_INSTALL:
        more = json_pack("{s:i, s:I, s:i, s:i, s:b}", "slot", (int)o->slot, "offset", (json_int_t)o->offset, "first",
                         (int)o->first, "count", (int)o->count, "coarse", o->coarse);
        break;
    case ORDER_PAUSE:
    case ORDER_KINDS: more = json_object(); break;
    }
    if (!msg || !more || json_object_update(msg, more)) {
        json_decref(msg);
        msg = NULL;
    }
    json_decref(more);
    return msg;
}

static int order_members(const json_t *msg, struct order *o, struct err *e) {
    switch (o->kind) {
    case ORDER_GO:
        return must_get_i32(msg, "from", -1, &o->from, e) ||
                       json_get_ints(msg, "generated", 0, INT32_MAX, LIMIT_JSON_VALUES, &o->generated, &o->n, e)
                   ? -1
                   : 0;
    case ORDER_EXPORT:
        return must_get_i32(msg, "first", -1, &o->first, e) || must_get_i32(msg, "credits", 0, &o->units, e) ? -1 : 0;
    case ORDER_CREDIT: return must_get_i32(msg, "units", 0, &o->units, e);
    case ORDER_INSTALL:
        return must_get_i32(msg, "slot", 0, &o->slot, e) || must_get(msg, "offset", 0, INT64_MAX, &o->offset, e) ||
                       must_get_i32(msg, "first", 0, &o->first, e) || must_get_i32(msg, "count", 1, &o->count, e) ||
                       json_get_bool(msg, "coarse", &o->coarse, e)
                   ? -1
                   : 0;
    case ORDER_PAUSE:
    case ORDER_KINDS: break;
    }
    return 0;
}

int order_decode(const json_t *msg, uint64_t *id, struct order *o, struct err *e) {
    const char *type = "";
    *o = (struct order){.from = -1};
    if (json_get_string(msg, "t", &type, e) || message_id(msg, id, e)) return -1;
    int kind = order_kind_of(type);
    if (kind < 0) return err_param(e, "t", "not an order");
    o->kind = (enum order_kind)kind;
    return order_members(msg, o, e);
}

void order_free(struct order *o) {
    free(o->generated);
    o->generated = NULL;
    o->n = 0;
}

// ---------------------------------------------------------------- memory
json_t *arena_encode(const struct arena_info *a) {
    return json_pack("{s:s, s:I, s:i, s:I}", "t", "arena", "bytes", (json_int_t)a->bytes, "blocks", (int)a->blocks,
                     "block_bytes", (json_int_t)a->block_bytes);
}

int arena_decode(const json_t *msg, struct arena_info *a, struct err *e) {
    *a = (struct arena_info){0};
    if (must_get(msg, "bytes", 1, (int64_t)LIMIT_KV_BUFFER_MB << 20, &a->bytes, e) ||
        must_get(msg, "block_bytes", 1, a->bytes, &a->block_bytes, e) || must_get_i32(msg, "blocks", 1, &a->blocks, e))
        return -1;
    if (a->blocks > a->bytes / a->block_bytes || a->blocks > (int32_t)LIMIT_KV_BLOCKS)
        return err_param(e, "blocks", "more blocks than memory");
    return 0;
}

// ---------------------------------------------------------------- rows
json_t *rows_encode(uint64_t id, const struct kv_rows *r, int32_t n) {
    json_t *d = json_array();
    for (int32_t i = 0; d && i < n; i++) {
        json_t *one = json_pack("[i, i, i, i, i]", (int)r[i].layer, (int)r[i].kind, (int)r[i].first, (int)r[i].count,
                                (int)r[i].block);
        if (!json_array_append_new(d, one)) continue;
        json_decref(d);
        d = NULL;
    }
    return d ? json_pack("{s:s, s:I, s:o}", "t", "rows", "id", (json_int_t)id, "d", d) : NULL;
}

// Of a state: its first byte in the block, and its length.
static bool is_piece(const struct kv_shape *s, const json_int_t v[5]) {
    return !v[0] && !v[1] && v[2] >= 0 && v[2] < v[3] && v[2] % KV_GRAIN == 0 && v[3] <= s->state;
}

static bool is_rows(const struct kv_shape *s, int32_t cells, const json_int_t v[5]) {
    return v[0] >= 0 && v[0] < s->layers && v[1] >= 0 && v[1] < KV_KINDS && v[2] >= 0 && v[2] < cells && v[3] >= 1 &&
           v[3] <= s->unit && v[3] <= cells - v[2];
}

int rows_decode(const json_t *item, const struct kv_shape *s, int32_t cells, struct kv_rows *r, struct err *e) {
    json_int_t v[5] = {0};
    bool whole = json_array_size(item) == 5;
    for (size_t i = 0; whole && i < 5; i++) {
        whole = json_is_integer(json_array_get(item, i));
        v[i] = json_integer_value(json_array_get(item, i));
    }
    if (!whole) return err_set(e, ERR_INVALID, "malformed rows");
    if (v[4] < 0 || v[4] > INT32_MAX || !(s->form == KV_OPAQUE ? is_piece(s, v) : is_rows(s, cells, v)))
        return err_set(e, ERR_INVALID, "rows that the model does not have");
    *r = (struct kv_rows){.layer = (int32_t)v[0],
                          .kind = (enum kv_kind)v[1],
                          .first = (int32_t)v[2],
                          .count = (int32_t)v[3],
                          .block = (int32_t)v[4]};
    return 0;
}

json_t *installed_encode(uint64_t id, int32_t upto, int32_t slot) {
    return json_pack("{s:s, s:I, s:i, s:i}", "t", "installed", "id", (json_int_t)id, "upto", (int)upto, "slot",
                     (int)slot);
}

int installed_decode(const json_t *msg, int32_t *upto, int32_t *slot, struct err *e) {
    return must_get_i32(msg, "upto", 0, upto, e) || must_get_i32(msg, "slot", 0, slot, e) ? -1 : 0;
}

json_t *paused_encode(uint64_t id, int32_t tokens, int32_t past) {
    return json_pack("{s:s, s:I, s:i, s:i}", "t", "paused", "id", (json_int_t)id, "tokens", (int)tokens, "past",
                     (int)past);
}

int paused_decode(const json_t *msg, int32_t *tokens, int32_t *past, struct err *e) {
    return must_get_i32(msg, "tokens", 0, tokens, e) || must_get_i32(msg, "past", 0, past, e) ? -1 : 0;
}

// ---------------------------------------------------------------- the beginning of a request
json_t *begin_encode(uint64_t id, const struct gen_begin *b) {
    json_t *msg = json_pack("{s:s, s:I, s:i, s:i, s:i}", "t", "begin", "id", (json_int_t)id, "prompt_tokens",
                            (int)b->prompt_tokens, "cached", (int)b->cached_tokens, "answer", (int)b->answer_tokens);
    int rc = msg ? 0 : -1;
    if (!rc && b->prompt_text) rc = json_object_set_new(msg, "prompt_text", json_string(b->prompt_text));
    if (!rc && b->tokens) rc = json_object_set_new(msg, "tokens", json_ints(b->tokens, b->prompt_tokens));
    if (!rc) return msg;
    json_decref(msg);
    return NULL;
}

int begin_decode(const json_t *msg, struct gen_begin *b, int32_t **tokens, struct err *e) {
    int32_t n = 0;
    *b = (struct gen_begin){.prompt_text = NULL};
    *tokens = NULL;
    int64_t prompt = 0, cached = 0, answer = 0;
    if (json_get_int(msg, "prompt_tokens", 0, INT32_MAX, &prompt, e) ||
        json_get_int(msg, "cached", 0, prompt, &cached, e) || json_get_int(msg, "answer", 0, INT32_MAX, &answer, e) ||
        json_get_string(msg, "prompt_text", &b->prompt_text, e) ||
        json_get_ints(msg, "tokens", 0, INT32_MAX, LIMIT_JSON_VALUES, tokens, &n, e))
        return -1;
    b->prompt_tokens = (int32_t)prompt;
    b->cached_tokens = (int32_t)cached;
    b->answer_tokens = (int32_t)answer;
    b->tokens = *tokens;
    if (!*tokens || n == b->prompt_tokens) return 0;
    free(*tokens);
    *tokens = NULL;
    return err_param(e, "tokens", "'tokens' are not those of the prompt");
}

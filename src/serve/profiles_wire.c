// What nodes tell each other of their models:
//   {"c":[five coefficients],"error":e,"age_s":s,"queued":n,"prompts":n,"context":n,"free":n,"export":bytes/s,
//    "import":bytes/s,"emulated":false,"kept":[[tokens,hash],...],       see engine/kept.h
//    "rows":{"dtype":"f16","layers":n,"k":elements,"v":elements,"chunk":tokens,"wire":"auto"}}     null where they do
//    not stream
// Numbers are rounded, so that only notable changes are told.
#include "base/clock.h"
#include "base/json.h"
#include "serve/node.h"
#include "serve/profiles_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { COEFFICIENTS = 5, COST_DIGITS = 3, LOAD_DIGITS = 2, CHUNK_MAX = 1 << 20 };
static const double TOKENS_MAX = 1e9, AGE_MAX = 1e10, BYTES_S_MAX = 1e15;

static double rounded(double v, int digits) {
    if (!(v > 0)) return 0;
    double unit = pow(10, floor(log10(v)) - digits + 1);
    return round(v / unit) * unit;
}

// Powers of two, from a minute on.
static double rounded_age(double s) { return s < 60 ? 0 : 60 * exp2(floor(log2(s / 60))); }

json_t *profiles_coefficients(const struct profile *p) {
    return json_pack("[f, f, f, f, f]", p->prefill_base, p->prefill_token, p->prefill_pair, p->decode_base,
                     p->decode_token);
}

int profiles_coefficients_read(const json_t *list, struct profile *out, struct err *e) {
    double v[COEFFICIENTS];
    if (json_array_size(list) != COEFFICIENTS) return err_set(e, ERR_INVALID, "a profile has five coefficients");
    for (size_t i = 0; i < COEFFICIENTS; i++) {
        if (!json_is_number(json_array_get(list, i)))
            return err_set(e, ERR_INVALID, "a coefficient of a profile is no number");
        v[i] = json_number_value(json_array_get(list, i));
    }
    *out = (struct profile){v[0], v[1], v[2], v[3], v[4]};
    return profile_check(out, e);
}

static json_t *rows_json(const struct profiled *known) {
    const struct kv_shape *r = &known->rows;
    if (r->layers < 1) return json_null();
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:s}", "dtype", kv_dtype_name(r->dtype), "layers", (int)r->layers, "k",
                     (int)r->width[KV_K], "v", (int)r->width[KV_V], "chunk", (int)known->chunk, "wire", known->wire);
}

static int read_rows(const json_t *o, struct profiled *out, struct err *e) {
    struct kv_shape r = {.form = KV_ROWS, .unit = 1};
    const char *dtype = "", *wire = "";
    json_t *rows = NULL;
    int64_t layers = 0, k = 0, v = 0, chunk = 0;
    if (json_get_object(o, "rows", &rows, e)) return -1;
    if (!rows) return 0;
    if (json_get_string(rows, "dtype", &dtype, e) || json_get_int(rows, "layers", 1, LIMIT_KV_LAYERS, &layers, e) ||
        json_get_int(rows, "k", 1, LIMIT_KV_WIDTH, &k, e) || json_get_int(rows, "v", 1, LIMIT_KV_WIDTH, &v, e) ||
        json_get_int(rows, "chunk", 0, CHUNK_MAX, &chunk, e) || json_get_string(rows, "wire", &wire, e))
        return -1;
    if (*wire && strcmp(wire, "auto") != 0 && strcmp(wire, "f16") != 0 && strcmp(wire, "q8_0") != 0)
        return err_param(e, "wire", "KV rows that travel as an unknown type");
    if (kv_dtype_of(dtype, &r.dtype)) return err_param(e, "dtype", "KV rows of an unknown type");
    r.layers = (int32_t)layers;
    r.width[KV_K] = (int32_t)k;
    r.width[KV_V] = (int32_t)v;
    if (kv_shape_check(&r, e)) return -1;
    out->rows = r;
    out->chunk = (int32_t)chunk;
    snprintf(out->wire, sizeof out->wire, "%s", wire);
    return 0;
}

json_t *profiles_tell(const struct serve *s, const struct model *m) {
    struct profiled known;
    if (!profiles_known(s, node_self(s), m->name, &known)) return json_null();
    double *c[] = {&known.profile.prefill_base, &known.profile.prefill_token, &known.profile.prefill_pair,
                   &known.profile.decode_base, &known.profile.decode_token};
    for (size_t i = 0; i < COEFFICIENTS; i++) *c[i] = rounded(*c[i], COST_DIGITS);
    return json_pack("{s:o, s:o, s:o, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:b}", "kept",
                     kept_encode(engine_kept(m->engine)), "rows", rows_json(&known), "c",
                     profiles_coefficients(&known.profile), "error", rounded(fmin(1, known.error), LOAD_DIGITS),
                     "age_s", rounded_age(known.age_s), "queued", rounded(known.queued_tokens, LOAD_DIGITS), "context",
                     rounded(known.context_tokens, LOAD_DIGITS), "free", rounded(known.free_cells, LOAD_DIGITS),
                     "prompts", known.queued_prompts, "export", rounded(known.export_bytes_s, LOAD_DIGITS), "import",
                     rounded(known.import_bytes_s, LOAD_DIGITS), "emulated", known.emulated);
}

static int read_told(const json_t *o, struct profiled *out, struct err *e) {
    json_t *list = NULL;
    *out = (struct profiled){.error = 1};
    if (json_get_array(o, "c", &list, e) || profiles_coefficients_read(list, &out->profile, e)) return -1;
    return json_get_real(o, "error", 0, 1, &out->error, e) || json_get_real(o, "age_s", 0, AGE_MAX, &out->age_s, e) ||
                   json_get_real(o, "queued", 0, TOKENS_MAX, &out->queued_tokens, e) ||
                   json_get_real(o, "context", 0, TOKENS_MAX, &out->context_tokens, e) ||
                   json_get_real(o, "free", 0, TOKENS_MAX, &out->free_cells, e) ||
                   json_get_real(o, "prompts", 0, TOKENS_MAX, &out->queued_prompts, e) ||
                   json_get_real(o, "export", 0, BYTES_S_MAX, &out->export_bytes_s, e) ||
                   json_get_real(o, "import", 0, BYTES_S_MAX, &out->import_bytes_s, e) ||
                   json_get_bool(o, "emulated", &out->emulated, e) || read_rows(o, out, e)
               ? -1
               : 0;
}

json_t *profiles_clean(const json_t *said, struct err *e) {
    struct profiled p;
    struct kept_marks kept;
    if (!json_is_object(said) || read_told(said, &p, e) || kept_decode(json_object_get(said, "kept"), &kept, e))
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:b, s:I}", "kept", kept_encode(&kept),
                     "rows", rows_json(&p), "c", profiles_coefficients(&p.profile), "error", p.error, "age_s", p.age_s,
                     "queued", p.queued_tokens, "context", p.context_tokens, "free", p.free_cells, "prompts",
                     p.queued_prompts, "export", p.export_bytes_s, "import", p.import_bytes_s, "emulated", p.emulated,
                     "heard_s", (json_int_t)(clock_mono_ns() / NS_PER_S));
}

int profiles_take(const json_t *clean, struct profiled *out, struct err *e) {
    int64_t heard = 0, now = (int64_t)(clock_mono_ns() / NS_PER_S);
    if (!json_is_object(clean)) return err_set(e, ERR_NOT_FOUND, "nothing was told");
    if (read_told(clean, out, e) || json_get_int(clean, "heard_s", 0, now, &heard, e)) return -1;
    out->age_s += (double)(now - heard);
    out->seen = out->error < 1;
    return 0;
}

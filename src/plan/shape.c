#include "plan/shape.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static const double PARAMETERS_MAX = 1e14;  // beyond these a file is not believed
static const double WEIGHT_BITS_MAX = 1024; // a small model with a large vocabulary in its file has many
static const int32_t LAYERS_MAX = 65536, WIDTH_MAX = 1 << 24;

double dtype_bits(enum dtype d) {
    static const double bits[DTYPES] = {[DTYPE_F16] = 16, [DTYPE_Q8] = 8.5, [DTYPE_Q4] = 4.5};
    return bits[d];
}

const char *dtype_name(enum dtype d) {
    static const char *const names[DTYPES] = {[DTYPE_F16] = "f16", [DTYPE_Q8] = "q8", [DTYPE_Q4] = "q4"};
    return names[d];
}

const char *dtype_wire_name(enum dtype d) {
    static const char *const names[DTYPES] = {[DTYPE_F16] = "f16", [DTYPE_Q8] = "q8_0", [DTYPE_Q4] = "q4_0"};
    return names[d];
}

int dtype_parse(const char *name, enum dtype *out, struct err *e) {
    for (int d = 0; d < DTYPES; d++) {
        if (strcmp(name, dtype_name((enum dtype)d)) && strcmp(name, dtype_wire_name((enum dtype)d))) continue;
        *out = (enum dtype)d;
        return 0;
    }
    return err_param(e, "dtype", "unknown type '%.20s': f16, q8 (q8_0) and q4 (q4_0) are known", name);
}

static bool is_count(int32_t v, int32_t most) { return v > 0 && v <= most; }

int plan_shape_check(const struct plan_shape *s, struct err *e) {
    const char *what = NULL;
    if (!(s->parameters > 0 && s->parameters <= PARAMETERS_MAX))
        what = "parameters";
    else if (!(s->active > 0 && s->active <= s->parameters))
        what = "parameters used per token";
    else if (!(s->head >= 0 && s->head <= s->active && s->table >= 0 && s->table < s->parameters))
        what = "vocabulary";
    else if (!(s->weight_bits > 0 && s->weight_bits <= WEIGHT_BITS_MAX))
        what = "bits per weight";
    else if (!is_count(s->layers, LAYERS_MAX))
        what = "layers";
    else if (!is_count(s->embd, WIDTH_MAX) || !is_count(s->heads, WIDTH_MAX) || !is_count(s->key, WIDTH_MAX) ||
             !is_count(s->value, WIDTH_MAX) || !is_count(s->kv_width, WIDTH_MAX))
        what = "attention heads";
    else if (s->window < 0 || s->windowed_layers < 0 || s->windowed_layers > s->layers)
        what = "attention windows";
    if (!what) return 0;
    return err_set(e, ERR_INVALID, "nothing can be planned for %s: its %s make no sense", s->name, what);
}

int32_t plan_shape_windowed_layers(const char *arch, int32_t layers) {
    // One layer of each group sees everything. As in the models' own configurations (layer_types,
    // sliding_window_pattern).
    static const struct {
        const char *arch;
        int32_t group;
    } groups[] = {{"gpt-oss", 2}, {"gemma2", 2}, {"gemma3", 6}};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (!strcmp(arch, groups[i].arch)) return layers - layers / groups[i].group;
    return 0;
}

double plan_shape_weight_bytes(const struct plan_shape *s) { return s->parameters * s->weight_bits / 8; }

double plan_shape_read_bytes(const struct plan_shape *s) { return s->active * s->weight_bits / 8; }

double plan_shape_pass_bytes(const struct plan_shape *s) { return (s->parameters - s->table) * s->weight_bits / 8; }

double plan_shape_token_flops(const struct plan_shape *s) { return 2 * (s->active - s->head); }

double plan_shape_pair_flops(const struct plan_shape *s) { return 2.0 * s->heads * (s->key + s->value); }

double plan_shape_kv_bytes(const struct plan_shape *s, enum dtype d, double tokens) {
    double seen = s->windowed_layers ? fmin(tokens, s->window) : 0;
    double rows = (s->layers - s->windowed_layers) * tokens + s->windowed_layers * seen;
    return rows * s->kv_width * dtype_bits(d) / 8;
}

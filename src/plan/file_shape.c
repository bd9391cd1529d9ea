#include "plan/file_shape.h"

#include <stdio.h>

static bool is_count32(int64_t v) { return v >= 1 && v <= INT32_MAX; }

static bool is_known(const struct file_figures *f) {
    return is_count32(f->layers) && is_count32(f->heads) && is_count32(f->embd) && f->parameters >= 1 &&
           is_count32(f->kv_values / f->layers) && f->key_length <= INT32_MAX && f->value_length <= INT32_MAX &&
           f->window <= INT32_MAX;
}

// Parameters of experts that a token does not use.
static double unused(const struct file_figures *f) {
    if (f->experts <= 0 || f->experts_used <= 0 || f->experts_used >= f->experts) return 0;
    return (double)f->expert_parameters * (1 - (double)f->experts_used / (double)f->experts);
}

int plan_shape_of_file(struct plan_shape *out, const char *name, const struct file_figures *f, struct err *e) {
    if (!is_known(f))
        return err_set(e, ERR_INVALID,
                       "nothing can be planned for %s: its architecture '%.40s' keeps no KV rows that are "
                       "known, or its header lacks figures",
                       name, f->arch);
    double all = (double)f->parameters, table = (double)f->table_parameters;
    *out = (struct plan_shape){
        .parameters = all,
        .weight_bits = (double)f->bytes * 8 / all,
        .table = f->tied_head ? 0 : table,
        .head = table,
        .active = all - (f->tied_head ? 0 : table) - unused(f),
        .layers = (int32_t)f->layers,
        .embd = (int32_t)f->embd,
        .heads = (int32_t)f->heads,
        .key = (int32_t)(f->key_length ? f->key_length : f->embd / f->heads),
        .value = (int32_t)(f->value_length ? f->value_length : f->embd / f->heads),
        .kv_width = (int32_t)(f->kv_values / f->layers),
        .window = (int32_t)f->window,
        .windowed_layers = f->window ? plan_shape_windowed_layers(f->arch, (int32_t)f->layers) : 0,
    };
    snprintf(out->name, sizeof out->name, "%s", name);
    return plan_shape_check(out, e);
}

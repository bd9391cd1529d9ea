#include "engine/options.h"

#include <stdio.h>
#include <string.h>

void engine_options_of(struct engine_options *o, const struct settings *s, const char *name, const char *path) {
    memset(o, 0, sizeof *o);
    snprintf(o->model_name, sizeof o->model_name, "%s", name);
    snprintf(o->model_path, sizeof o->model_path, "%s", path);
    snprintf(o->kv_type, sizeof o->kv_type, "%s", s->kv_type);
    snprintf(o->emulate, sizeof o->emulate, "%s", s->emulate);
    o->ctx = s->ctx;
    o->kv_cells = s->kv_cells;
    o->parallel = s->parallel;
    o->queue = s->queue;
    o->gpu_layers = s->gpu_layers;
    o->threads = s->threads;
    o->chunk = s->chunk;
    o->step_ms = s->step_ms;
    o->kv_buffer = s->kv_buffer;
    o->keep = s->keep;
}

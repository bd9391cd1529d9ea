// How a worker is to load its model. Filled by the daemon from settings, sent to the worker as its first message.
#pragma once

#include "base/paths.h"
#include "base/settings.h"

struct engine_options {
    char model_name[SETTING_SIZE]; // how API clients call it
    char model_path[PATH_SIZE];    // the GGUF file
    long ctx, kv_cells, parallel, queue, gpu_layers, threads, chunk, step_ms, kv_buffer, keep; // as in struct settings
    char kv_type[SETTING_SIZE];
    char emulate[SETTING_SIZE]; // "" = computes as fast as it can
};

void engine_options_of(struct engine_options *o, const struct settings *s, const char *name, const char *path);

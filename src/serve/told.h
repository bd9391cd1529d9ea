// What a peer has told of its models: cluster_models_of's list, [{name, state, ...}]. Pure. Threads: any.
#pragma once

#include <jansson.h>

// The model of that name, loaded or not; NULL: it has none, or the list is NULL. Borrowed from the list.
const json_t *told_model(const json_t *models, const char *name);

// The same, where it is ready there; else NULL.
const json_t *told_ready(const json_t *models, const char *name);

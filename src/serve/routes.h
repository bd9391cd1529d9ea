// The one place that every request passes: who may ask, and what answers.
#pragma once

#include "net/http.h"
#include "serve/gate.h"

// An http_handler; arg is the struct serve.
void routes_handle(struct http_exchange *x, void *arg);

// One route after the other: its path (one that ends in '/' stands for all below it), its method and who may call it.
// NULL beyond the last.
const char *routes_at(size_t i, const char **method, enum gate_access *access);

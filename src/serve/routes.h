// The one place that every request passes: who may ask, and what answers.
#pragma once

#include "net/http.h"

// An http_handler; arg is the struct serve.
void routes_handle(struct http_exchange *x, void *arg);

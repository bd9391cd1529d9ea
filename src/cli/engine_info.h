// What libllama can use on this machine, as `nebulus worker --devices` tells it: a broken driver then only costs that
// process.
#pragma once

#include "base/err.h"
#include <jansson.h>

// Its object (new reference), or NULL. Takes as long as the backends take to load; at most some seconds.
json_t *engine_info_get(struct err *e) MUST_USE;

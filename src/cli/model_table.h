// The loaded models as the daemon describes them, as a table.
#pragma once

#include "base/err.h"
#include <jansson.h>

// Prints the models of a /nebulus/v1/status answer to stdout.
int model_table_print(const json_t *status, struct err *e) MUST_USE;

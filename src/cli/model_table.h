// The loaded models as the daemon describes them, as a table.
#pragma once

#include "cli/view.h"

// Writes the models of a /nebulus/v1/status answer.
int model_table_write(const json_t *status, const struct sheet *to, struct err *e) MUST_USE;

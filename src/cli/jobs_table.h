// The jobs that a daemon and its node have to do, as tables.
#pragma once

#include "cli/view.h"

// answer: of GET /nebulus/v1/nodes. Writes nothing where nothing runs.
int jobs_table_write(const json_t *answer, FILE *out, struct err *e) MUST_USE;

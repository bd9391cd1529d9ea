// The nodes that a daemon has heard of on the network without knowing them, as a table below its members.
#pragma once

#include "base/err.h"
#include <jansson.h>
#include <stdio.h>

// answer: of GET /nebulus/v1/nodes. Writes nothing where there is nobody.
int discovered_write(const json_t *answer, FILE *out, struct err *e) MUST_USE;

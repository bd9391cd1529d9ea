// The nodes that a daemon has heard of on the network without knowing them, as a table below its members.
#pragma once

#include "base/err.h"
#include <jansson.h>

// answer: of GET /nebulus/v1/nodes. Prints nothing where there is nobody.
int discovered_print(const json_t *answer, struct err *e) MUST_USE;

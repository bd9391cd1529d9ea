// POST /nebulus/v1/load: loads a model and tells its progress as NDJSON.
#pragma once

#include "serve/call.h"

void load_start(const struct call *c);

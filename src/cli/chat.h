// The interactive conversation of `nebulus run MODEL`.
#pragma once

#include "base/paths.h"
#include "cli/api_client.h"
#include "cli/options.h"

// Talks until /bye or ^D. Returns the exit code.
int chat_run(struct api_client *api, const struct args *a, const struct paths *p, const char *model);

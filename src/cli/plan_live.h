// What the daemon predicts for requests to its cluster: POST /nebulus/v1/plan.
#pragma once

#include "cli/api_client.h"
#include "cli/command.h"

// `nebulus plan MODEL [--prompt N] [--gen M] [--explain] [--json]`. Returns the exit code.
int plan_live_run(struct invocation *in);

// Asks `question` (the route's body) and prints each plan with its reason to stderr.
int plan_live_explain(struct api_client *api, const json_t *question, struct err *e) MUST_USE;

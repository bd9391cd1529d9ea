// What the commands about policies share.
#pragma once

#include "cli/api_client.h"
#include "cli/command.h"
#include "trust/policy.h"

struct policy *policy_of_file(const char *path, struct err *e) MUST_USE;
struct policy *policy_in_force(struct api_client *api, struct err *e) MUST_USE; // as the daemon tells it

int policy_diff_show(struct invocation *in, struct err *e) MUST_USE; // nebulus policy diff [OLD] NEW

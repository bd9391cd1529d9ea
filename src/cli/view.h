// What the commands have in common that show one object of the daemon's API.
#pragma once

#include "cli/command.h"

// Gets `path` and prints it: with --json as it is, else by `print`, which may fail. Returns the exit code.
int view_run(struct invocation *in, const char *path, int (*print)(const json_t *answer, struct err *e));

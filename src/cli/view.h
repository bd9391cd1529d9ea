// What the commands have in common that show one object of the daemon's API, once or again and again.
#pragma once

#include "cli/command.h"
#include <stdio.h>

// Gets `path` and prints it: with --json as it is, else by `print`, which may fail. Returns the exit code.
int view_run(struct invocation *in, const char *path, int (*print)(const json_t *answer, struct err *e));

// Where a view is written: what it shows, and what is to be said beside it.
struct sheet {
    FILE *out, *notes;
};
typedef int (*view_write)(const json_t *answer, const struct sheet *to, struct err *e);

#define OPTION_WATCH                                                                                                   \
    {                                                                                                                  \
        .name = "watch", .letter = 'w', .type = OPTION_FLAG,                                                           \
        .help = "show it again and again, until ^C: in place on a terminal, with --json a line each time"              \
    }

// The same, and with --watch until ^C: redrawn in place on a terminal, which also stands a daemon that is away for a
// while; one block of text after another elsewhere; NDJSON with --json.
int view_watch(struct invocation *in, const char *path, view_write write);

// Command-line options of the form name=value, described by a table.
#pragma once

#include "base/err.h"
#include <stddef.h>

struct option_choice {
    const char *name;
    int value;
};

struct option {
    const char *name;
    size_t offset;                       // of an int in the settings
    int min, max, multiple;              // of a number; multiple 0: any
    const struct option_choice *choices; // instead of a number; ends with a NULL name
};

// Stores every argument in `settings`. The table ends with a NULL name. -1 and ERR_INVALID for an argument that is
// unknown or out of range; the message names it and says what is allowed.
int options_parse(const struct option *table, void *settings, char *const *arguments, int count,
                  struct err *e) MUST_USE;

// What the catalogues say about a name that they do not hold. Threads: any.
#pragma once

#include "base/err.h"
#include <stddef.h>

// Fails with ERR_NOT_FOUND, param `what`, and one line that lists every name: name_of(i) is entry i, NULL beyond the
// last.
int names_unknown(struct err *e, const char *what, const char *name, const char *(*name_of)(size_t i));

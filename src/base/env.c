#include "base/env.h"

#include <stdlib.h>

const char *env_get(const char *name) {
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

void env_default(const char *name, const char *value) { setenv(name, value, 0); }

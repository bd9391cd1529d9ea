// The one door to the process environment.
#pragma once

// The variable's value, or NULL where it is unset or empty. Borrowed; valid until the environment changes.
const char *env_get(const char *name);

// Sets a variable where the user has not set it; for libraries that take their options from the environment alone.
// Before threads start.
void env_default(const char *name, const char *value);

// The one door to the process environment.
#pragma once

// The variable's value, or NULL where it is unset or empty. Borrowed; valid until the environment changes.
const char *env_get(const char *name);

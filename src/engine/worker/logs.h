// libllama's log lines: all go to our log at the debug level; the last error is kept, since its functions tell no
// reason.
#pragma once

#include <stddef.h>

void logs_capture(void);                      // once, before any other call to libllama
void logs_last_error(char *out, size_t size); // "" where there was none; forgets it

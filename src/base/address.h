// HOST:PORT texts, as in settings.api and in Host headers. Pure functions.
#pragma once

#include "base/settings.h"
#include <stdbool.h>

// Splits "127.0.0.1:7420", "localhost", "[::1]:80" into a host (without brackets) and a port (-1 where there is none).
// Returns 0, or -1 where the text is malformed.
int address_split(const char *text, char host[SETTING_SIZE], long *port);

// Whether a host is this machine's own: localhost and names under it, 127.0.0.0/8, ::1.
bool address_is_loopback(const char *host);

// Passphrases: from a file, or asked for on the terminal without showing what is typed.
#pragma once

#include "base/err.h"
#include <stdbool.h>

enum { PASSPHRASE_SIZE = 512, PASSPHRASE_LEAST = 8 };

// The first line of `file`, or - where file is NULL - what is typed at /dev/tty after `prompt`. `fresh`: a new one,
// asked for twice and not too short. ERR_CANCELLED after ^C. The caller wipes `out`.
int passphrase_read(const char *file, const char *prompt, bool fresh, char out[PASSPHRASE_SIZE],
                    struct err *e) MUST_USE;
void passphrase_wipe(char out[PASSPHRASE_SIZE]);

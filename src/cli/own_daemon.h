// A daemon started for one call of `run` and ended with it. It listens on a free port of 127.0.0.1, in a process group
// of its own, so that ^C stays with the command line; it stops by itself when this process dies.
#pragma once

#include "base/settings.h"
#include <sys/types.h>

struct own_daemon {
    pid_t pid; // 0 = none
    char address[SETTING_SIZE];
};

// Starts one with the settings given as flags (environment and configuration file reach it anyway) and waits until it
// answers.
int own_daemon_start(struct own_daemon *d, const struct settings *s, struct err *e) MUST_USE;
void own_daemon_stop(struct own_daemon *d); // waits for its end; fine where there is none

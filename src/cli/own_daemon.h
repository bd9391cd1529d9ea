// A daemon started for one call and ended with it. It listens on a free port of 127.0.0.1, in a process group
// of its own, so that ^C stays with the command line; it stops by itself when this process dies.
#pragma once

#include "base/settings.h"
#include "cli/api_client.h"
#include <sys/types.h>

struct own_daemon {
    pid_t pid; // 0 = none
    char address[SETTING_SIZE];
};

// Starts one with the settings given as flags (environment and configuration file reach it anyway) and waits until it
// answers.
int own_daemon_start(struct own_daemon *d, const struct settings *s, struct err *e) MUST_USE;
void own_daemon_stop(struct own_daemon *d); // waits for its end; fine where there is none

// The daemon that runs, or - where there is none, and --api names none - one started for this call, which is said on
// stderr. *api is the caller's to close, NULL after a failure; d->pid tells whether one was started.
int own_daemon_reach(struct own_daemon *d, const struct settings *s, struct api_client **api, struct err *e) MUST_USE;

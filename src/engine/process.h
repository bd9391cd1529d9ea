// Child processes of this same program. A child gets /dev/null as its standard input, default signal handling, a
// process group of its own (a terminal's ^C reaches the daemon, which then ends its children in order), and no
// descriptors beyond those named here.
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct process_files {
    int third;  // becomes the child's descriptor 3; -1 = none
    int fourth; // becomes 4; 0 or -1 = none
    int output; // becomes its standard output, and its standard error is discarded; -1 = both are this process's own
    const char *setting; // "NAME=value", added to its environment; NULL = none
};

// Starts argv[0], a path. The descriptors stay the caller's.
int process_start(pid_t *pid, const char *const argv[], const struct process_files *files, struct err *e) MUST_USE;

// Signals the whole process group of a child that is not reaped yet; 0 is fine.
void process_signal(pid_t pid, int sig);

// Whether a child that is not reaped yet is stopped by a signal (SIGSTOP) at this moment; false for 0.
bool process_is_stopped(pid_t pid);

// How a child ended, in words, from waitpid's status: "exited with code 1", "was killed by signal 9 (Killed)".
void process_how_ended(int status, char *out, size_t size);

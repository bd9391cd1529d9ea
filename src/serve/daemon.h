// The daemon: one event-loop thread that owns the HTTP API, the models and their workers.
#pragma once

#include "base/paths.h"
#include "base/settings.h"
#include <stdbool.h>

struct daemon_options {
    int ready_fd;          // -1, or a descriptor that gets "PORT\n" once the API answers, and is closed then
    bool exit_with_parent; // stop when the process that started this one is gone
    bool quiet;            // only warnings and errors are logged, whatever settings.log_level says
};

// Runs until SIGTERM or SIGINT (or the parent's death) and everything is put away: what is being answered gets up to 5
// seconds to end; a second signal cuts that short. settings.api may have port 0 (any free one). Returns 0, or -1 where
// it cannot start: a port in use, an address that is not loopback, a settings.model that does not exist. To be called
// once per process; it takes over SIGPIPE, SIGXFSZ, SIGTERM, SIGINT and SIGCHLD and forbids core dumps, which would
// hold prompts.
int daemon_run(const struct settings *s, const struct paths *p, const struct daemon_options *o, struct err *e) MUST_USE;

// Splits settings.api ("127.0.0.1:7420", "localhost:0", "[::1]:7420") into a host and a port. Fails (ERR_INVALID, param
// "api") where it is malformed or the host is not a loopback name or address: keys and TLS for others are not there
// yet.
int daemon_address(const char *api, char host[SETTING_SIZE], long *port, struct err *e) MUST_USE;

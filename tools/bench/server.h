// A server process under test: ours or llama-server. It dies with this program.
#pragma once

#include "base/err.h"
#include <stdint.h>
#include <sys/types.h>

struct server {
    const char *name;
    pid_t pid; // 0 where none runs
    uint16_t port;
};

struct server_settings {
    const char *program, *model, *home; // home: our daemon's scratch folder
    int threads, parallel, context, chunk;
    char threads_text[16], parallel_text[16], context_text[16], total_text[16], chunk_text[16];
};

// Both start on a free port, load the model and return once /health says so.
int server_start_ours(struct server *s, struct server_settings *o, struct err *e) MUST_USE;
int server_start_llama(struct server *s, struct server_settings *o, struct err *e) MUST_USE;
void server_stop(struct server *s); // fine where none runs

// CPU time in nanoseconds; 0 where the system does not say.
uint64_t server_cpu_ns(const struct server *s);  // of the process itself
uint64_t server_tree_ns(const struct server *s); // with its living children
uint64_t machine_cpu_ns(void);                   // of everything on this machine, and what its host took away

// Names that nobody can guess, and random numbers. Threads: any.
#pragma once

#include <stdint.h>

enum { ID_SIZE = 48 };

// prefix + 32 hexadecimal digits from the system's random source ("req_", "chatcmpl-": at most 15 bytes).
void id_make(const char *prefix, char out[ID_SIZE]);

// A seed for sampling that survives JSON readers which only know doubles: below 2^53.
uint64_t id_seed(void);

// Memory for a program that makes one file and ends: running out of it is final.
#pragma once

#include <stdio.h>
#include <stdlib.h>

// Zeroed memory for count elements; ends the program (exit 1) where there is none.
static inline void *mem_new(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) {
        fprintf(stderr, "mkmodel: no memory for %zu times %zu bytes: choose a smaller model\n", count, size);
        exit(1);
    }
    return memory;
}

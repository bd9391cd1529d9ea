// The memory of one QuickJS runtime. It is given back all at once, without a word from QuickJS: a runtime that ran out
// of memory in the middle of something may have lost track of its objects, which JS_FreeRuntime answers with abort().
#pragma once

#include <quickjs/quickjs.h>
#include <stdbool.h>
#include <stdint.h>

struct heap_block;

struct heap {
    struct heap_block *first;
    bool refused; // an allocation was refused
    // Large allocations are refused after the deadline (clock_mono_ns), so that native work that makes long strings
    // ends too.
    uint64_t deadline;
    bool late;
};

extern const JSMallocFunctions heap_functions; // their opaque pointer is the struct heap

bool heap_is_late(struct heap *h); // looks at the clock, and remembers in `late`
void heap_free(struct heap *h);    // frees every block

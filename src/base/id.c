#include "base/id.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

static void draw(void *out, size_t n) {
    if (getentropy(out, n)) abort(); // cannot fail for these sizes on a system that has it
}

void id_make(const char *prefix, char out[ID_SIZE]) {
    uint64_t r[2];
    draw(r, sizeof r);
    snprintf(out, ID_SIZE, "%.15s%016llx%016llx", prefix, (unsigned long long)r[0], (unsigned long long)r[1]);
}

uint64_t id_seed(void) {
    uint64_t r;
    draw(&r, sizeof r);
    return r >> 11;
}

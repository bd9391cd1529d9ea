// What a machine is to be paced to: DEVICE[:SCALE][@MODEL], "dgx-spark:20@llama-3.1-8b". Times are those of a device of
// the catalogue times SCALE (1 where it is not given; below 1 is faster), of MODEL with f16 weights, or of the model
// that is loaded. Pure functions. Threads: any.
#pragma once

#include "plan/cost.h"

enum { EMULATION_TEXT = 128 };

struct emulation {
    char text[EMULATION_TEXT]; // as it was given
    const struct device *device;
    double scale;
    bool named;              // MODEL was given
    struct plan_shape shape; // it, where it was
};

// An unknown device or model fails with a line that lists the known ones; what else is wrong, with ERR_INVALID. out
// must not be used then.
int emulation_parse(struct emulation *out, const char *text, struct err *e) MUST_USE;

// The scaled coefficients. `loaded` is the shape of the loaded model, which a named one replaces.
void emulation_profile(const struct emulation *x, const struct plan_shape *loaded, enum dtype kv, struct profile *out);

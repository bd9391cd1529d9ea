// The shape of a model from what its file says of itself. Pure functions. Threads: any.
#pragma once

#include "plan/shape.h"
#include <stdbool.h>

struct file_figures { // the file's own claims; 0 = not said
    const char *arch; // general.architecture; borrowed
    int64_t parameters, bytes, layers, embd, heads;
    int64_t experts, experts_used, expert_parameters; // how many there are, how many a token uses, what they hold
    int64_t table_parameters;                         // of the vocabulary's lookup table
    int64_t window;                                   // positions that windowed layers see
    int64_t key_length, value_length;                 // of a head
    int64_t kv_values;                                // that one position keeps in all layers
    bool tied_head;                                   // the lookup table is the output head, too
};

// Fails with ERR_INVALID where the claims make no sense; `name` is copied into out and stands in the error.
int plan_shape_of_file(struct plan_shape *out, const char *name, const struct file_figures *f, struct err *e) MUST_USE;

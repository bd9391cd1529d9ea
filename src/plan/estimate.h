// What one placement of a request costs: the times of a struct plan. Used by plan.c, which decides what is permitted
// and ranks; nothing is checked here.
#pragma once

#include "plan/plan.h"

// Each fills `out` but for its score. Nodes are indices into in->nodes.
void estimate_local(const struct plan_input *in, size_t node, struct plan *out);
void estimate_disaggregated(const struct plan_input *in, size_t prefill, size_t decode, struct plan *out);
void estimate_tandem(const struct plan_input *in, size_t prefill, size_t decode, struct plan *out);

// POST /nebulus/v1/plan {model, prompt_tokens or prompt_bytes, max_tokens}: what the planner thinks of a request,
// without one. Threads: the event-loop thread.
#pragma once

#include "serve/call.h"

// {v, model, prompt_tokens, completion_tokens, plans: [{mode, prefill, decode, ttft_ms, prefill_ms, transfer_ms,
// exposed_ms, decode_ms, total_ms, reason}], best first, nodes: [{name, reads, writes: true or why not}]}
void plan_show(const struct call *c);

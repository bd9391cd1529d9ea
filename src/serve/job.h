// One inference request from HTTP to its answer. Threads: the event-loop thread only.
#pragma once

#include "serve/call.h"

void job_chat(const struct call *c);       // POST /v1/chat/completions
void job_completion(const struct call *c); // POST /v1/completions

// What runs at this moment, for people to watch. Threads: the event-loop thread.
#pragma once

#include "serve/serve.h"
#include <jansson.h>

// The jobs of this daemon's clients, oldest first: [{id, model, prefill, decode, speaker, phase, prompt_tokens,
// completion_tokens, tokens_s, age_s}], see struct course_view. Nothing of what is asked or answered. A new reference.
json_t *jobs_json(const struct serve *s);

// What other nodes order of this one: places on its models (serve/remote.h has the messages). Threads: the event-loop
// thread.
#pragma once

#include "cluster/peers.h"
#include "serve/serve.h"
#include <jansson.h>

enum { ORDERS_MOST = 1024 }; // places of one peer

// One message of remote.h's left column, or a credit. False where it is none of those.
bool orders_heard(struct serve *s, const struct peer *p, const char *type, const json_t *msg);
// What is open: [{gateway, model, phase, prompt_tokens, completion_tokens}], see struct site_view. A new reference.
json_t *orders_json(const struct serve *s);
void orders_lost(struct serve *s, const struct peer *p); // drops what it has ordered; NULL: what anybody has

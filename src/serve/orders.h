// What other nodes order of this one: places on its models (serve/remote.h has the messages). Of the sequences that a
// model computes at the same time (setting parallel) one member has three in four: what it orders beyond that waits
// here until one of its own ends, so that no member keeps the others, and this node's own clients, from the model.
// Where `parallel` is 1 there is nothing to share. What waits is bounded in number, bytes (base/limits.h) and time, and
// told ERR_BUSY beyond that. Threads: the event-loop thread.
#pragma once

#include "cluster/peers.h"
#include "serve/serve.h"
#include <jansson.h>

enum {
    ORDERS_MOST = 1024,  // places of one member
    ORDERS_WAITING = 32, // of these, such as are not open yet
    ORDERS_SPARE = 4     // one of so many of a worker's sequences, at least one, are not one member's
};

// One message of remote.h's left column, or a credit. False where it is none of those.
bool orders_heard(struct serve *s, const struct peer *p, const char *type, const json_t *msg);
// What is open: [{gateway, model, phase, prompt_tokens, completion_tokens}], see struct site_view. A new reference.
json_t *orders_json(const struct serve *s);
void orders_expire(struct serve *s, uint64_t now_ns);    // refuses what has waited for too long; clock_mono_ns
void orders_lost(struct serve *s, const struct peer *p); // drops what it has ordered; NULL: what anybody has

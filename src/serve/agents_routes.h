// The routes of the agents of this node. They are the owner's. A key is in the answer that makes it, and never again.
#pragma once

#include "serve/call.h"

void agents_list(const struct call *c); // GET /nebulus/v1/agents: {v, agents[]}
// POST /nebulus/v1/agents {name, groups[], labels[], parent, expires}: {v, agent, key}
void agents_make(const struct call *c);
void agents_show(const struct call *c); // GET /nebulus/v1/agents/NAME: {v, agent}
// POST /nebulus/v1/agents/NAME/rotate {keep}: {v, agent, key}; POST /nebulus/v1/agents/NAME/revoke {}: {v, agent}
void agents_change(const struct call *c);

// What comes over the links to other nodes, brought to those whom it concerns: remote places (serve/remote.h), orders
// (serve/orders.h). Threads: the event-loop thread.
#pragma once

#include "serve/serve.h"

void dispatch_init(struct serve *s); // once the cluster is there
void dispatch_end(struct serve *s);  // drops what other nodes have ordered; before the models go

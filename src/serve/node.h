// Nodes by id and by name, as jobs speak of them. A daemon that is no member of a cluster is the node "". Threads: the
// event-loop thread.
#pragma once

#include "cluster/peers.h"
#include "serve/serve.h"

const char *node_self(const struct serve *s); // this node's id; "" = no member of a cluster
bool node_is_self(const struct serve *s, const char *id);
void node_name(const struct serve *s, const char *id, char *out, size_t size); // for people; "here" where it has none

// The id of a node by its name or id; `header` names who wished for it. ERR_NOT_FOUND; ERR_UNREACHABLE: it is down.
int node_find(const struct serve *s, const char *header, const char *wish, char out[NODE_ID], struct err *e) MUST_USE;
int node_send(const struct serve *s, const char *id, const json_t *msg, struct err *e) MUST_USE; // to another one
// Ends the link to another one, where there is one: both sides hear of it, and it is made anew.
void node_cut(const struct serve *s, const char *id, const struct err *why);

// The cluster over HTTP, for the command line. The root's key never comes here: rosters arrive signed.
//   GET  /nebulus/v1/nodes
//   GET  /nebulus/v1/cluster/roster   {v, root, roster{body,sig}, left[id]}
//   POST /nebulus/v1/cluster/self     {[address]} -> {v, node}: this node as it would stand in a roster
//   POST /nebulus/v1/cluster/found    {roster} -> the first roster of a new cluster, signed by the root that it names
//   POST /nebulus/v1/cluster/adopt    {roster} -> the next epoch
//   POST /nebulus/v1/cluster/invite   {[addresses], [name]} -> NDJSON: open{token}, refused{message}.., proven{node},
//   joined{node} POST /nebulus/v1/cluster/join     {token, [name], [address]} POST /nebulus/v1/cluster/leave    {}
#pragma once

#include "serve/call.h"

void cluster_show_nodes(const struct call *c);
void cluster_show_roster(const struct call *c);
void cluster_show_self(const struct call *c);
void cluster_found(const struct call *c);
void cluster_take_roster(const struct call *c);

// in files of their own
void invite_open(const struct call *c);
void join_start(const struct call *c);
void leave_start(const struct call *c);

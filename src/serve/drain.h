// Taking running jobs off a node. Threads: the event-loop thread.
#pragma once

#include "serve/call.h"

// POST /nebulus/v1/drain {"node":NODE,"to":OTHER}: NODE "" or missing: this node; OTHER likewise: for each job, a node
// that is up and has its model. Orders the moves and answers at once, with how many jobs of this daemon the client gets
// from NODE still: {"v":1,"node":name,"moved":ordered now,"left":n,"refused":n,"why":of one of those that were}. Asked
// again and again, until `left` is 0, it also moves those that could not be moved before. New jobs go where they are
// asked to.
void drain_start(const struct call *c);

// The compute thread: the only one that touches the llama context. Each turn it ends what was cancelled, admits what
// fits, runs one step of libllama for all sequences together, chooses their next tokens, and writes everything of the
// step at once.
#pragma once

#include "engine/worker/activity.h"
#include "engine/worker/channel.h"
#include "engine/worker/model.h"
#include "engine/worker/queue.h"

struct compute_options {
    long step_ms;              // the longest step while sequences generate
    int64_t keep;              // percent, see engine/worker/keep.h
    struct activity *activity; // is told what gets done; borrowed
};

// Runs until the queue is stopped. Fails only where memory runs out: then requests may be unanswered, and the worker
// must end.
int compute_run(struct model *m, struct queue *q, struct channel *c, struct blocks *b, const struct compute_options *o,
                struct err *e) MUST_USE;

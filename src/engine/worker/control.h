// The control thread: reads what the daemon asks for, makes sequences of requests (rendering, tokenizing, checking) and
// queues them, so that the compute thread finds them ready. Cancelling never waits for a step.
#pragma once

#include "engine/worker/channel.h"
#include "engine/worker/model.h"
#include "engine/worker/queue.h"

struct control {
    struct channel *channel;
    struct model *model;
    struct queue *queue;
    struct blocks *blocks;
    int64_t most; // requests that may be in the worker at the same time: parallel + queue
};

// Runs until the daemon closes the socket or breaks the protocol; then stops the queue. arg: struct control. A
// pthread's body.
void *control_run(void *arg);

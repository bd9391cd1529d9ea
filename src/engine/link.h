// One end of the socketpair to a worker: frames out, frames in, never blocking. What comes in is hostile until checked.
// Threads: the event-loop thread only. A link may be freed from inside its own callbacks.
#pragma once

#include "base/buf.h"
#include <event2/event.h>
#include <jansson.h>

struct link;

struct link_events {
    // One message. -1 (err filled) means that the other side broke the protocol: `closed` follows with that reason.
    int (*message)(void *arg, const json_t *msg, struct err *e);
    // The link is of no more use; why is NULL where the other side just closed it. Called at most once.
    void (*closed)(void *arg, const struct err *why);
};

// Takes over fd, also when it fails.
struct link *link_new(struct event_base *base, int fd, const struct link_events *ev, void *arg, struct err *e) MUST_USE;
void link_free(struct link *l); // closes the socket; NULL is fine

// Sends what `frames` holds and takes its memory (frames is empty afterwards; after a failure they are as before).
// Never calls back. A link on which far more than LIMIT_IPC_BACKLOG waits to be read is shut, which `closed` tells of.
int link_send(struct link *l, struct buf *frames) MUST_USE;
size_t link_unsent(const struct link *l); // bytes the other side has not taken yet

// Handles what can be read now, up to LIMIT_IPC_FROM_WORKER bytes: the last words of a process that has ended.
void link_drain(struct link *l);

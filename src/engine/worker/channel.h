// The socket to the daemon. Threads: one reads; any may write, a whole frame (or several) at a time.
#pragma once

#include "engine/protocol.h"
#include <pthread.h>

struct channel {
    int fd; // borrowed
    struct buf in;
    pthread_mutex_t writing;
    void (*waits)(void *arg, bool yes); // called by the reader before it blocks, and when it goes on; NULL = nobody
    void *arg;
};

void channel_init(struct channel *c, int fd);
void channel_close(struct channel *c); // leaves fd open

// Blocks for the next message. 1 and a new reference, 0 where the daemon has closed the socket, -1 on a broken frame or
// socket.
int channel_read(struct channel *c, json_t **msg, struct err *e) MUST_USE;

// Writes frames that frame_append made. Blocks until the socket takes them. -1: the daemon is gone.
int channel_write(struct channel *c, const struct buf *frames);

// Writes one message, whose reference it takes; NULL counts as out of memory. -1: nothing was sent.
int channel_send(struct channel *c, json_t *msg);

#include "engine/worker/channel.h"

#include <errno.h>
#include <unistd.h>

enum { READ_SIZE = 64 << 10 };

void channel_init(struct channel *c, int fd) {
    c->fd = fd;
    c->waits = NULL;
    c->arg = NULL;
    buf_init(&c->in, LIMIT_IPC_TO_WORKER + FRAME_HEAD + READ_SIZE);
    pthread_mutex_init(&c->writing, NULL);
}

void channel_close(struct channel *c) {
    buf_free(&c->in);
    pthread_mutex_destroy(&c->writing);
}

int channel_read(struct channel *c, json_t **msg, struct err *e) {
    for (;;) {
        size_t used;
        int rc = frame_take(buf_str(&c->in), c->in.len, LIMIT_IPC_TO_WORKER, msg, &used, e);
        if (rc) {
            buf_consume(&c->in, used);
            return rc;
        }
        if (buf_reserve(&c->in, READ_SIZE)) return err_set(e, ERR_INTERNAL, "out of memory for a message");
        if (c->waits) c->waits(c->arg, true);
        ssize_t n = read(c->fd, c->in.data + c->in.len, READ_SIZE);
        if (c->waits) c->waits(c->arg, false);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != ECONNRESET) return err_errno(e, "cannot read from the daemon");
        if (n <= 0) return 0;
        c->in.len += (size_t)n;
    }
}

int channel_write(struct channel *c, const struct buf *frames) {
    int rc = 0;
    pthread_mutex_lock(&c->writing);
    for (size_t at = 0; at < frames->len && !rc;) {
        ssize_t n = write(c->fd, frames->data + at, frames->len - at);
        if (n >= 0)
            at += (size_t)n;
        else if (errno != EINTR)
            rc = -1;
    }
    pthread_mutex_unlock(&c->writing);
    return rc;
}

int channel_send(struct channel *c, json_t *msg) {
    struct buf frame;
    buf_init(&frame, LIMIT_IPC_FROM_WORKER);
    int rc = frame_append(&frame, msg) || channel_write(c, &frame) ? -1 : 0;
    buf_free(&frame);
    json_decref(msg);
    return rc;
}

#include "engine/link.h"
#include "base/limits.h"
#include "engine/protocol.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_SIZE = 64 << 10, KEEP_SIZE = 256 << 10 };
static const size_t UNSENT_MAX = LIMIT_IPC_BACKLOG + 2 * LIMIT_IPC_TO_WORKER;

struct link {
    int fd;
    struct event *readable, *writable;
    struct buf in;
    struct evbuffer *out;
    struct link_events ev;
    void *arg;
    bool handling; // inside link_read: the memory must stay
    bool closed;   // `closed` was called, or link_free during a callback
    bool freed;    // link_free was called during a callback
};

static void link_destroy(struct link *l) {
    if (l->readable) event_free(l->readable);
    if (l->writable) event_free(l->writable);
    if (l->out) evbuffer_free(l->out);
    if (l->fd >= 0) close(l->fd);
    buf_free(&l->in);
    free(l);
}

void link_free(struct link *l) {
    if (!l) return;
    l->closed = l->freed = true;
    if (!l->handling) link_destroy(l);
}

static void link_close(struct link *l, const struct err *why) {
    if (l->closed) return;
    l->closed = true;
    event_del(l->readable);
    event_del(l->writable);
    l->ev.closed(l->arg, why);
}

// Handles the whole frames in the buffer. Stops early when a callback has closed the link.
static void handle_frames(struct link *l) {
    size_t at = 0, used;
    json_t *msg;
    struct err why = {.code = ERR_NONE};
    while (!l->closed) {
        int rc = frame_take(l->in.data + at, l->in.len - at, LIMIT_IPC_FROM_WORKER, &msg, &used, &why);
        if (!rc) break;
        if (rc > 0) {
            at += used;
            rc = l->ev.message(l->arg, msg, &why);
            json_decref(msg);
        }
        if (rc < 0) link_close(l, &why);
    }
    buf_consume(&l->in, at);
    if (!l->in.len && l->in.cap > KEEP_SIZE) buf_free(&l->in);
}

// One read. Returns whether there may be more.
static bool read_some(struct link *l) {
    struct err why;
    if (buf_reserve(&l->in, READ_SIZE)) {
        err_set(&why, ERR_INTERNAL, "no memory for a message");
        link_close(l, &why);
        return false;
    }
    ssize_t n = recv(l->fd, l->in.data + l->in.len, READ_SIZE, MSG_DONTWAIT);
    if (n > 0) {
        l->in.len += (size_t)n;
        handle_frames(l);
        return !l->closed;
    }
    if (n < 0 && errno == EINTR) return true;
    if (n < 0 && errno == EAGAIN) return false;
    link_close(l, NULL); // a process that is killed with unread bytes shows ECONNRESET: it has closed it, too
    return false;
}

static void link_read(struct link *l, size_t pieces) {
    l->handling = true;
    while (pieces-- && !l->closed && read_some(l)) {
    }
    l->handling = false;
    if (l->freed) link_destroy(l);
}

void link_drain(struct link *l) { link_read(l, LIMIT_IPC_FROM_WORKER / READ_SIZE); }

static void on_readable(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    link_read(arg, 1); // one piece per round, so that a talkative worker leaves time for the others
}

// Left to the reading side, which will see the end of the same socket.
static void give_up(struct link *l) {
    shutdown(l->fd, SHUT_RDWR);
    evbuffer_drain(l->out, evbuffer_get_length(l->out));
}

static void write_out(struct link *l) {
    if (!evbuffer_get_length(l->out)) return; // link_send has sent it meanwhile
    int n = evbuffer_write(l->out, l->fd);
    if ((n < 0 && errno != EAGAIN && errno != EINTR) || evbuffer_get_length(l->out) > UNSENT_MAX) {
        give_up(l);
    } else if (evbuffer_get_length(l->out))
        event_add(l->writable, NULL);
}

static void on_writable(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    write_out(arg);
}

struct link *link_new(struct event_base *base, int fd, const struct link_events *ev, void *arg, struct err *e) {
    struct link *l = calloc(1, sizeof *l);
    if (!l) {
        close(fd);
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *l = (struct link){.fd = fd, .ev = *ev, .arg = arg};
    buf_init(&l->in, LIMIT_IPC_FROM_WORKER + FRAME_HEAD + READ_SIZE);
    l->out = evbuffer_new();
    l->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, l);
    l->writable = event_new(base, fd, EV_WRITE, on_writable, l);
    if (!l->out || !l->readable || !l->writable || evutil_make_socket_nonblocking(fd) || event_add(l->readable, NULL)) {
        err_set(e, ERR_INTERNAL, "out of memory");
        link_destroy(l);
        return NULL;
    }
    return l;
}

static void free_bytes(const void *data, size_t len, void *unused) {
    (void)len, (void)unused;
    free((void *)(uintptr_t)data); // evbuffer's type for it is const; it was malloc'd by a struct buf
}

int link_send(struct link *l, struct buf *frames) {
    int rc = 0;
    if (l->closed || !frames->len)
        buf_free(frames);
    else if (evbuffer_add_reference(l->out, frames->data, frames->len, free_bytes, NULL))
        rc = -1;
    else {
        buf_init(frames, frames->max); // the memory is the evbuffer's now
        write_out(l);
    }
    return rc;
}

size_t link_unsent(const struct link *l) { return evbuffer_get_length(l->out); }

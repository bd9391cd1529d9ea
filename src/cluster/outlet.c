// Links to the peers that rows are sent to: a queue each, and connections that take from it, on threads of their own.
#include "cluster/transfer_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "cluster/convert.h"
#include "cluster/datalink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 500 }; // how often a wire without work looks whether its connection still stands

// ---------------------------------------------------------------- the queue
void outlet_put_held(struct link *l, struct parcel *p) {
    p->next = NULL;
    if (l->tail)
        l->tail->next = p;
    else
        l->head = p;
    l->tail = p;
    pthread_cond_signal(&l->work);
}

void outlet_take_back_held(struct link *l, const struct outflow *f) {
    struct parcel *p = l->head;
    l->head = l->tail = NULL;
    for (struct parcel *next; p; p = next) {
        next = p->next;
        if (p->flow == f)
            outflow_done_held(p);
        else
            outlet_put_held(l, p);
    }
}

void outlet_left_held(struct link *l) {
    if (!--l->flows) l->idle_since = clock_mono_ns();
}

void outlet_break_held(struct link *l, const struct err *why) {
    atomic_store(&l->stop, true);
    for (struct outflow *f = l->t->outflows; f; f = f->next)
        if (f->link == l) outflow_fail_held(f, why);
    burst_break_held(l, why);
    for (int i = 0; i < l->n_wires; i++)
        if (l->wires[i].fd >= 0) shutdown(l->wires[i].fd, SHUT_RDWR);
    pthread_cond_broadcast(&l->work);
}

// ---------------------------------------------------------------- wires
static void await_work_held(struct link *l) {
    uint64_t until = clock_wall_ns() + LOOK_MS * NS_PER_MS;
    struct timespec at = {.tv_sec = (time_t)(until / NS_PER_S), .tv_nsec = (long)(until % NS_PER_S)};
    if (pthread_cond_timedwait(&l->work, &l->t->lock, &at) != ETIMEDOUT || l->flows) return;
    if (clock_mono_ns() - l->idle_since < LIMIT_KV_IDLE_SECONDS * NS_PER_S) return;
    atomic_store(&l->stop, true); // nobody has sent for long
    pthread_cond_broadcast(&l->work);
}

// What a wire does next: one of the two; neither where the link ends.
struct work {
    struct parcel *parcel;
    struct burst *probe;
};

static struct parcel *take_parcel_held(struct link *l) {
    struct parcel *p = l->head;
    if (!p) return NULL;
    l->head = p->next;
    if (!l->head) l->tail = NULL;
    if (!p->flow->figures.begun_ns) p->flow->figures.begun_ns = clock_mono_ns();
    pace_taken_held(l, p->head.length);
    return p;
}

// Fails where the connection has gone meanwhile.
static int take_work(struct wire *w, struct work *out, struct err *e) {
    struct link *l = w->link;
    int rc = 0;
    *out = (struct work){NULL, NULL};
    pthread_mutex_lock(&l->t->lock);
    while (!rc && !atomic_load(&l->stop) && !(out->parcel = take_parcel_held(l)) &&
           !(out->probe = burst_take_held(l))) {
        await_work_held(l);
        if (datalink_hung_up(w->fd)) rc = err_set(e, ERR_UNREACHABLE, "it closed the connection");
    }
    pthread_mutex_unlock(&l->t->lock);
    return rc;
}

int outlet_write(struct wire *w, struct kvframe *f, const uint8_t *payload, struct err *e) {
    uint8_t head[KVFRAME_BYTES];
    f->checksum = kvframe_checksum(f, payload);
    kvframe_encode(f, head);
    tls_until(w->ssl, datalink_until(clock_mono_ns(), w->link->t->o.frame_ms, f->length));
    struct tls_part parts[] = {{head, sizeof head}, {payload, f->length}};
    if (tls_write_parts(w->ssl, parts, 2, e)) return -1;
    w->written += f->length;
    if (w->written < w->link->t->o.rekey_bytes) return 0;
    w->written = 0;
    return tls_rekey(w->ssl, e);
}

static int write_parcel(struct wire *w, const struct parcel *p, struct err *e) {
    const struct kv_shape *s = &p->flow->spec.shape;
    struct kvframe f = p->head;
    const uint8_t *rows = p->rows;
    if (p->elements) {
        if (transfers_room(&w->room, &w->room_size, f.length, e)) return -1;
        convert_rows(s->dtype, rows, p->flow->spec.wire, w->room, p->elements);
        rows = w->room;
    }
    return outlet_write(w, &f, rows, e);
}

static void parcel_sent(struct link *l, struct parcel *p, bool ok) {
    struct transfers *t = l->t;
    pthread_mutex_lock(&t->lock);
    if (ok) {
        p->flow->figures.bytes += p->head.length;
        p->flow->figures.last_ns = clock_mono_ns();
    }
    pace_sent_held(l, p->head.length);
    outflow_done_held(p);
    pthread_mutex_unlock(&t->lock);
}

static int send_parcel(struct wire *w, struct parcel *p, struct err *e) {
    int rc = write_parcel(w, p, e);
    parcel_sent(w->link, p, !rc);
    return rc;
}

// From now on the descriptor is known to who breaks the link.
static int publish(struct wire *w, int fd, struct err *e) {
    struct link *l = w->link;
    pthread_mutex_lock(&l->t->lock);
    w->fd = fd;
    bool stopped = atomic_load(&l->stop);
    pthread_mutex_unlock(&l->t->lock);
    return stopped ? err_set(e, ERR_CANCELLED, "the connection is not needed any more") : 0;
}

static int open_wire(struct wire *w, struct err *e) {
    const struct link *l = w->link;
    uint8_t let_in;
    int fd = datalink_dial(l->host, l->port, &l->stop, e);
    if (fd < 0 || publish(w, fd, e)) return -1;
    uint64_t until = clock_mono_ns() + LIMIT_KV_CONNECT_MS * NS_PER_MS;
    if (datalink_tune(fd, LIMIT_KV_CONNECT_MS, e) || tls_connect(w->ssl, fd, until, e)) return -1;
    // A TLS 1.3 client that is refused believes that it is connected: the peer says so itself.
    int rc = tls_read(w->ssl, &let_in, 1, e);
    if (rc > 0) return err_set(e, ERR_UNREACHABLE, "it closed the connection at once");
    if (rc || datalink_tune(fd, LIMIT_KV_STALL_SECONDS * 1000, e)) return -1;
    pthread_mutex_lock(&l->t->lock);
    w->up = true;
    pthread_mutex_unlock(&l->t->lock);
    return 0;
}

static void *run(void *arg) {
    struct wire *w = arg;
    struct link *l = w->link;
    struct transfers *t = l->t;
    struct work work;
    struct err why, said;
    int rc = open_wire(w, &why);
    while (!rc && !(rc = take_work(w, &work, &why)) && (work.parcel || work.probe))
        rc = work.parcel ? send_parcel(w, work.parcel, &why) : burst_send(w, work.probe, &why);
    pthread_mutex_lock(&t->lock);
    if (rc) {
        err_set(&said, why.code, "rows cannot be sent to node %s: %s", l->node, why.msg);
        outlet_break_held(l, &said);
    }
    l->running--;
    transfers_wake_held(t);
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

// ---------------------------------------------------------------- links
static bool stands_held(const struct link *l) {
    if (atomic_load(&l->stop)) return false;
    for (int i = 0; i < l->n_wires; i++)
        if (l->wires[i].up && datalink_hung_up(l->wires[i].fd)) return false;
    return true;
}

static struct link *find_held(struct transfers *t, const struct link *like) {
    for (struct link *l = t->links, *next; l; l = next) {
        static const struct err gone = {.code = ERR_UNREACHABLE, .msg = "the other node has closed its connections"};
        next = l->next;
        if (strcmp(l->node, like->node) || strcmp(l->host, like->host) || l->port != like->port ||
            memcmp(l->pin, like->pin, TLS_PIN) || atomic_load(&l->stop))
            continue;
        if (stands_held(l)) return l;
        outlet_break_held(l, &gone);
    }
    return NULL;
}

static int open_sessions(struct link *l, struct err *e) {
    for (int i = 0; i < l->t->o.connections; i++) {
        l->wires[i] = (struct wire){.link = l, .fd = -1, .ssl = tls_client(l->t->tls, TLS_DATA, l->pin, e)};
        if (!l->wires[i].ssl) return -1;
        l->n_wires++;
    }
    return 0;
}

static void free_link(struct link *l) {
    for (int i = 0; i < l->n_wires; i++) {
        tls_close(l->wires[i].ssl, l->wires[i].fd);
        free(l->wires[i].room);
    }
    pthread_cond_destroy(&l->work);
    free(l);
}

static struct link *make(const struct link *like, struct err *e) {
    struct link *l = malloc(sizeof *l);
    if (!l) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *l = *like;
    atomic_init(&l->stop, false);
    l->idle_since = clock_mono_ns();
    pthread_cond_init(&l->work, NULL);
    if (!open_sessions(l, e)) return l;
    free_link(l);
    return NULL;
}

static int count_threads_held(const struct transfers *t) {
    int n = 0;
    for (const struct link *l = t->links; l; l = l->next) n += l->n_wires;
    return n;
}

// Starts as many as the system lets it.
static int start_held(struct link *l, struct err *e) {
    int n = l->n_wires;
    for (l->n_wires = 0; l->n_wires < n; l->n_wires++)
        if (transfers_thread(&l->wires[l->n_wires].thread, run, &l->wires[l->n_wires], e)) break;
    l->running = l->n_wires;
    for (int i = l->n_wires; i < n; i++) SSL_free(l->wires[i].ssl);
    return l->n_wires ? 0 : -1;
}

int outlet_find(struct transfers *t, const char *node, struct link *out, struct err *e) {
    *out = (struct link){.t = t};
    memcpy(out->node, node, strlen(node));
    if (!t->o.find(t->o.arg, node, out->host, sizeof out->host, &out->port, out->pin)) return 0;
    return err_set(e, ERR_UNREACHABLE, "the link to node %s is down, or its address is not known", node);
}

struct link *outlet_get_held(struct transfers *t, const struct link *like, struct err *e) {
    struct link *l = find_held(t, like);
    if (l) return l;
    if (count_threads_held(t) + t->o.connections > (int)LIMIT_KV_THREADS) {
        err_set(e, ERR_BUSY, "too many connections for KV rows: try again later");
        return NULL;
    }
    l = make(like, e);
    if (l && start_held(l, e)) {
        free_link(l);
        return NULL;
    }
    if (l) {
        l->next = t->links;
        t->links = l;
    }
    return l;
}

void outlet_settle(struct link *l) {
    pthread_mutex_lock(&l->t->lock);
    bool over = !l->running;
    pthread_mutex_unlock(&l->t->lock);
    if (over) outlet_free(l);
}

void outlet_free(struct link *l) {
    struct link **at = &l->t->links;
    for (int i = 0; i < l->n_wires; i++) pthread_join(l->wires[i].thread, NULL);
    pthread_mutex_lock(&l->t->lock);
    while (*at != l) at = &(*at)->next;
    *at = l->next;
    pthread_mutex_unlock(&l->t->lock);
    free_link(l);
}

// Connections that peers have opened: a thread each, which reads frames into the slots of inflows.
#include "cluster/transfer_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "cluster/convert.h"
#include "cluster/datalink.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { DISCARD = 64 << 10 };

// ---------------------------------------------------------------- frames
static int discard(struct inlet *in, uint32_t length, struct err *e) {
    if (transfers_room(&in->room, &in->room_size, DISCARD, e)) return -1;
    for (uint32_t n; length; length -= n) {
        n = length < DISCARD ? length : DISCARD;
        if (tls_read(in->ssl, in->room, n, e)) return err_set(e, ERR_UNREACHABLE, "it was cut within a frame");
    }
    return 0;
}

// Reads the bytes of a frame to their place. -1: the connection is of no use any more; *bad is set where only the
// stream is to fail.
static int receive(struct inlet *in, const struct kvframe *f, const struct claim *c, bool *bad, struct err *e) {
    bool direct = c->piece.from == c->piece.to;
    uint8_t *at = c->to;
    if (!direct && transfers_room(&in->room, &in->room_size, f->length, e)) return -1;
    if (!direct) at = in->room;
    int rc = tls_read(in->ssl, at, f->length, e);
    if (rc > 0) return err_set(e, ERR_UNREACHABLE, "it was closed within a frame");
    if (rc) return -1;
    if (kvframe_checksum(f, at) != f->checksum) {
        *bad = true;
        return err_set(e, ERR_INVALID, "damaged rows: layer %u from %u", f->layer, f->first);
    }
    if (!direct) convert_rows(c->piece.from, at, c->piece.to, c->to, c->piece.elements);
    return 0;
}

static int refuse(struct inlet *in, const struct kvframe *f, const struct err *why, struct err *e) {
    if (why->code == ERR_NOT_FOUND && in->stranger != f->stream)
        log_debug("frames of node %s are thrown away: %s", in->node, why->msg);
    in->stranger = f->stream;
    return discard(in, f->length, e);
}

static int take_probe(struct inlet *in, const struct kvframe *f, struct err *e) {
    struct err why = {.code = ERR_NONE};
    if (sink_admit(in, f, &why)) return refuse(in, f, &why, e);
    int rc = transfers_room(&in->room, &in->room_size, f->length, e) ? -1 : tls_read(in->ssl, in->room, f->length, e);
    if (rc > 0) rc = err_set(e, ERR_UNREACHABLE, "it was closed within a frame");
    if (rc)
        why = *e;
    else if (kvframe_checksum(f, in->room) != f->checksum)
        err_set(&why, ERR_INVALID, "a probe came damaged");
    sink_arrived(in, f, clock_cpu_ns() - in->cpu_ns, why.code ? &why : NULL);
    return rc;
}

static int take_frame(struct inlet *in, const struct kvframe *f, struct err *e) {
    struct claim c;
    struct err why;
    bool bad = false;
    if (f->type == KVFRAME_PROBE) return take_probe(in, f, e);
    if (inflow_claim(in, f, &c, &why)) return refuse(in, f, &why, e);
    int rc = receive(in, f, &c, &bad, e);
    inflow_arrived(&c, f->length, rc ? e : NULL);
    return bad ? 0 : rc;
}

// 1: the peer has ended the connection properly.
static int next_frame(struct inlet *in, struct err *e) {
    uint8_t head[KVFRAME_BYTES];
    struct kvframe f;
    unsigned stall_ms = in->t->o.frame_ms;
    in->cpu_ns = clock_cpu_ns();
    datalink_wait(in->ssl, in->fd);
    uint64_t begun = clock_mono_ns();
    tls_until(in->ssl, datalink_until(begun, stall_ms, sizeof head));
    int rc = tls_read(in->ssl, head, sizeof head, e);
    if (rc) return rc;
    if (kvframe_decode(head, &f, e)) return -1;
    tls_until(in->ssl, datalink_until(begun, stall_ms, f.length));
    return take_frame(in, &f, e);
}

// ---------------------------------------------------------------- life
static void *run(void *arg) {
    struct inlet *in = arg;
    struct transfers *t = in->t;
    struct err why;
    int rc = tls_write(in->ssl, "", 1, &why); // lets it in: only now does the peer know
    while (!rc) rc = next_frame(in, &why);
    if (rc < 0) log_info("a connection with KV rows from node %s ended: %s", in->node, why.msg);
    pthread_mutex_lock(&t->lock);
    inflow_cut_held(t, in->index, rc < 0 ? &why : NULL);
    in->ended = true;
    transfers_wake_held(t);
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static unsigned count(const struct transfers *t, const char *node) {
    unsigned n = 0;
    for (size_t i = 0; i < LIMIT_KV_CONNECTIONS; i++) n += t->inlets[i] && !strcmp(t->inlets[i]->node, node);
    return n;
}

// The oldest connection of this node, or - without a node - of the one that has most.
static struct inlet *oldest(const struct transfers *t, const char *node) {
    struct inlet *found = NULL;
    unsigned most = 0;
    for (size_t i = 0; i < LIMIT_KV_CONNECTIONS; i++) {
        struct inlet *in = t->inlets[i];
        if (!in || (node && strcmp(in->node, node))) continue;
        unsigned n = node ? 0 : count(t, in->node);
        if (found && (n < most || (n == most && in->since_ns > found->since_ns))) continue;
        found = in;
        most = n;
    }
    return found;
}

// What one node opens takes no other node's place: its own oldest connection ends, which its peer may have given up
// long since. Where all places are taken, the node that has most gives one to a node that has less.
static void make_room(struct transfers *t, const char *node) {
    unsigned own = count(t, node), all = 0;
    for (size_t i = 0; i < LIMIT_KV_CONNECTIONS; i++) all += t->inlets[i] != NULL;
    struct inlet *gives = NULL;
    if (own >= LIMIT_KV_CONNECTIONS_EACH)
        gives = oldest(t, node);
    else if (all == LIMIT_KV_CONNECTIONS)
        gives = oldest(t, NULL);
    if (!gives || (own < LIMIT_KV_CONNECTIONS_EACH && count(t, gives->node) <= own)) return;
    shutdown(gives->fd, SHUT_RDWR);
    inlet_free(gives);
}

static struct inlet *make(struct transfers *t, const char *node, SSL *ssl, int fd) {
    int index = 0;
    make_room(t, node);
    while (index < (int)LIMIT_KV_CONNECTIONS && t->inlets[index]) index++;
    struct inlet *in = index < (int)LIMIT_KV_CONNECTIONS && strlen(node) < NODE_ID ? calloc(1, sizeof *in) : NULL;
    if (!in) return NULL;
    in->t = t;
    in->index = index;
    in->since_ns = clock_mono_ns();
    in->ssl = ssl;
    in->fd = fd;
    memcpy(in->node, node, strlen(node));
    return in;
}

void transfers_accept(struct transfers *t, const char *node, SSL *ssl, int fd) {
    struct err e = {.msg = "too many of them, or no memory"};
    struct inlet *in = make(t, node, ssl, fd);
    SSL_set_read_ahead(ssl, 1); // fewer system calls
    if (in && !datalink_tune(fd, LIMIT_KV_STALL_SECONDS * 1000, &e)) {
        pthread_mutex_lock(&t->lock);
        t->inlets[in->index] = in;
        pthread_mutex_unlock(&t->lock);
        if (!transfers_thread(&in->thread, run, in, &e)) return;
        t->inlets[in->index] = NULL;
    }
    log_warn("a connection with KV rows from node %s is refused: %s", node, e.msg);
    free(in);
    tls_close(ssl, fd);
}

void inlet_settle(struct inlet *in) {
    pthread_mutex_lock(&in->t->lock);
    bool ended = in->ended;
    pthread_mutex_unlock(&in->t->lock);
    if (ended) inlet_free(in);
}

void inlet_free(struct inlet *in) {
    pthread_join(in->thread, NULL);
    in->t->inlets[in->index] = NULL;
    tls_close(in->ssl, in->fd);
    free(in->room);
    free(in);
}

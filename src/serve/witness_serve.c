// Logs that are read by other members: this node's own, by whoever mirrors them; and mirrors, by the node whose log it
// is. Nobody else gets anything. Pieces are read, and written in base64, by a thread.
#include "audit/walk.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/ledger.h"
#include "serve/node.h"
#include "serve/witness_internal.h"

#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- on the thread
static int read_piece(struct reader *r, uint8_t *room) {
    char path[PATH_SIZE];
    const struct audit_io *io = &audit_files;
    if (path_join(path, r->dir, AUDIT_CHECKPOINT, &r->why)) return -1;
    if (r->mirror && io->load(io->arg, path, r->note, sizeof r->note, &r->note_len))
        return err_set(&r->why, ERR_NOT_FOUND, "there is no mirror of this log");
    if (path_join(path, r->dir, AUDIT_LOG, &r->why)) return -1;
    int file = io->open(io->arg, path, false);
    int64_t got = file < 0 ? -1 : io->read(io->arg, file, room, r->wanted, r->at);
    if (file >= 0) io->close(io->arg, file);
    if (got < 0) return err_set(&r->why, ERR_NOT_FOUND, "this log cannot be read here");
    base64_encode(room, (size_t)got, r->text);
    r->n = BASE64_SIZE((size_t)got) - 1;
    return 0;
}

static void work(void *arg) {
    struct reader *r = arg;
    uint8_t *room = malloc(PIECE_MOST);
    r->why.code = ERR_NONE;
    r->note_len = r->n = 0;
    if (!r->text) r->text = malloc(BASE64_SIZE(PIECE_MOST));
    if (!room || !r->text)
        err_set(&r->why, ERR_INTERNAL, "out of memory");
    else if (read_piece(r, room) && r->why.code == ERR_NONE)
        err_set(&r->why, ERR_INTERNAL, "this log cannot be read here");
    free(room);
}

// ---------------------------------------------------------------- on the loop
static void answer(const struct witness *w, const char *node, const struct piece *p) {
    struct err why;
    json_t *msg = piece_json(p);
    if (msg && node_send(w->s, node, msg, &why)) log_debug("a piece was not sent: %s", why.msg);
    json_decref(msg);
}

static void on_done(void *arg) {
    struct reader *r = arg;
    const struct piece piece = {.log = r->log,
                                .at = r->at,
                                .data = r->why.code ? NULL : r->text,
                                .n = r->n,
                                .note = r->note_len ? r->note : NULL,
                                .note_len = r->note_len,
                                .error = r->why.msg};
    r->busy = false;
    answer(r->w, r->node, &piece);
}

static void begin(struct reader *r) {
    struct err why;
    r->next_ns = clock_mono_ns() + (uint64_t)r->wanted * NS_PER_S / FETCH_RATE_RESTORE;
    if (!keeper_do(r->w->mirrorer, work, on_done, r, &why)) return;
    r->busy = false; // it asks again
}

static void on_later(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    begin(arg);
}

static struct reader *reader_of(struct witness *w, const char *node) {
    struct reader *unused = NULL;
    for (size_t i = 0; i < ROSTER_NODES; i++) {
        struct reader *r = &w->readers[i];
        if (!strcmp(r->node, node)) return r;
        if (!unused && !r->busy && (!r->node[0] || !cluster_find(w->s->cluster, r->node))) unused = r;
    }
    if (unused) snprintf(unused->node, sizeof unused->node, "%s", node);
    return unused;
}

// Where that log is, for a node that may read it.
static int find(const struct witness *w, const struct peer *p, const char *log, bool *mirror, char out[PATH_SIZE],
                struct err *e) {
    char prefix[NOTE_NAME], name[2 * NODE_ID + 2 * WITNESS_NAME];
    int n = snprintf(prefix, sizeof prefix, "%s/%s/", witness_cluster(w), p->id);
    *mirror = !strncmp(log, prefix, (size_t)n) && ledger_is_incarnation(log + n);
    if (*mirror)
        snprintf(name, sizeof name, "mirrors/%s/%s", p->id, log + n);
    else if (own_is(w, log))
        snprintf(name, sizeof name, "%s", strrchr(log, '/') + 1);
    else
        return err_set(e, ERR_DENIED, "this log is not that node's to read here");
    return path_join(out, w->audit, name, e);
}

void readers_want(struct witness *w, const struct peer *p, const json_t *msg) {
    struct piece_want want;
    struct err why;
    struct reader *r = reader_of(w, p->id);
    if (!r || r->busy || !*witness_cluster(w)) return; // it has been asked already: the answer is on its way
    if (piece_want_read(msg, &want, &why)) {
        log_warn("a question of node '%s' for an audit log is refused: %s", p->name, why.msg);
        return;
    }
    if (find(w, p, want.log, &r->mirror, r->dir, &why)) {
        answer(w, p->id, &(struct piece){.log = want.log, .at = want.at, .error = why.msg});
        return;
    }
    snprintf(r->log, sizeof r->log, "%s", want.log);
    r->at = want.at;
    r->wanted = want.bytes;
    r->busy = true;
    uint64_t now = clock_mono_ns(), wait_us = r->next_ns > now ? (r->next_ns - now) / 1000 : 0;
    const struct timeval wait = {.tv_usec = (suseconds_t)wait_us}; // less than a second
    if (!wait_us || evtimer_add(r->later, &wait)) begin(r);
}

int readers_new(struct witness *w, struct err *e) {
    w->readers = calloc(ROSTER_NODES, sizeof *w->readers);
    for (size_t i = 0; w->readers && i < ROSTER_NODES; i++) {
        w->readers[i].w = w;
        if (!(w->readers[i].later = evtimer_new(w->s->base, on_later, &w->readers[i]))) w->readers[i].w = NULL;
        if (!w->readers[i].w) return err_set(e, ERR_INTERNAL, "out of memory");
    }
    return w->readers ? 0 : err_set(e, ERR_INTERNAL, "out of memory");
}

void readers_free(struct witness *w) {
    for (size_t i = 0; w->readers && i < ROSTER_NODES; i++) {
        if (w->readers[i].later) event_free(w->readers[i].later);
        free(w->readers[i].text);
    }
    free(w->readers);
    w->readers = NULL;
}

// The other nodes' logs, which this node cosigns.
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/ledger.h"
#include "serve/node.h"
#include "serve/witness_internal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FORK ".fork"

// ---------------------------------------------------------------- what is held
struct held *peers_held(const struct witness *w, const char *node, const char *incarnation) {
    struct held *h;
    TAILQ_FOREACH(h, &w->held, next)
    if (!strcmp(h->node, node) && !strcmp(h->incarnation, incarnation)) return h;
    return NULL;
}

static size_t count_of(const struct witness *w, const char *node) {
    const struct held *h;
    size_t n = 0;
    TAILQ_FOREACH(h, &w->held, next) n += !strcmp(h->node, node);
    return n;
}

bool peers_is_ours(const struct witness *w, const struct held *h) {
    const char *cluster = witness_cluster(w);
    size_t n = strlen(cluster);
    return n && h->n && !strncmp(h->head.origin, cluster, n) && h->head.origin[n] == '/';
}

static struct held *make(struct witness *w, const char *node, const char *incarnation) {
    struct held *h = calloc(1, sizeof *h);
    if (!h) return NULL;
    snprintf(h->node, sizeof h->node, "%s", node);
    snprintf(h->incarnation, sizeof h->incarnation, "%s", incarnation);
    h->owner = w;
    TAILQ_INSERT_TAIL(&w->held, h, next);
    return h;
}

static int path_of(const struct witness *w, const struct held *h, const char *suffix, char out[PATH_SIZE],
                   struct err *e) {
    char name[2 * NODE_ID + 2 * WITNESS_NAME];
    snprintf(name, sizeof name, "%s/%s%s", h->node, h->incarnation, suffix);
    return path_join(out, w->dir, name, e);
}

// Whether this node's own cosignature is on what it once wrote there.
static int read_held(struct witness *w, struct held *h, struct err *e) {
    char path[PATH_SIZE], *text;
    uint64_t when;
    struct note_key own = {.kind = NOTE_WITNESS};
    const struct identity *i = evidence_identity(w->s);
    if (path_of(w, h, "", path, e) || file_read(path, sizeof h->note, &text, &h->n, e)) return -1;
    memcpy(h->note, text, h->n);
    free(text);
    if (checkpoint_read(h->note, h->n, &h->head, e)) return -1;
    snprintf(own.name, sizeof own.name, "%.*s/%s", (int)strcspn(h->head.origin, "/"), h->head.origin, i->id);
    memcpy(own.public, i->audit, KEY_PUBLIC);
    return note_cosigned(h->note, h->n, &own, &when, e);
}

static void load_one(struct witness *w, const char *node, const char *name) {
    char incarnation[WITNESS_NAME];
    size_t n = strlen(name), suffix = sizeof FORK - 1;
    struct err why;
    bool fork = n > suffix && !strcmp(name + n - suffix, FORK);
    if (snprintf(incarnation, sizeof incarnation, "%.*s", (int)(fork ? n - suffix : n), name) >=
            (int)sizeof incarnation ||
        !ledger_is_incarnation(incarnation))
        return;
    struct held *h = peers_held(w, node, incarnation);
    bool made = !h;
    if (made && !(h = make(w, node, incarnation))) return;
    if (made && read_held(w, h, &why)) {
        h->finding = "damaged";
        log_error("what is held of node %.8s's audit log is damaged, and none of it is cosigned: %s", node, why.msg);
    }
    if (made) mirror_load(h);
    if (fork) h->finding = "forked";
}

static void load_node(struct witness *w, const char *node) {
    char path[PATH_SIZE];
    const struct dirent *entry;
    if (strlen(node) != NODE_ID - 1 || strspn(node, "0123456789abcdef") != NODE_ID - 1 ||
        path_join(path, w->dir, node, NULL))
        return;
    DIR *d = opendir(path);
    while (d && (entry = readdir(d))) load_one(w, node, entry->d_name);
    if (d) closedir(d);
}

int peers_load(struct witness *w, struct err *e) {
    const struct dirent *entry;
    if (path_make_dir(w->dir, e)) return -1;
    DIR *d = opendir(w->dir);
    if (!d) return err_errno(e, "cannot read %s", w->dir);
    while ((entry = readdir(d))) load_node(w, entry->d_name);
    closedir(d);
    return 0;
}

void peers_close(struct witness *w) {
    struct held *h;
    while ((h = TAILQ_FIRST(&w->held))) {
        TAILQ_REMOVE(&w->held, h, next);
        mirror_free(h);
        free(h);
    }
}

// ---------------------------------------------------------------- what is told
static void send_held(struct witness *w, const char *node, const struct held *only) {
    struct err why;
    const struct held *h;
    json_t *list = json_array();
    TAILQ_FOREACH(h, &w->held, next)
    if (peers_is_ours(w, h) && !strcmp(h->node, node) && (!only || only == h))
        json_array_append_new(list, json_stringn(h->note, h->n));
    json_t *msg = json_pack("{s:s,s:o}", "t", "audit.held", "logs", list);
    if (msg && node_send(w->s, node, msg, &why)) log_debug("node %.8s was not told: %s", node, why.msg);
    json_decref(msg);
}

void peers_tell(struct witness *w, const struct peer *p) { send_held(w, p->id, NULL); }

// ---------------------------------------------------------------- heads that come
struct claim {
    const char *note;
    size_t n;
    struct note_key key;
    struct checkpoint head;
    struct growth growth;
    const char *incarnation; // points into head
};

static int read_claim(const struct witness *w, const struct peer *p, const json_t *msg, struct claim *c,
                      struct err *e) {
    const struct roster *r = cluster_roster(w->s->cluster);
    const struct roster_node *node = r ? roster_find(r, p->id) : NULL;
    char prefix[NOTE_NAME];
    c->note = json_string_value(json_object_get(msg, "note"));
    c->n = c->note ? strlen(c->note) : 0;
    if (!node || !c->n || c->n > NOTE_BYTES) return err_set(e, ERR_INVALID, "there is no note");
    if (checkpoint_read(c->note, c->n, &c->head, e)) return -1;
    int len = snprintf(prefix, sizeof prefix, "%s/%s/", r->cluster, node->id);
    c->incarnation = c->head.origin + len;
    if (strncmp(c->head.origin, prefix, (size_t)len) != 0 || !ledger_is_incarnation(c->incarnation))
        return err_set(e, ERR_INVALID, "it is of another node's log");
    c->key = (struct note_key){.kind = NOTE_LOG};
    memcpy(c->key.name, c->head.origin, sizeof c->key.name);
    memcpy(c->key.public, node->audit, KEY_PUBLIC);
    return checkpoint_verify(c->note, c->n, &c->key, &c->head, e) ||
                   growth_read(json_object_get(msg, "growth"), &c->growth, e)
               ? -1
               : 0;
}

static void on_kept(void *arg, const struct err *why) {
    struct held *h = arg;
    struct err e;
    size_t n = h->then_n;
    h->then_n = 0;
    if (why) return; // nothing is said: it may not be there after a crash
    h->head = h->then;
    h->n = n;
    memcpy(h->note, h->then_note, n);
    json_t *msg = json_pack("{s:s,s:s%}", "t", "audit.cosigned", "note", h->note, h->n);
    if (msg && node_send(h->owner->s, h->node, msg, &e)) log_debug("a cosignature was not sent: %s", e.msg);
    json_decref(msg);
}

// The log's own signature, and this node's.
static int cosign(const struct witness *w, struct held *h, const struct claim *c, struct err *e) {
    char name[NOTE_NAME];
    const struct identity *i = evidence_identity(w->s);
    char path[PATH_SIZE];
    snprintf(name, sizeof name, "%s/%s", witness_cluster(w), i->id);
    memcpy(h->then_note, c->note, c->n);
    size_t n = c->n;
    h->then = c->head;
    if (note_cosign(h->then_note, &n, name, i->audit_key, clock_wall_ns() / NS_PER_S, e) ||
        path_of(w, h, "", path, e) || keeper_put(w->keeper, path, h->then_note, n, on_kept, h, e))
        return -1;
    h->then_n = n;
    return 0;
}

static void record(const struct witness *w, const struct held *h, const struct claim *c, const char *finding) {
    evidence_of_peer(w->s, json_pack("{s:s,s:s,s:s,s:I,s:I}", "node", h->node, "log", c->head.origin, "finding",
                                     finding, "held", (json_int_t)h->head.size, "head", (json_int_t)c->head.size));
}

static void shrunk(struct witness *w, struct held *h, const struct claim *c, const struct peer *p) {
    if (h->shrunk == c->head.size + 1) return; // it was told
    h->shrunk = c->head.size + 1;
    h->finding = "shrunk";
    log_error("node '%s' has lost records of its audit log %s: it ends before record %" PRIu64 ", but %" PRIu64
              " were cosigned here",
              p->name, c->head.origin, c->head.size, h->head.size);
    record(w, h, c, "shrunk");
}

static void forked(struct witness *w, struct held *h, const struct claim *c, const struct peer *p) {
    char path[PATH_SIZE] = "";
    struct err why;
    json_t *roster = roster_document(cluster_roster(w->s->cluster));
    json_t *proof = fork_json(&(struct fork){.held = h->note,
                                             .held_len = h->n,
                                             .head = c->note,
                                             .head_len = c->n,
                                             .growth = &c->growth,
                                             .key = &c->key,
                                             .roster = roster});
    char *text = proof ? json_text(proof) : NULL;
    h->finding = "forked";
    if (!text || path_of(w, h, FORK, path, &why) || keeper_put(w->keeper, path, text, strlen(text), NULL, NULL, &why))
        log_error("the proof of a fork is not kept: out of memory");
    log_error("node '%s' has forked its audit log %s: its first %" PRIu64 " records are not those that were cosigned "
              "here; the proof is %s",
              p->name, c->head.origin, h->head.size, path);
    record(w, h, c, "forked");
    free(text);
    json_decref(proof);
    json_decref(roster);
}

void peers_head(struct witness *w, const struct peer *p, const json_t *msg) {
    struct claim c;
    struct err why;
    if (read_claim(w, p, msg, &c, &why)) {
        log_warn("a head of node '%s''s audit log is refused: %s", p->name, why.msg);
        return;
    }
    struct held *h = peers_held(w, p->id, c.incarnation);
    if (!h && count_of(w, p->id) >= LIMIT_WITNESS_LOGS) {
        log_warn("node '%s' has more than %u audit logs: this one is not cosigned", p->name, LIMIT_WITNESS_LOGS);
        return;
    }
    if (!h && !(h = make(w, p->id, c.incarnation))) return;
    if (h->then_n || (h->finding && strcmp(h->finding, "shrunk") != 0)) return;
    switch (growth_judge(&h->head, &c.head, &c.growth)) {
    case VERDICT_GROWN:
        h->finding = NULL;
        if (cosign(w, h, &c, &why)) log_warn("node '%s''s audit log is not cosigned: %s", p->name, why.msg);
        return;
    case VERDICT_FALSE: log_warn("a head of node '%s''s audit log comes without its proof", p->name); return;
    case VERDICT_SHRUNK: shrunk(w, h, &c, p); return;
    case VERDICT_FORKED: forked(w, h, &c, p); return;
    case VERDICT_OTHER: send_held(w, p->id, h); return;
    }
}

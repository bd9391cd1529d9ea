// The other nodes' records, mirrored here: of each log as far as its head is cosigned.
#include "audit/mirror.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/node.h"
#include "serve/witness_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int dir_of(const struct held *h, char out[PATH_SIZE], struct err *e) {
    char name[2 * NODE_ID + 2 * WITNESS_NAME];
    snprintf(name, sizeof name, "mirrors/%s/%s", h->node, h->incarnation);
    return path_join(out, h->owner->audit, name, e);
}

// The key by which a node's log is signed: the one that its latest head here was verified with.
static bool key_of(const struct held *h, struct note_key *out) {
    const struct roster *r = cluster_roster(h->owner->s->cluster);
    const struct roster_node *node = r ? roster_find(r, h->node) : NULL;
    if (!node) return false;
    *out = (struct note_key){.kind = NOTE_LOG};
    memcpy(out->name, h->head.origin, sizeof out->name);
    memcpy(out->public, node->audit, KEY_PUBLIC);
    return true;
}

void mirror_load(struct held *h) {
    char dir[PATH_SIZE];
    struct note_key key = {.kind = NOTE_LOG};
    struct err why;
    if (!key_of(h, &key)) key.name[0] = '\0'; // of a node that left: only its bytes count
    if (h->n && !dir_of(h, dir, &why)) h->mirrored = mirror_reach(&audit_files, dir, &key, &h->mirror_bytes);
}

void mirror_free(struct held *h) {
    if (h->fetch) fetch_close(h->fetch);
    free(h->fetch);
    h->fetch = NULL;
}

// ---------------------------------------------------------------- room on the disk
uint64_t mirrors_bytes(const struct witness *w, const char *node) {
    const struct held *h;
    uint64_t sum = 0;
    TAILQ_FOREACH(h, &w->held, next)
    if (!node || !strcmp(h->node, node)) sum += h->mirror_bytes;
    return sum;
}

bool mirrors_full(const struct witness *w) {
    const struct held *h;
    TAILQ_FOREACH(h, &w->held, next)
    if (h->mirror_full) return true;
    return false;
}

// Each other member may have the same part of it, so that none takes that of others.
static bool has_room(const struct witness *w, const struct held *h) {
    const struct roster *r = cluster_roster(w->s->cluster);
    uint64_t most = (uint64_t)w->s->settings.audit_mirrors << 20, others = r && r->n_nodes > 2 ? r->n_nodes - 1 : 1;
    return mirrors_bytes(w, h->node) + PIECE_MOST <= most / others && mirrors_bytes(w, NULL) + PIECE_MOST <= most;
}

// ---------------------------------------------------------------- what is told
static void tell(const struct held *h) {
    struct err why;
    json_t *msg =
        json_pack("{s:s,s:s,s:I}", "t", "audit.mirrored", "log", h->head.origin, "size", (json_int_t)h->mirrored);
    if (msg && node_send(h->owner->s, h->node, msg, &why)) log_debug("a mirror was not told of: %s", why.msg);
    json_decref(msg);
}

void mirrors_up(struct witness *w, const struct peer *p) {
    struct held *h;
    TAILQ_FOREACH(h, &w->held, next) {
        if (strcmp(h->node, p->id) != 0 || !peers_is_ours(w, h)) continue;
        h->mirror_refused = false;
        h->mirror_rest_ns = 0;
        if (h->mirrored) tell(h);
        if (h->fetch) fetch_up(h->fetch);
    }
}

// ---------------------------------------------------------------- fetching
static void on_ended(struct fetch *f, const struct err *why) {
    struct held *h = f->arg;
    h->mirror_bytes = f->at;
    if (!why) {
        h->mirrored = f->target.size;
        tell(h);
        return;
    }
    h->mirror_refused = why->code == ERR_INVALID;
    h->mirror_rest_ns = clock_mono_ns() + (uint64_t)WITNESS_PATIENCE_MS * NS_PER_MS;
    if (h->mirror_refused)
        log_error("what node %.8s sends of its audit log is not what was counter-signed, and not mirrored: %s", h->node,
                  why->msg);
    else
        log_info("the audit log of node %.8s is not mirrored for the moment: %s", h->node, why->msg);
}

static struct fetch *make(struct held *h, struct err *e) {
    struct witness *w = h->owner;
    struct fetch *f = calloc(1, sizeof *f);
    if (!f) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    f->s = w->s;
    f->keeper = w->mirrorer;
    f->ended = on_ended;
    f->arg = h;
    f->rate = FETCH_RATE;
    snprintf(f->from, sizeof f->from, "%s", h->node);
    f->at = h->mirror_bytes;
    if (key_of(h, &f->key) && !dir_of(h, f->dir, e) && !fetch_init(f, e)) return f;
    free(f);
    return NULL;
}

// This node's own cosignature, as the list of witnesses that stands beside a log.
static char *witnesses_text(const struct held *h) {
    const struct identity *i = evidence_identity(h->owner->s);
    struct witnessed one = {.key = {.kind = NOTE_WITNESS}, .n = h->n};
    json_t *list = json_array();
    snprintf(one.key.name, sizeof one.key.name, "%s/%s", witness_cluster(h->owner), i->id);
    memcpy(one.key.public, i->audit, KEY_PUBLIC);
    memcpy(one.note, h->note, h->n);
    char *text = list && !witnessed_add_json(list, &one) ? json_text(list) : NULL;
    json_decref(list);
    return text;
}

char *witness_roster_text(const struct witness *w) {
    json_t *document = roster_document(cluster_roster(w->s->cluster));
    char *text = document ? json_text(document) : NULL;
    json_decref(document);
    return text;
}

static void start(struct held *h) {
    struct err why;
    if (!h->fetch && !(h->fetch = make(h, &why))) return;
    struct fetch_goal goal = {.target = h->head,
                              .note = h->note,
                              .note_len = h->n,
                              .witnesses = witnesses_text(h),
                              .roster = witness_roster_text(h->owner)};
    if (goal.witnesses && goal.roster)
        fetch_start(h->fetch, &goal);
    else {
        free(goal.witnesses);
        free(goal.roster);
    }
}

static bool is_wanted(struct witness *w, struct held *h) {
    const struct peer *p = cluster_find(w->s->cluster, h->node);
    if (!p || !p->up || !peers_is_ours(w, h) || h->head.size <= h->mirrored || h->mirror_refused) return false;
    if ((h->finding && strcmp(h->finding, "shrunk") != 0) || !w->s->settings.audit_mirrors) return false;
    h->mirror_full = !has_room(w, h);
    return !h->mirror_full && clock_mono_ns() >= h->mirror_rest_ns;
}

static bool is_active(const struct held *h) { return h->fetch && (h->fetch->running || h->fetch->busy); }

static bool is_asked(const struct witness *w, const char *node) {
    const struct held *h;
    TAILQ_FOREACH(h, &w->held, next)
    if (!strcmp(h->node, node) && is_active(h)) return true;
    return false;
}

static bool is_latest(const struct witness *w, const struct held *one) {
    const struct held *h;
    TAILQ_FOREACH(h, &w->held, next)
    if (!strcmp(h->node, one->node) && strcmp(h->incarnation, one->incarnation) > 0) return false;
    return true;
}

// Whether it goes on.
static void look_after(struct witness *w, struct held *h) {
    const struct peer *p = cluster_find(w->s->cluster, h->node);
    struct err why;
    h->mirror_bytes = h->fetch->at;
    if (!p || !p->up) {
        err_set(&why, ERR_UNREACHABLE, "its link is down");
        fetch_stop(h->fetch, &why);
    } else if (!has_room(w, h)) {
        err_set(&why, ERR_LIMIT, "there is no room for more: see the setting audit_mirrors");
        h->mirror_full = true;
        fetch_stop(h->fetch, &why);
    } else
        fetch_tick(h->fetch);
}

void mirrors_tick(struct witness *w) {
    struct held *h;
    size_t running = 0;
    TAILQ_FOREACH(h, &w->held, next) {
        running += is_active(h);
        if (is_active(h))
            look_after(w, h);
        else if (h->fetch && !is_latest(w, h))
            mirror_free(h); // one that is not written any more
    }
    TAILQ_FOREACH(h, &w->held, next) {
        if (running >= WITNESS_MIRRORS_AT_ONCE) return;
        if (is_asked(w, h->node) || !is_wanted(w, h)) continue;
        running++;
        start(h);
    }
}

bool mirrors_heard(struct witness *w, const struct peer *p, const struct piece *piece) {
    const char *slash = strrchr(piece->log, '/');
    struct held *h = slash ? peers_held(w, p->id, slash + 1) : NULL;
    if (!h || !h->fetch || strcmp(h->fetch->key.name, piece->log) != 0) return false;
    fetch_heard(h->fetch, piece);
    return true;
}

// This node's own log, which other nodes cosign.
#include "audit/walk.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/ledger.h"
#include "serve/node.h"
#include "serve/witness_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void own_key_of(const struct witness *w, const char *origin, struct note_key *out) {
    *out = (struct note_key){.kind = NOTE_LOG};
    snprintf(out->name, sizeof out->name, "%s", origin);
    memcpy(out->public, evidence_identity(w->s)->audit, KEY_PUBLIC);
}

uint64_t own_witnessed(const struct witness *w) {
    uint64_t most = 0;
    for (size_t i = 0; i < w->n; i++)
        if (w->list[i].head.size > most) most = w->list[i].head.size;
    return most;
}

// ---------------------------------------------------------------- which log
// Since when there may be a tail: the latest cosignature, else the log's beginning.
static uint64_t earliest_tail(const struct witness *w) {
    char path[PATH_SIZE];
    struct stat st;
    uint64_t s = 0;
    for (size_t i = 0; i < w->n; i++)
        if (w->list[i].when > s) s = w->list[i].when;
    if (!s && !path_join(path, w->log, AUDIT_KEY, NULL) && !stat(path, &st)) s = (uint64_t)st.st_mtime;
    return s * NS_PER_S;
}

static void load(struct witness *w, struct audit *a) {
    struct witnessed *list;
    struct note_key key;
    struct err why;
    size_t n;
    snprintf(w->log, sizeof w->log, "%s", audit_dir(a));
    own_key_of(w, audit_origin(a), &key);
    w->n = 0;
    w->dirty = false;
    memset(w->cosigners, 0, sizeof w->cosigners);
    if (witnessed_load(&audit_files, w->log, &key, &list, &n, &why)) {
        log_warn("%s: it will be made anew", why.msg);
        n = 0;
    }
    if (n) memcpy(w->list, list, n * sizeof *list);
    w->n = n;
    free(list);
    w->tail_since_wall = audit_head(a, NULL, NULL) > own_witnessed(w) ? earliest_tail(w) : 0;
}

// The current log; NULL where there is none, or none to be cosigned.
static struct audit *current(struct witness *w) {
    struct audit *a = evidence_log(w->s);
    if (!a || !*witness_cluster(w)) return NULL;
    if (strcmp(audit_dir(a), w->log) != 0) {
        own_keep(w);
        load(w, a);
    }
    return a;
}

void own_keep(struct witness *w) {
    char path[PATH_SIZE];
    struct err why;
    if (!w->dirty) return;
    json_t *list = json_array();
    for (size_t i = 0; i < w->n; i++)
        if (witnessed_add_json(list, &w->list[i])) log_warn("out of memory");
    char *text = list ? json_text(list) : NULL;
    if (!text || path_join(path, w->log, AUDIT_WITNESSES, &why) ||
        keeper_put(w->keeper, path, text, strlen(text), NULL, NULL, &why))
        log_warn("what other nodes have cosigned is not kept yet");
    else
        w->dirty = false;
    free(text);
    json_decref(list);
}

// ---------------------------------------------------------------- heads go out
static struct cosigner *cosigner_of(struct witness *w, const char *node) {
    struct cosigner *unused = NULL;
    for (size_t i = 0; i < ROSTER_NODES; i++) {
        struct cosigner *c = &w->cosigners[i];
        if (!strcmp(c->node, node)) return c;
        if (!unused && (!c->node[0] || !cluster_find(w->s->cluster, c->node))) unused = c;
    }
    if (!unused) return NULL;
    *unused = (struct cosigner){.base = 0};
    snprintf(unused->node, sizeof unused->node, "%s", node);
    return unused;
}

static void send_head(struct witness *w, struct audit *a, struct cosigner *c, uint64_t head, const char *note,
                      size_t n) {
    struct growth g = {.size = c->base};
    struct err why;
    if (audit_prove_growth(a, c->base, head, &g.root, g.path, &g.n, &why)) {
        log_warn("the audit log's growth cannot be proven: %s", why.msg);
        return;
    }
    json_t *msg = json_pack("{s:s,s:s%,s:o}", "t", "audit.head", "note", note, n, "growth", growth_json(&g));
    if (msg && !node_send(w->s, c->node, msg, &why)) {
        c->asked = head;
        c->asked_ns = clock_mono_ns();
        c->asked_wall = clock_wall_ns();
    }
    json_decref(msg);
}

void own_tick(struct witness *w) {
    struct audit *a = current(w);
    struct peers *peers = cluster_peers(w->s->cluster);
    char note[NOTE_BYTES];
    size_t n = 0;
    if (!a || !peers) return;
    own_keep(w);
    uint64_t head = audit_head(a, note, &n), now = clock_mono_ns();
    if (head > own_witnessed(w) && !w->tail_since_wall) w->tail_since_wall = clock_wall_ns();
    if (evidence_trouble(w->s, NULL)) return;
    for (const struct peer *p = peers_next(peers, NULL); p; p = peers_next(peers, p)) {
        struct cosigner *c = p->up && cluster_find(w->s->cluster, p->id) ? cosigner_of(w, p->id) : NULL;
        if (!c || head <= c->base) continue;
        if (c->asked && now - c->asked_ns < WITNESS_PATIENCE_MS * NS_PER_MS) continue;
        send_head(w, a, c, head, note, n);
    }
}

void own_up(struct witness *w, const struct peer *p) {
    struct cosigner *c = cosigner_of(w, p->id);
    if (c) c->base = c->asked = 0; // it says soon what it holds
}

// ---------------------------------------------------------------- what the others say of it
bool own_is(const struct witness *w, const char *origin) {
    char prefix[NOTE_NAME];
    int n = snprintf(prefix, sizeof prefix, "%s/%s/", witness_cluster(w), evidence_identity(w->s)->id);
    return !strncmp(origin, prefix, (size_t)n) && ledger_is_incarnation(origin + n);
}

// Whether that note is one of this node's own logs.
static int read_own(const struct witness *w, const char *note, struct note_key *key, struct checkpoint *c,
                    struct err *e) {
    if (!note || strlen(note) > NOTE_BYTES) return err_set(e, ERR_INVALID, "there is no note");
    if (checkpoint_read(note, strlen(note), c, e)) return -1;
    own_key_of(w, c->origin, key);
    if (own_is(w, c->origin)) return checkpoint_verify(note, strlen(note), key, c, e);
    return err_set(e, ERR_INVALID, "it is of another node's log");
}

static void own_held_one(struct witness *w, struct audit *a, const struct peer *p, const char *note) {
    struct note_key key;
    struct checkpoint c;
    struct err why;
    char own[NOTE_BYTES];
    size_t n = 0;
    if (read_own(w, note, &key, &c, &why)) {
        log_warn("what node '%s' says to hold of this node's audit log is refused: %s", p->name, why.msg);
        return;
    }
    bool has = evidence_has(w->s, note, strlen(note), &c, p->name);
    struct cosigner *k = cosigner_of(w, p->id);
    if (!k || strcmp(c.origin, audit_origin(a)) != 0) return;
    uint64_t head = audit_head(a, own, &n);
    k->base = c.size <= head ? c.size : 0;
    k->asked = 0;
    if (!has) send_head(w, a, k, head, own, n); // so that the other node, too, knows and can prove it
}

void own_held(struct witness *w, const struct peer *p, const json_t *msg) {
    struct audit *a = current(w);
    const json_t *logs = json_object_get(msg, "logs");
    for (size_t i = 0; a && i < json_array_size(logs) && i < LIMIT_WITNESS_LOGS; i++)
        own_held_one(w, a, p, json_string_value(json_array_get(logs, i)));
}

// Keeps the newest of each witness.
static void take(struct witness *w, const struct witnessed *new) {
    size_t i = 0, oldest = 0;
    for (; i < w->n && strcmp(w->list[i].key.name, new->key.name) != 0; i++)
        if (w->list[i].when < w->list[oldest].when) oldest = i;
    if (i == WITNESSES) i = oldest;
    if (i == w->n) w->n++;
    w->list[i] = *new;
    w->dirty = true;
}

void own_cosigned(struct witness *w, const struct peer *p, const json_t *msg) {
    struct audit *a = current(w);
    const struct roster *r = cluster_roster(w->s->cluster);
    const struct roster_node *node = r ? roster_find(r, p->id) : NULL;
    const char *note = json_string_value(json_object_get(msg, "note"));
    struct note_key key, other = {.kind = NOTE_WITNESS};
    struct checkpoint c;
    struct witnessed new;
    struct err why;
    struct cosigner *k = cosigner_of(w, p->id);
    if (!a || !node || !k) return;
    snprintf(other.name, sizeof other.name, "%s/%s", r->cluster, node->id);
    memcpy(other.public, node->audit, KEY_PUBLIC);
    if (read_own(w, note, &key, &c, &why) || witnessed_read(note, strlen(note), &key, &other, &new, &why)) {
        log_warn("a cosignature from node '%s' is refused: %s", p->name, why.msg);
        return;
    }
    if (!evidence_has(w->s, note, strlen(note), &c, p->name) || strcmp(c.origin, audit_origin(a)) != 0) return;
    bool more = c.size > own_witnessed(w);
    take(w, &new);
    if (more) w->tail_since_wall = audit_head(a, NULL, NULL) > c.size ? k->asked_wall : 0;
    k->base = c.size;
    k->asked = 0;
}

// ---------------------------------------------------------------- how far the others' mirrors reach
void own_mirrored(struct witness *w, const struct peer *p, const json_t *msg) {
    const struct audit *a = current(w);
    struct cosigner *k = cosigner_of(w, p->id);
    const char *log = NULL;
    int64_t size = 0;
    struct err why;
    if (json_get_string(msg, "log", &log, &why) || json_get_int(msg, "size", 0, INT64_MAX >> 1, &size, &why))
        log_warn("what node '%s' says of its mirror is refused: %s", p->name, why.msg);
    else if (a && k && log && !strcmp(log, audit_origin(a)))
        k->mirrored = (uint64_t)size;
}

uint64_t own_reach(const struct witness *w, size_t *nodes) {
    uint64_t most = 0;
    *nodes = 0;
    for (size_t i = 0; i < ROSTER_NODES; i++) {
        const struct cosigner *k = &w->cosigners[i];
        if (!k->mirrored || !cluster_find(w->s->cluster, k->node)) continue;
        ++*nodes;
        if (k->mirrored > most) most = k->mirrored;
    }
    return most;
}

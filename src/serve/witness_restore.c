// This node's own log, back from another node's mirror: asked for its head, which this node's key must have signed and
// that node cosigned; fetched; put in place by a thread. The owner's command begins it, and looks at status for its
// end.
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/node.h"
#include "serve/witness_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void finish(struct restore *r, const struct err *why) {
    r->state = RESTORE_DONE;
    r->why.code = ERR_NONE;
    if (why) r->why = *why;
    if (why)
        log_error("the audit log %s is not restored: %s", r->key.name, why->msg);
    else
        log_info("the audit log %s is restored from node '%s': %" PRIu64 " records%s%s", r->key.name, r->name,
                 r->out.records, r->out.aside[0] ? "; its old files are in " : "", r->out.aside);
}

// ---------------------------------------------------------------- put in place
static void put_work(void *arg) {
    struct witness *w = arg;
    struct restore *r = &w->restore;
    char dir[PATH_SIZE];
    r->why.code = ERR_NONE;
    if (!path_join(dir, w->audit, strrchr(r->key.name, '/') + 1, &r->why) &&
        restore_log(r->dir, dir, &r->key, &r->out, &r->why) && r->why.code == ERR_NONE)
        err_set(&r->why, ERR_INTERNAL, "the log was not put in place");
}

static void on_put(void *arg) {
    struct witness *w = arg;
    struct restore *r = &w->restore;
    struct err why = r->why;
    const struct evidence_restored restored = {
        .origin = r->key.name, .from = r->from, .records = r->out.records, .whole = r->out.whole};
    if (why.code || evidence_restored(w->s, &restored, &why))
        finish(r, &why);
    else
        finish(r, NULL);
}

// Once nobody else writes there.
static void put(struct witness *w) {
    struct restore *r = &w->restore;
    struct err why;
    if (!evidence_at_rest(w->s)) return;
    r->state = RESTORE_PUTTING;
    mirror_close(&r->fetch.mirror);
    r->fetch.open = false;
    if (keeper_do(w->mirrorer, put_work, on_put, w, &why)) finish(r, &why);
}

// ---------------------------------------------------------------- fetched
static void on_ended(struct fetch *f, const struct err *why) {
    struct witness *w = f->arg;
    if (why) {
        finish(&w->restore, why);
        return;
    }
    w->restore.state = RESTORE_WAITING;
    put(w);
}

// What the other node's mirror reaches, by this node's own signature and that node's.
static int read_goal(const struct witness *w, const struct piece *p, struct fetch_goal *out, struct err *e) {
    const struct restore *r = &w->restore;
    const struct roster *roster = cluster_roster(w->s->cluster);
    const struct roster_node *node = roster ? roster_find(roster, r->from) : NULL;
    struct note_key other = {.kind = NOTE_WITNESS};
    struct witnessed one;
    if (p->error) return err_set(e, ERR_NOT_FOUND, "node '%s' cannot give it: %.200s", r->name, p->error);
    if (!node || !p->note) return err_set(e, ERR_NOT_FOUND, "node '%s' has no mirror of it", r->name);
    snprintf(other.name, sizeof other.name, "%s/%s", roster->cluster, node->id);
    memcpy(other.public, node->audit, KEY_PUBLIC);
    if (witnessed_read(p->note, p->note_len, &r->key, &other, &one, e)) return -1;
    if (!one.head.size) return err_set(e, ERR_NOT_FOUND, "node '%s' has none of its records", r->name);
    json_t *list = json_array();
    *out = (struct fetch_goal){.target = one.head, .note = p->note, .note_len = p->note_len};
    if (list && !witnessed_add_json(list, &one)) out->witnesses = json_text(list);
    json_decref(list);
    out->roster = witness_roster_text(w);
    if (out->witnesses && out->roster) return 0;
    free(out->witnesses);
    free(out->roster);
    return err_set(e, ERR_INTERNAL, "out of memory");
}

bool restore_heard(struct witness *w, const struct peer *p, const struct piece *piece) {
    struct restore *r = &w->restore;
    struct fetch_goal goal;
    struct err why;
    if ((r->state != RESTORE_ASKING && r->state != RESTORE_FETCHING) || strcmp(p->id, r->from) != 0 ||
        strcmp(piece->log, r->key.name) != 0)
        return false;
    if (r->state == RESTORE_FETCHING)
        fetch_heard(&r->fetch, piece);
    else if (read_goal(w, piece, &goal, &why))
        finish(r, &why);
    else {
        r->state = RESTORE_FETCHING;
        fetch_start(&r->fetch, &goal);
    }
    return true;
}

// ---------------------------------------------------------------- begun
// Nothing is taken over from an earlier attempt.
static int clear(const char *dir, struct err *e) {
    static const char *const files[] = {AUDIT_LOG, AUDIT_TREE,   AUDIT_CHECKPOINT,
                                        AUDIT_KEY, AUDIT_ROSTER, AUDIT_WITNESSES};
    char path[PATH_SIZE];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (path_join(path, dir, files[i], e)) return -1;
        if (unlink(path) && errno != ENOENT) return err_errno(e, "cannot remove %s", path);
    }
    return 0;
}

static int begin(struct witness *w, const struct peer *p, const char *origin, struct err *e) {
    struct restore *r = &w->restore;
    char name[2 * WITNESS_NAME];
    const struct piece_want want = {.log = origin};
    fetch_close(&r->fetch);
    *r = (struct restore){.state = RESTORE_NONE, .asked_ns = clock_mono_ns()};
    snprintf(r->from, sizeof r->from, "%s", p->id);
    snprintf(r->name, sizeof r->name, "%s", p->name);
    snprintf(name, sizeof name, "restoring-%s", strrchr(origin, '/') + 1);
    own_key_of(w, origin, &r->key);
    if (path_join(r->dir, w->audit, name, e) || clear(r->dir, e)) return -1;
    struct fetch *f = &r->fetch;
    *f = (struct fetch){
        .s = w->s, .keeper = w->mirrorer, .ended = on_ended, .arg = w, .rate = FETCH_RATE_RESTORE, .key = r->key};
    snprintf(f->from, sizeof f->from, "%s", p->id);
    snprintf(f->dir, sizeof f->dir, "%s", r->dir);
    if (fetch_init(f, e)) return -1;
    json_t *msg = piece_want_json(&want);
    int rc = msg ? node_send(w->s, p->id, msg, e) : err_set(e, ERR_INTERNAL, "out of memory");
    json_decref(msg);
    if (!rc) r->state = RESTORE_ASKING;
    return rc;
}

int witness_restore(struct witness *w, const char *node, struct err *e) {
    const struct peer *p = cluster_find(w->s->cluster, node);
    char origin[NOTE_NAME];
    if (evidence_lost(w->s, origin, e)) return -1;
    if (w->restore.state != RESTORE_NONE && w->restore.state != RESTORE_DONE)
        return err_set(e, ERR_BUSY, "the log %.160s is being restored already", w->restore.key.name);
    if (!p) return err_param(e, "from", "there is no other node '%.64s': see `nebulus nodes`", node);
    if (!p->up) return err_set(e, ERR_UNREACHABLE, "node '%s' is down", p->name);
    if (!own_is(w, origin))
        return err_set(e, ERR_INVALID, "the log %.160s is of another cluster than this node's", origin);
    return begin(w, p, origin, e);
}

void restore_tick(struct witness *w) {
    struct restore *r = &w->restore;
    const struct peer *p = cluster_find(w->s->cluster, r->from);
    bool waits = r->state == RESTORE_ASKING || r->state == RESTORE_FETCHING;
    bool late = r->state == RESTORE_ASKING && clock_mono_ns() - r->asked_ns > (uint64_t)FETCH_PATIENCE_MS * NS_PER_MS;
    struct err why;
    if (waits && (!p || !p->up || late)) {
        err_set(&why, ERR_UNREACHABLE, "node '%s' %s: try again", r->name, late ? "does not answer" : "is down");
        if (r->state == RESTORE_ASKING)
            finish(r, &why);
        else
            fetch_stop(&r->fetch, &why);
    } else if (r->state == RESTORE_FETCHING)
        fetch_tick(&r->fetch);
    else if (r->state == RESTORE_WAITING)
        put(w);
}

void restore_close(struct witness *w) { fetch_close(&w->restore.fetch); }

json_t *restore_json(const struct witness *w) {
    const struct restore *r = &w->restore;
    bool done = r->state == RESTORE_DONE, bad = done && r->why.code;
    if (r->state == RESTORE_NONE) return json_null();
    const char *state = bad ? "failed" : done ? "done" : "running";
    return json_pack("{s:s,s:s,s:s,s:I,s:I,s:s*,s:s?}", "state", state, "from", r->name, "log", r->key.name, "records",
                     (json_int_t)(done ? r->out.records : 0), "bytes", (json_int_t)r->fetch.at, "aside",
                     done && r->out.aside[0] ? r->out.aside : NULL, "error", bad ? r->why.msg : NULL);
}

// The membership: its file, and what a change of the roster means.
#include "base/bytes.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/authority.h"
#include "serve/cluster_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_VERSION = 1 };

bool membership_kept(const struct cluster *c) { return !access(c->file, F_OK); }

int membership_check(const struct cluster *c, struct err *e) {
    if (c->roster) return 0;
    if (c->trouble.code) return err_set(e, c->trouble.code, "%s", c->trouble.msg);
    return err_set(
        e, ERR_INVALID,
        "this node belongs to no cluster: `nebulus cluster init` begins one, `nebulus join TOKEN` joins one");
}

struct note *membership_note(struct cluster *c, const char *id, bool make) {
    struct note *spare = NULL;
    for (size_t i = 0; i < ROSTER_NODES; i++) {
        struct note *n = &c->notes[i];
        if (!strcmp(n->id, id)) return n;
        if (!n->id[0] || !c->roster || !roster_find(c->roster, n->id)) spare = n;
    }
    if (!make || !spare) return NULL;
    json_decref(spare->about);
    *spare = (struct note){.left = false};
    snprintf(spare->id, sizeof spare->id, "%s", id);
    return spare;
}

static bool has_left(const struct cluster *c, const char *id) {
    for (size_t i = 0; i < ROSTER_NODES; i++)
        if (c->notes[i].left && !strcmp(c->notes[i].id, id)) return true;
    return false;
}

// ---------------------------------------------------------------- the file
static int save(const struct cluster *c, const struct roster *r, bool with_left, struct err *e) {
    char root[2 * KEY_PUBLIC + 1];
    json_t *left = json_array();
    hex_encode(r->root, KEY_PUBLIC, root);
    for (size_t i = 0; i < ROSTER_NODES && with_left; i++)
        if (c->notes[i].left && roster_find(r, c->notes[i].id))
            json_array_append_new(left, json_string(c->notes[i].id));
    json_t *o =
        json_pack("{s:i, s:s, s:o, s:o}", "v", FILE_VERSION, "root", root, "roster", roster_document(r), "left", left);
    char *text = o ? json_text(o) : NULL;
    int rc = text ? file_write(c->file, text, strlen(text), e) : err_set(e, ERR_INTERNAL, "out of memory");
    free(text);
    json_decref(o);
    return rc;
}

static void read_left(struct cluster *c, const json_t *left) {
    for (size_t i = 0; i < json_array_size(left); i++) {
        const char *id = json_string_value(json_array_get(left, i));
        struct note *note = id && roster_find(c->roster, id) ? membership_note(c, id, true) : NULL;
        if (note) note->left = true;
    }
}

// The roster that the file holds.
static struct roster *read_file(const struct cluster *c, const json_t *o, struct err *e) {
    int64_t version = 0;
    const char *root = NULL;
    uint8_t key[KEY_PUBLIC];
    json_t *document = NULL;
    if (json_get_int(o, "v", FILE_VERSION, FILE_VERSION, &version, e) || json_get_string(o, "root", &root, e) ||
        json_get_object(o, "roster", &document, e))
        return NULL;
    if (version != FILE_VERSION || hex_decode(root, key, sizeof key) || !document) {
        err_set(e, ERR_INVALID, "members are missing");
        return NULL;
    }
    struct roster *r = roster_read(document, key, e);
    if (!r || roster_of_pin(r, c->identity.pin)) return r;
    err_set(e, ERR_DENIED, "its roster does not name this node's key");
    roster_free(r);
    return NULL;
}

static void obey(struct cluster *c);

int membership_load(struct cluster *c, struct err *e) {
    char *text;
    size_t n;
    struct err why = {.code = ERR_NONE};
    if (file_read(c->file, LIMIT_ROSTER_MESSAGE, &text, &n, &why)) {
        if (why.code == ERR_NOT_FOUND) return 0;
        if (e) *e = why;
        return -1;
    }
    json_t *o = json_parse(text, n, &why);
    free(text);
    struct roster *r = o ? read_file(c, o, &why) : NULL;
    int rc = -1;
    if (!r)
        err_set(e, ERR_INVALID, "%s is damaged (%s): remove it and join the cluster again", c->file, why.msg);
    else if (!cluster_links(c, e)) {
        c->roster = r;
        rc = 0;
        read_left(c, json_object_get(o, "left"));
        c->trouble = (struct err){.code = ERR_NONE};
        log_info("this node is '%s' of cluster '%s', epoch %lld", cluster_self(c)->name, r->cluster,
                 (long long)r->epoch);
        obey(c);
    } else
        roster_free(r);
    json_decref(o);
    return rc;
}

// ---------------------------------------------------------------- what a roster means for the links
static bool is_wanted(const struct cluster *c, const char *id) {
    return c->roster && roster_find(c->roster, id) && !has_left(c, id);
}

static const struct peer *first_stranger(const struct cluster *c) {
    const struct peer *p = c->peers ? peers_next(c->peers, NULL) : NULL;
    while (p && is_wanted(c, p->id)) p = peers_next(c->peers, p);
    return p;
}

void membership_drop_strangers(struct cluster *c) {
    const struct peer *p;
    while ((p = first_stranger(c))) {
        char id[IDENTITY_ID];
        snprintf(id, sizeof id, "%s", p->id);
        transfers_drop(c->transfers, id);
        peers_remove(c->peers, id, "it is no member of the cluster any more");
    }
}

// Those who have been put out hear of it while they are dropped.
static void part(struct cluster *c) {
    struct timeval soon = {.tv_usec = CLUSTER_PARTING_MS * 1000};
    if (first_stranger(c) && event_add(c->parting, &soon)) membership_drop_strangers(c);
}

static void obey(struct cluster *c) {
    struct err why;
    for (size_t i = 0; i < c->roster->n_nodes; i++) {
        const struct roster_node *n = &c->roster->nodes[i];
        if (!strcmp(n->id, c->identity.id) || has_left(c, n->id)) continue;
        if (peers_add(c->peers, n->id, n->name, n->pin, n->address, &why))
            log_error("node '%s' of the roster cannot be a peer: %s", n->name, why.msg);
    }
    part(c);
    cluster_try_listen(c);
}

// ---------------------------------------------------------------- beginning and end
static void forget_notes(struct cluster *c) {
    for (size_t i = 0; i < ROSTER_NODES; i++) {
        json_decref(c->notes[i].about);
        c->notes[i] = (struct note){.left = false};
    }
}

int membership_begin(struct cluster *c, struct roster *r, struct err *e) {
    int rc = -1;
    if (c->roster)
        err_set(e, ERR_INVALID, "this node belongs to cluster '%s' already: `nebulus leave` comes first",
                c->roster->cluster);
    else if (membership_kept(c) && c->trouble.code)
        err_set(e, c->trouble.code, "%s", c->trouble.msg);
    else if (!roster_of_pin(r, c->identity.pin))
        err_set(e, ERR_INVALID, "the roster does not name this node");
    else {
        forget_notes(c);
        rc = cluster_links(c, e) || save(c, r, false, e) ? -1 : 0;
    }
    if (rc) {
        roster_free(r);
        return -1;
    }
    c->roster = r;
    c->unsaved = false;
    c->trouble = c->alarm = (struct err){.code = ERR_NONE};
    log_info("this node is '%s' of cluster '%s' now, epoch %lld", cluster_self(c)->name, r->cluster,
             (long long)r->epoch);
    authority_changed(c->s);
    event_del(c->parting);
    membership_drop_strangers(c); // of a membership before
    obey(c);
    return 0;
}

void membership_end(struct cluster *c) {
    struct timeval soon = {.tv_usec = CLUSTER_PARTING_MS * 1000};
    if (unlink(c->file)) log_error("%s cannot be removed: this node would be a member again when it restarts", c->file);
    invite_end_all(c);
    roster_free(c->roster);
    c->roster = NULL;
    authority_changed(c->s);
    c->alarm = (struct err){.code = ERR_NONE};
    forget_notes(c);
    if (event_add(c->parting, &soon)) membership_drop_strangers(c);
}

// ---------------------------------------------------------------- changes
static int raise_alarm(struct cluster *c, const struct roster *other, const struct peer *from, struct err *e) {
    char ours[2 * DIGEST_BYTES + 1], theirs[2 * DIGEST_BYTES + 1];
    hex_encode(c->roster->digest, DIGEST_BYTES, ours);
    hex_encode(other->digest, DIGEST_BYTES, theirs);
    err_set(&c->alarm, ERR_DENIED,
            "the cluster's root has signed two histories: epoch %lld here (%.16s) and epoch %lld (%.16s) from %s. No "
            "roster is accepted any more: find out who signed, then leave and join again on the nodes with the wrong "
            "one, and restart the others",
            (long long)c->roster->epoch, ours, (long long)other->epoch, theirs, from ? from->name : "the command line");
    log_error("ALARM: %s", c->alarm.msg);
    if (e) *e = c->alarm;
    return -1;
}

// This node itself is not in it any more.
static void put_out(struct cluster *c, const struct roster *r) {
    struct err why;
    const char *then =
        roster_is_revoked(r, c->identity.pin)
            ? "to join again it needs another key (remove the folder `identity` of its state directory) and"
            : "to join again it needs";
    err_set(&why, ERR_DENIED, "this node was put out of cluster '%s' by its admin (epoch %lld): %s a new invitation",
            r->cluster, (long long)r->epoch, then);
    log_warn("%s", why.msg);
    membership_end(c);
    c->trouble = why;
}

void membership_keep(struct cluster *c) {
    if (c->roster && c->unsaved && !save(c, c->roster, true, NULL)) c->unsaved = false;
}

// A roster that another node brings counts also where it cannot be kept: a full disk must not save a revoked node. The
// admin hears of it instead.
static int take(struct cluster *c, struct roster *r, const struct peer *from, struct err *e) {
    bool kept = !save(c, r, false, e);
    if (!kept && !from) return -1;
    if (!kept) log_error("the roster of epoch %lld counts but is not kept yet: %s", (long long)r->epoch, e->msg);
    c->unsaved = !kept;
    for (size_t i = 0; i < ROSTER_NODES; i++) c->notes[i].left = false; // the admin's word is newer
    roster_free(c->roster);
    c->roster = r;
    log_info("roster of epoch %lld: %zu nodes%s%s", (long long)r->epoch, r->n_nodes, from ? ", from " : "",
             from ? from->name : "");
    authority_changed(c->s);
    gossip_roster(c, from); // also to those who are not in it any more
    obey(c);
    gossip_state(c);
    invite_roster_changed(c);
    return 0;
}

int membership_adopt(struct cluster *c, struct roster *r, const struct peer *from, struct err *e) {
    int rc = -1;
    enum roster_order order = roster_order(c->roster, r);
    if (order == ROSTER_SAME)
        rc = 0;
    else if (c->alarm.code) {
        if (e) *e = c->alarm;
    } else if (order == ROSTER_FORK)
        raise_alarm(c, r, from, e);
    else if (order == ROSTER_OLDER)
        err_set(e, ERR_BUSY, "the roster has changed meanwhile: it is of epoch %lld now", (long long)c->roster->epoch);
    else if (!roster_of_pin(r, c->identity.pin)) {
        put_out(c, r);
        rc = 0;
    } else if (!take(c, r, from, e))
        return 0;
    roster_free(r);
    return rc;
}

int membership_left(struct cluster *c, const char *id) {
    struct err why;
    struct note *note = membership_note(c, id, true);
    if (!note || note->left) return 0;
    note->left = true;
    transfers_drop(c->transfers, id);
    peers_remove(c->peers, id, "it has left the cluster");
    if (!save(c, c->roster, true, &why)) return 0;
    log_error("that a node has left cannot be kept: %s", why.msg);
    return -1;
}

#include "audit/verify.h"
#include "audit/proof.h"
#include "audit/walk.h"
#include "audit/witnessed.h"
#include "base/bytes.h"
#include "base/json.h"
#include "trust/roster.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TREE_ROOM = 4096, ROSTER_FILE = 2 * (ROSTER_BYTES + POLICY_BYTES) };

// ---------------------------------------------------------------- who has signed
int verify_key(const struct audit_io *io, const char *dir, struct note_key *out, struct err *e) {
    char path[PATH_SIZE], text[NOTE_VKEY];
    size_t n;
    struct err why;
    if (path_join(path, dir, AUDIT_KEY, e)) return -1;
    if (io->load(io->arg, path, text, sizeof text, &n)) {
        bool missing = errno == ENOENT;
        err_errno(e, "cannot read %s", path);
        if (missing && e) e->code = ERR_NOT_FOUND;
        return -1;
    }
    if (!note_vkey_read(text, n, out, &why)) return 0;
    return err_set(e, ERR_INVALID, "%s is damaged: %s", path, why.msg);
}

static bool vouches(const struct roster *r, const struct note_key *key) {
    char id[IDENTITY_ID];
    const struct roster_node *node = witnessed_node(key->name, id) ? roster_find(r, id) : NULL;
    return node && !strcmp(node->id, id) && !memcmp(node->audit, key->public, KEY_PUBLIC);
}

// The roster, where root has signed it and it vouches for the key.
static struct roster *vouching(const json_t *document, const uint8_t root[KEY_PUBLIC], const struct note_key *key,
                               struct err *e) {
    struct err why;
    struct roster *r = roster_read(document, root, &why);
    if (!r)
        err_set(e, ERR_DENIED, "the roster is not the root's: %.400s", why.msg);
    else if (!vouches(r, key)) {
        err_set(e, ERR_DENIED, "the cluster's roster does not know the key of %s", key->name);
        roster_free(r);
        r = NULL;
    }
    return r;
}

int verify_vouched(const json_t *roster, const uint8_t *root, struct verified *out, struct err *e) {
    if (!root) return 0;
    if (!roster)
        return err_set(e, ERR_DENIED, "there is no roster: the node of %s belonged to no cluster", out->key.name);
    struct roster *r = vouching(roster, root, &out->key, e);
    out->vouched = r != NULL;
    roster_free(r);
    return r ? 0 : -1;
}

json_t *verify_roster(const struct audit_io *io, const char *dir, struct err *e) {
    char path[PATH_SIZE];
    size_t n;
    char *text = malloc(ROSTER_FILE);
    json_t *v = NULL;
    if (!text)
        err_set(e, ERR_INTERNAL, "out of memory");
    else if (!path_join(path, dir, AUDIT_ROSTER, e)) {
        if (io->load(io->arg, path, text, ROSTER_FILE, &n))
            err_errno(e, "cannot read %s", path);
        else
            v = json_parse(text, n, e);
    }
    free(text);
    return v;
}

// ---------------------------------------------------------------- a log
struct tree_file { // the file `tree`, as a stream
    const struct audit_io *io;
    char path[PATH_SIZE];
    int file; // -1: there is none
    uint64_t at;
    size_t first, n;
    struct hash room[TREE_ROOM];
};

static int check_tree(struct tree_file *t, const struct walk *w, struct err *e) {
    for (int i = 0; i < w->n_done && t->file >= 0; i++) {
        if (t->first == t->n) {
            int64_t got = t->io->read(t->io->arg, t->file, t->room, sizeof t->room, t->at);
            t->first = 0;
            t->n = got > 0 ? (size_t)got / sizeof *t->room : 0;
            t->at += t->n * sizeof *t->room;
            if (!t->n) t->file = -1; // it need not reach the end
            if (!t->n) return 0;
        }
        if (memcmp(&t->room[t->first++], &w->done[i], sizeof w->done[i]) != 0)
            return err_set(e, ERR_INVALID, "%s is damaged at record %" PRIu64 ": it has another hash", t->path,
                           w->record.seq);
    }
    return 0;
}

enum { NOTE_OWN, NOTE_HELD, NOTES }; // the file `checkpoint`, and what somebody else has kept

struct signed_note { // of the log, in a file
    bool there, met;
    char path[PATH_SIZE];
    struct checkpoint c;
};

static int read_note(struct signed_note *p, const struct audit_io *io, const struct note_key *key, bool must,
                     struct err *e) {
    char note[NOTE_BYTES];
    size_t n;
    struct err why;
    if (io->load(io->arg, p->path, note, sizeof note, &n))
        return !must && errno == ENOENT ? 0 : err_errno(e, "cannot read %s", p->path);
    if (checkpoint_verify(note, n, key, &p->c, &why))
        return err_set(e, ERR_INVALID, "%s is damaged, or not of the log %s: %.300s", p->path, key->name, why.msg);
    p->there = true;
    p->met = !p->c.size;
    return 0;
}

static int read_notes(struct signed_note p[NOTES], const struct audit_io *io, const char *dir, const char *held,
                      const struct note_key *key, struct err *e) {
    if (path_join(p[NOTE_OWN].path, dir, AUDIT_CHECKPOINT, e)) return -1;
    if (read_note(&p[NOTE_OWN], io, key, false, e)) return -1;
    if (!held) return 0;
    if (snprintf(p[NOTE_HELD].path, PATH_SIZE, "%s", held) >= PATH_SIZE)
        return err_set(e, ERR_INVALID, "the path of the note is too long");
    return read_note(&p[NOTE_HELD], io, key, true, e);
}

// What others have signed of the log: its witnesses.
struct others {
    struct witnessed *list; // owned
    size_t n;
    bool *met; // owned: the log had that root at that size
};

static int check_witnesses(const struct walk *w, const struct others *o, struct err *e) {
    for (size_t i = 0; i < o->n; i++) {
        const struct witnessed *one = &o->list[i];
        if (one->head.size > w->tree.size)
            return err_set(e, ERR_INVALID,
                           "%s is damaged at record %" PRIu64 ": it ends there, but %s has counter-signed %" PRIu64
                           " records",
                           w->path, w->tree.size, one->key.name, one->head.size);
        if (!o->met[i] && one->head.size)
            return err_set(e, ERR_INVALID,
                           "%s is damaged at record %" PRIu64 ": the records before it are not those that %s has "
                           "counter-signed",
                           w->path, one->head.size, one->key.name);
    }
    return 0;
}

static int check_end(const struct walk *w, const struct signed_note p[NOTES], const struct others *o, struct err *e) {
    if (w->signed_at != w->size)
        return err_set(e, ERR_INVALID, "%s is damaged at record %" PRIu64 ": no checkpoint covers it", w->path,
                       w->signed_tree.size);
    for (int i = 0; i < NOTES; i++) {
        if (!p[i].there || p[i].met) continue;
        if (p[i].c.size > w->tree.size)
            return err_set(e, ERR_INVALID,
                           "%s is damaged at record %" PRIu64 ": it ends there, but had %" PRIu64
                           " records when %s was signed",
                           w->path, w->tree.size, p[i].c.size, p[i].path);
        return err_set(e, ERR_INVALID, "%s is damaged at record %" PRIu64 ": %s is of other records", w->path,
                       p[i].c.size, p[i].path);
    }
    return check_witnesses(w, o, e);
}

static int64_t wall_of(const struct entry *f) {
    struct err why;
    json_t *o = json_parse(f->data, f->n, &why);
    int64_t wall = json_integer_value(json_object_get(json_object_get(o, "t"), "wall"));
    json_decref(o);
    return wall;
}

static void meet(struct walk *w, struct signed_note p[NOTES], struct others *o) {
    struct hash root;
    bool known = false;
    for (size_t i = 0; i < o->n + NOTES; i++) {
        bool other = i < o->n;
        const struct checkpoint *c = other ? &o->list[i].head : &p[i - o->n].c;
        if ((!other && !p[i - o->n].there) || w->tree.size != c->size) continue;
        if (!known) root = merkle_root(&w->tree);
        known = true;
        *(other ? &o->met[i] : &p[i - o->n].met) = !memcmp(root.b, c->root.b, MERKLE_HASH);
    }
}

static int walk_all(struct walk *w, struct tree_file *t, struct signed_note p[NOTES], struct others *o,
                    struct verified *out, struct err *e) {
    int step;
    while ((step = walk_next(w, e)) > 0) {
        if (!walk_is_record(w)) {
            out->checkpoints++;
            continue;
        }
        if (check_tree(t, w, e)) return -1;
        if (w->record.seq == out->witnessed) out->tail_wall = wall_of(&w->frame);
        meet(w, p, o);
    }
    out->records = w->tree.size;
    return step < 0 ? -1 : check_end(w, p, o, e);
}

// Which witnesses count: other nodes, and where there is a root's roster, those that it knows.
static int load_witnesses(const struct audit_io *io, const char *dir, const struct roster *roster, struct others *o,
                          struct verified *out, struct err *e) {
    if (witnessed_load(io, dir, &out->key, &o->list, &o->n, e)) return -1;
    o->met = calloc(o->n + 1, sizeof *o->met);
    if (!o->met) return err_set(e, ERR_INTERNAL, "out of memory");
    for (size_t i = 0; i < o->n; i++) {
        const struct witnessed *w = &o->list[i];
        if (!memcmp(w->key.public, out->key.public, KEY_PUBLIC) || (roster && !vouches(roster, &w->key))) continue;
        out->witnesses++;
        if (w->head.size > out->witnessed) out->witnessed = w->head.size;
    }
    return 0;
}

static int vouch(const struct audit_io *io, const char *dir, const uint8_t *root, struct verified *out,
                 struct roster **roster, struct err *e) {
    if (!root) return 0;
    json_t *document = verify_roster(io, dir, e);
    *roster = document ? vouching(document, root, &out->key, e) : NULL;
    json_decref(document);
    out->vouched = *roster != NULL;
    return *roster ? 0 : -1;
}

static int verify_files(const struct audit_io *io, const char *dir, struct signed_note p[NOTES], struct others *o,
                        struct verified *out, struct err *e) {
    struct walk w;
    int rc = -1;
    struct tree_file *t = calloc(1, sizeof *t);
    if (!t) return err_set(e, ERR_INTERNAL, "out of memory");
    t->io = io;
    if (!path_join(t->path, dir, AUDIT_TREE, e) && !walk_open(&w, io, dir, &out->key, e)) {
        int file = t->file = io->open(io->arg, t->path, false);
        rc = walk_all(&w, t, p, o, out, e);
        if (file >= 0) io->close(io->arg, file);
        walk_close(&w);
    }
    free(t);
    return rc;
}

int verify_log(const struct audit_io *io, const char *dir, const char *held, const uint8_t *root, struct verified *out,
               struct err *e) {
    struct signed_note p[NOTES] = {{.there = false}};
    struct others o = {.list = NULL};
    struct roster *roster = NULL;
    *out = (struct verified){.vouched = false};
    int rc = verify_key(io, dir, &out->key, e) || vouch(io, dir, root, out, &roster, e) ||
                     read_notes(p, io, dir, held, &out->key, e) || load_witnesses(io, dir, roster, &o, out, e) ||
                     verify_files(io, dir, p, &o, out, e)
                 ? -1
                 : 0;
    out->held = p[NOTE_HELD].c.size;
    roster_free(roster);
    free(o.list);
    free(o.met);
    return rc;
}

int verify_begins(const struct audit_io *io, const char *dir, const struct checkpoint *c, uint64_t *has,
                  struct err *e) {
    struct note_key key;
    struct walk w;
    int step = 1;
    *has = 0;
    if (verify_key(io, dir, &key, e) || walk_open(&w, io, dir, &key, e)) return -1;
    while (w.tree.size < c->size && (step = walk_next(&w, e)) > 0) continue;
    *has = step > 0 ? w.tree.size : w.signed_tree.size;
    int rc = step < 0 ? -1 : 0;
    if (!step) rc = err_set(e, ERR_INVALID, "%s ends before record %" PRIu64, w.path, c->size);
    struct hash root = merkle_root(&w.tree);
    if (!rc && (strcmp(key.name, c->origin) != 0 || memcmp(root.b, c->root.b, MERKLE_HASH) != 0))
        rc = err_set(e, ERR_INVALID, "%s has other records before record %" PRIu64, w.path, c->size);
    walk_close(&w);
    return rc;
}

// ---------------------------------------------------------------- receipts
json_t *receipt_json(const struct receipt *r) {
    char vkey[NOTE_VKEY];
    note_vkey(r->key, vkey);
    return json_pack("{s:i,s:I,s:s,s:s%,s:o,s:s%,s:s,s:O?}", "v", 1, "index", (json_int_t)r->index, "type",
                     entry_type_name(r->type), "record", r->text, r->n, "proof", proof_json(r->path, r->n_path),
                     "checkpoint", r->note, r->note_len, "key", vkey, "roster", r->roster);
}

struct claims { // the members of a receipt
    int64_t v, index;
    const char *type, *record, *note, *vkey;
    json_t *proof, *roster;
};

static int read_claims(const json_t *o, struct claims *c, struct err *e) {
    *c = (struct claims){.index = -1};
    if (json_get_int(o, "v", 1, 1, &c->v, e) || json_get_int(o, "index", 0, INT64_MAX >> 1, &c->index, e) ||
        json_get_string(o, "type", &c->type, e) || json_get_string(o, "record", &c->record, e) ||
        json_get_string(o, "checkpoint", &c->note, e) || json_get_string(o, "key", &c->vkey, e) ||
        json_get_array(o, "proof", &c->proof, e) || json_get_object(o, "roster", &c->roster, e))
        return -1;
    if (c->v && c->index >= 0 && c->type && c->record && c->note && c->vkey && c->proof) return 0;
    return err_set(e, ERR_INVALID, "this is no receipt: a member is missing");
}

static int check_claims(const struct claims *c, struct verified *out, struct err *e) {
    struct hash path[MERKLE_LEVELS], leaf;
    int n_path;
    struct checkpoint head;
    struct record_begin begin;
    struct merkle m;
    struct entry f = {.type = ENTRY_INTENT, .data = c->record, .n = strlen(c->record)};
    while (f.type < ENTRY_RECORDS && strcmp(entry_type_name(f.type), c->type) != 0) f.type++;
    if (f.type == ENTRY_RECORDS || !f.n || !record_begin_read(&f, &begin) || begin.seq != (uint64_t)c->index)
        return err_set(e, ERR_INVALID, "the receipt's record is not of that type and number");
    if (note_vkey_read(c->vkey, strlen(c->vkey), &out->key, e) ||
        checkpoint_verify(c->note, strlen(c->note), &out->key, &head, e) || proof_read(c->proof, path, &n_path, e) ||
        merkle_init(&m, e))
        return -1;
    leaf = merkle_leaf(&m, (uint8_t)f.type, f.data, f.n);
    merkle_close(&m);
    out->records = head.size;
    if (merkle_included(&leaf, begin.seq, head.size, path, n_path, &head.root)) return 0;
    return err_set(e, ERR_INVALID, "record %" PRIu64 " is not the one in the log: the proof does not lead to the root",
                   begin.seq);
}

int receipt_verify(const json_t *receipt, const uint8_t *root, struct verified *out, json_t **record, struct err *e) {
    struct claims c;
    *out = (struct verified){.checkpoints = 1};
    *record = NULL;
    if (read_claims(receipt, &c, e)) return -1;
    *record = json_parse(c.record, strlen(c.record), e);
    if (!*record || check_claims(&c, out, e)) return -1;
    return verify_vouched(c.roster, root, out, e);
}

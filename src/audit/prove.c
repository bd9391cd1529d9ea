#include "audit/prove.h"
#include "audit/fork.h"
#include "audit/verify.h"
#include "audit/walk.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- a log's folder
struct proving {
    struct walk w;
    struct note_key key;
    int tree;
    json_t *roster; // owned; NULL: none
    char text[ENTRY_MAX];
    struct receipt r;
};

static int read_tree(void *arg, int level, uint64_t index, struct hash *out, struct err *e) {
    const struct proving *p = arg;
    uint64_t at = merkle_place(level, index) * sizeof *out;
    if (p->w.io->read(p->w.io->arg, p->tree, out, sizeof *out, at) == sizeof *out) return 0;
    return err_set(e, ERR_IO, "the log's tree is too short: start the node's daemon once, which mends it");
}

static void proving_free(struct proving *p) {
    if (!p) return;
    if (p->tree >= 0) p->w.io->close(p->w.io->arg, p->tree);
    walk_close(&p->w);
    json_decref(p->roster);
    free(p);
}

static struct proving *proving_new(const struct audit_io *io, const char *dir, struct err *e) {
    char path[PATH_SIZE];
    struct err why;
    struct proving *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    if (verify_key(io, dir, &p->key, e) || path_join(path, dir, AUDIT_TREE, e) ||
        walk_open(&p->w, io, dir, &p->key, e)) {
        free(p);
        return NULL;
    }
    p->tree = io->open(io->arg, path, false);
    p->roster = verify_roster(io, dir, &why);
    return p;
}

// As walk_next; what the daemon is just writing is the end.
static int next(struct proving *p, struct err *e) {
    int step = walk_next(&p->w, e);
    return step < 0 && p->w.torn ? 0 : step;
}

// ---------------------------------------------------------------- one record
struct wanted {
    const char *req_id; // NULL: the record `index`
    bool outcome;       // the request's outcome only, as its gateway has written it
    uint64_t index;
};

static bool is_wanted(const struct walk *w, const struct wanted *x) {
    struct err why;
    if (!x->req_id) return w->record.seq == x->index;
    if (x->outcome && w->frame.type != ENTRY_OUTCOME) return false;
    if (!memmem(w->frame.data, w->frame.n, x->req_id, strlen(x->req_id))) return false;
    json_t *o = json_parse(w->frame.data, w->frame.n, &why);
    const char *id = json_string_value(json_object_get(o, "req_id"));
    const char *part = json_string_value(json_object_get(o, "part"));
    bool is = id && !strcmp(id, x->req_id) && (!x->outcome || (part && !strcmp(part, "gateway")));
    json_decref(o);
    return is;
}

static int find(struct proving *p, const struct wanted *x, struct err *e) {
    bool found = false;
    int step;
    while ((step = next(p, e)) > 0) {
        if (!walk_is_record(&p->w) || !is_wanted(&p->w, x)) continue;
        found = true;
        p->r.index = p->w.record.seq;
        p->r.type = p->w.frame.type;
        p->r.n = p->w.frame.n;
        memcpy(p->text, p->w.frame.data, p->r.n);
    }
    if (step < 0) return -1;
    if (!found && x->req_id)
        return err_set(e, ERR_NOT_FOUND, "the log has no %s of the request %.64s", x->outcome ? "outcome" : "record",
                       x->req_id);
    if (!found) return err_set(e, ERR_NOT_FOUND, "the log has no record %" PRIu64, x->index);
    if (p->r.index < p->w.signed_tree.size) return 0;
    return err_set(e, ERR_NOT_FOUND, "no checkpoint covers record %" PRIu64 " yet: try again", p->r.index);
}

static json_t *prove(const struct audit_io *io, const char *dir, const struct wanted *x, struct err *e) {
    json_t *out = NULL;
    struct proving *p = proving_new(io, dir, e);
    if (p && !find(p, x, e) &&
        !merkle_inclusion(read_tree, p, p->r.index, p->w.signed_tree.size, p->r.path, &p->r.n_path, e)) {
        p->r.text = p->text;
        p->r.note = p->w.note;
        p->r.note_len = p->w.note_len;
        p->r.key = &p->key;
        p->r.roster = p->roster;
        out = receipt_json(&p->r);
        if (!out) err_set(e, ERR_INTERNAL, "out of memory");
    }
    proving_free(p);
    return out;
}

json_t *receipt_find(const struct audit_io *io, const char *dir, const char *req_id, struct err *e) {
    return prove(io, dir, &(struct wanted){.req_id = req_id, .outcome = true}, e);
}

json_t *record_prove(const struct audit_io *io, const char *dir, const char *req_id, uint64_t index, struct err *e) {
    return prove(io, dir, &(struct wanted){.req_id = req_id, .index = index}, e);
}

// ---------------------------------------------------------------- growth
struct signed_head {     // the checkpoint of `size` records
    uint64_t size, next; // next: of the smallest larger one; 0: none
    bool found;
    size_t n;
    char note[NOTE_BYTES];
};

static void meet(struct signed_head *h, const struct walk *w) {
    uint64_t size = w->signed_tree.size;
    if (size > h->size && !h->next) h->next = size;
    if (size != h->size) return;
    h->found = true;
    h->n = w->note_len;
    memcpy(h->note, w->note, w->note_len);
}

static int miss(const struct signed_head *h, struct err *e) {
    if (h->found) return 0;
    if (!h->next) return err_set(e, ERR_NOT_FOUND, "the log has no checkpoint of %" PRIu64 " records or more", h->size);
    return err_set(e, ERR_NOT_FOUND, "the log has no checkpoint of %" PRIu64 " records: the next one is of %" PRIu64,
                   h->size, h->next);
}

static int find_heads(struct proving *p, struct signed_head *held, struct signed_head *head, struct err *e) {
    bool latest = !head->size;
    int step;
    while ((step = next(p, e)) > 0) {
        if (walk_is_record(&p->w)) continue;
        if (latest) head->size = p->w.signed_tree.size;
        meet(held, &p->w);
        meet(head, &p->w);
    }
    return step < 0 || miss(held, e) || miss(head, e) ? -1 : 0;
}

json_t *growth_prove(const struct audit_io *io, const char *dir, uint64_t from, uint64_t to, struct err *e) {
    struct signed_head held = {.size = from}, head = {.size = to};
    struct growth g = {.size = from};
    struct checkpoint c;
    json_t *out = NULL;
    if (!from || (to && to < from)) {
        err_set(e, ERR_INVALID, "a log grows from one record or more to as many or more");
        return NULL;
    }
    struct proving *p = proving_new(io, dir, e);
    if (p && !find_heads(p, &held, &head, e) && !checkpoint_read(held.note, held.n, &c, e) &&
        !merkle_consistency(read_tree, p, from, head.size, g.path, &g.n, e)) {
        g.root = c.root;
        out = growth_proof(&(struct fork){.held = held.note,
                                          .held_len = held.n,
                                          .head = head.note,
                                          .head_len = head.n,
                                          .growth = &g,
                                          .key = &p->key,
                                          .roster = p->roster});
        if (!out) err_set(e, ERR_INTERNAL, "out of memory");
    }
    proving_free(p);
    return out;
}

#include "audit/log_internal.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TREE_ROOM = 8192 }; // hashes that are compared and written at once

struct recovery {
    struct audit *a;
    struct walk walk;
    struct unanswered *list; // owned
    size_t n, cap;
    struct checkpoint published; // what the file `checkpoint` says
    bool has_published, met;     // met: the log had that hash at that size
    struct hash nodes[TREE_ROOM];
    size_t n_nodes;
    uint64_t nodes_from; // the place of nodes[0]
};

// ---------------------------------------------------------------- intents and outcomes
static int add_intent(struct recovery *r, struct err *e) {
    if (r->n == AUDIT_UNANSWERED) return err_set(e, ERR_LIMIT, "%s has too many intents without outcome", r->a->path);
    if (r->n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 64;
        struct unanswered *more = realloc(r->list, cap * sizeof *more);
        if (!more) return err_set(e, ERR_INTERNAL, "out of memory");
        r->list = more;
        r->cap = cap;
    }
    r->list[r->n++] = (struct unanswered){.seq = r->walk.record.seq, .at = r->walk.frame_at, .answer = RECORD_ALONE};
    return 0;
}

static void answer_intent(struct recovery *r, const struct record_begin *outcome) {
    for (size_t i = r->n; i > 0; i--)
        if (r->list[i - 1].seq == outcome->intent) r->list[i - 1].answer = outcome->seq;
}

// Only those stay that have no outcome among the first `size` records.
static void drop_answered(struct recovery *r, uint64_t size) {
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->list[i].answer >= size) r->list[n++] = r->list[i];
    r->n = n;
}

// ---------------------------------------------------------------- the tree
// The log decides: hashes that are missing, as they are not synchronized, or that differ are written anew.
static int flush_nodes(struct recovery *r, struct err *e) {
    struct audit *a = r->a;
    static const size_t size = sizeof(struct hash);
    struct hash *have = malloc(TREE_ROOM * size);
    if (!have) return err_set(e, ERR_INTERNAL, "out of memory");
    size_t n = r->n_nodes * size;
    int64_t got = a->io.read(a->io.arg, a->tree_file, have, n, r->nodes_from * size);
    bool same = got == (int64_t)n && !memcmp(have, r->nodes, n);
    free(have);
    if (got < 0) return err_errno(e, "cannot read %s", a->tree_path);
    if (!same && a->io.write(a->io.arg, a->tree_file, r->nodes, n, r->nodes_from * size))
        return audit_file_failed(e, a->tree_path);
    r->nodes_from += r->n_nodes;
    r->n_nodes = 0;
    return 0;
}

static int keep_nodes(struct recovery *r, struct err *e) {
    if (r->n_nodes + MERKLE_LEVELS > TREE_ROOM && flush_nodes(r, e)) return -1;
    memcpy(r->nodes + r->n_nodes, r->walk.done, (size_t)r->walk.n_done * sizeof *r->nodes);
    r->n_nodes += (size_t)r->walk.n_done;
    return 0;
}

// ---------------------------------------------------------------- the log
static int read_published(struct recovery *r, struct err *e) {
    struct audit *a = r->a;
    char note[NOTE_BYTES];
    size_t n;
    if (a->io.load(a->io.arg, a->checkpoint_path, note, sizeof note, &n)) {
        if (errno == ENOENT) return 0;
        return err_errno(e, "cannot read %s", a->checkpoint_path);
    }
    struct err why;
    r->has_published = true;
    if (!checkpoint_verify(note, n, &a->name, &r->published, &why)) return 0;
    return err_set(e, ERR_INVALID, "%s is damaged: %.300s", a->checkpoint_path, why.msg);
}

static int step(struct recovery *r, struct err *e) {
    struct walk *w = &r->walk;
    if (!walk_is_record(w)) drop_answered(r, w->tree.size);
    if (!walk_is_record(w)) return 0;
    if (w->record.type == ENTRY_INTENT && add_intent(r, e)) return -1;
    if (w->record.type == ENTRY_OUTCOME) answer_intent(r, &w->record);
    if (keep_nodes(r, e)) return -1;
    if (!r->has_published || w->tree.size != r->published.size) return 0;
    struct hash root = merkle_root(&w->tree);
    r->met = !memcmp(root.b, r->published.root.b, MERKLE_HASH);
    return 0;
}

// What stands behind the last checkpoint may be a batch that a crash has torn, and nothing else.
static int check_tail(const struct recovery *r, int walked, const struct err *broken, struct err *e) {
    const struct walk *w = &r->walk;
    uint64_t tail = w->size - w->signed_at;
    bool lost = r->has_published && r->published.size > w->signed_tree.size;
    if (r->has_published && !lost && !r->met && r->published.size)
        return err_set(e, ERR_INVALID,
                       "%s is damaged: its first %" PRIu64 " records are not those that %s was signed for", r->a->path,
                       r->published.size, r->a->checkpoint_path);
    if (!lost && tail <= AUDIT_BATCH_BYTES + 2 * ENTRY_MAX) return 0;
    if (walked < 0) {
        *e = *broken;
        return -1;
    }
    return err_set(e, ERR_INVALID, "%s is damaged at record %" PRIu64 ": it ends there, but had %" PRIu64 " records",
                   r->a->path, w->signed_tree.size, lost ? r->published.size : w->tree.size);
}

static int cut(struct recovery *r, struct audit_found *found, struct err *e) {
    struct audit *a = r->a;
    struct walk *w = &r->walk;
    EVP_MD_CTX *sha = a->tree.sha;
    a->tree = w->signed_tree;
    a->tree.sha = sha;
    a->at = w->signed_at;
    a->head = a->next = a->tree.size;
    a->note_len = w->note_len;
    memcpy(a->note, w->note, w->note_len);
    found->records = a->head;
    found->torn_bytes = w->size - w->signed_at;
    drop_answered(r, a->head);
    while (r->n && r->list[r->n - 1].seq >= a->head) r->n--;
    if (found->torn_bytes && (a->io.truncate(a->io.arg, a->file, a->at) || a->io.sync(a->io.arg, a->file)))
        return audit_file_failed(e, a->path);
    if (a->io.truncate(a->io.arg, a->tree_file, merkle_kept(a->head) * sizeof(struct hash)))
        return audit_file_failed(e, a->tree_path);
    return 0;
}

int recover_read(struct audit *a, struct audit_found *found, struct unanswered **list, size_t *n, struct err *e) {
    struct recovery *r = calloc(1, sizeof *r);
    struct err broken;
    int walked = 0, rc = -1;
    if (!r) return err_set(e, ERR_INTERNAL, "out of memory");
    r->a = a;
    if (read_published(r, e) || walk_open(&r->walk, &a->io, a->dir, &a->name, e)) goto out;
    while ((walked = walk_next(&r->walk, &broken)) > 0)
        if (step(r, e)) goto out;
    if (walked < 0 && broken.code != ERR_INVALID) {
        *e = broken;
        goto out;
    }
    if (flush_nodes(r, e) || check_tail(r, walked, &broken, e) || cut(r, found, e)) goto out;
    *list = r->list;
    *n = r->n;
    r->list = NULL;
    rc = 0;
out:
    if (r->walk.io) walk_close(&r->walk);
    free(r->list);
    free(r);
    return rc;
}

// ---------------------------------------------------------------- what the log says of it
// The members of an intent that its outcome repeats.
static json_t *abort_of(struct audit *a, const struct unanswered *u, struct err *e) {
    static const char *const repeated[] = {"req_id", "agent", "model", "part"};
    uint8_t *room = malloc(ENTRY_HEAD + ENTRY_MAX);
    struct entry f;
    size_t used;
    int64_t got = room ? a->io.read(a->io.arg, a->file, room, ENTRY_HEAD + ENTRY_MAX, u->at) : -1;
    json_t *intent = got > 0 && entry_read(room, (size_t)got, &f, &used) == 1 ? json_parse(f.data, f.n, e) : NULL;
    json_t *body = json_pack("{s:s,s:{s:s}}", "finish", "abort", "error", "code", "recover");
    for (size_t i = 0; intent && body && i < sizeof repeated / sizeof *repeated; i++) {
        json_t *member = json_object_get(intent, repeated[i]);
        if (member && json_object_set(body, repeated[i], member)) log_warn("out of memory");
    }
    json_decref(intent);
    free(room);
    if (!body) err_set(e, ERR_INTERNAL, "out of memory");
    return body;
}

int recover_tell(struct audit *a, struct audit_found *found, const struct unanswered *list, size_t n, struct err *e) {
    if (found->torn_bytes || n) {
        json_t *body = json_pack("{s:I,s:I,s:{s:I}}", "torn_bytes", (json_int_t)found->torn_bytes, "aborted",
                                 (json_int_t)n, "t", "wall", (json_int_t)clock_wall_ns());
        int rc = body ? audit_append(a, ENTRY_RECOVER, RECORD_ALONE, body, NULL, NULL, NULL, e)
                      : err_set(e, ERR_INTERNAL, "out of memory");
        json_decref(body);
        if (rc) return -1;
    }
    for (; found->aborted < n; found->aborted++) {
        json_t *body = abort_of(a, &list[found->aborted], e);
        int rc = body ? audit_append(a, ENTRY_OUTCOME, list[found->aborted].seq, body, NULL, NULL, NULL, e) : -1;
        json_decref(body);
        if (rc) return -1;
    }
    return 0;
}

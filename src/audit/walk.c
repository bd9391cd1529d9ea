#include "audit/walk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 1 << 20 };

int walk_open(struct walk *w, const struct audit_io *io, const char *dir, const struct note_key *key, struct err *e) {
    *w = (struct walk){.io = io, .file = -1, .key = key};
    if (path_join(w->path, dir, AUDIT_LOG, e) || merkle_init(&w->tree, e)) return -1;
    w->room = malloc(ROOM);
    w->file = io->open(io->arg, w->path, false);
    int64_t size = w->file < 0 ? -1 : io->size(io->arg, w->file);
    bool missing = w->file < 0 && errno == ENOENT;
    w->size = (uint64_t)size;
    if (w->room && size >= 0) return 0;
    if (size < 0)
        err_errno(e, "cannot read %s", w->path);
    else
        err_set(e, ERR_INTERNAL, "out of memory");
    if (missing && e) e->code = ERR_NOT_FOUND;
    walk_close(w);
    return -1;
}

void walk_close(struct walk *w) {
    if (w->io && w->file >= 0) w->io->close(w->io->arg, w->file);
    free(w->room);
    merkle_close(&w->tree);
    *w = (struct walk){.file = -1};
}

bool walk_is_record(const struct walk *w) { return w->frame.type != ENTRY_CHECKPOINT; }

static int damaged(const struct walk *w, struct err *e, const char *what) {
    return err_set(e, ERR_INVALID, "%s is damaged at record %" PRIu64 " (byte %" PRIu64 "): %s", w->path, w->tree.size,
                   w->frame_at, what);
}

// More bytes behind those that are there. -1 with *e.
static int fill(struct walk *w, struct err *e) {
    memmove(w->room, w->room + w->first, w->have);
    w->first = 0;
    uint64_t from = w->at + w->have, left = w->size - from;
    size_t n = left < ROOM - w->have ? (size_t)left : ROOM - w->have;
    int64_t got = w->io->read(w->io->arg, w->file, w->room + w->have, n, from);
    if (got < 0) return err_errno(e, "cannot read %s", w->path);
    if (!got) return damaged(w, e, "it has become shorter");
    w->have += (size_t)got;
    return 0;
}

static int check_record(struct walk *w, struct err *e) {
    if (!record_begin_read(&w->frame, &w->record)) return damaged(w, e, "the record does not begin as records do");
    if (w->record.seq != w->tree.size) return damaged(w, e, "the record has another number");
    if (w->record.intent != RECORD_ALONE && w->record.intent >= w->record.seq)
        return damaged(w, e, "the record belongs to a later one");
    struct hash leaf = {{0}};
    if (w->key) leaf = merkle_leaf(&w->tree, (uint8_t)w->frame.type, w->frame.data, w->frame.n);
    if (w->key)
        merkle_add(&w->tree, &leaf, w->done, &w->n_done);
    else
        w->tree.size++;
    return 0;
}

static int check_checkpoint(struct walk *w, struct err *e) {
    struct checkpoint c;
    struct err why;
    if (!w->key) return 0;
    struct hash root = merkle_root(&w->tree);
    if (w->frame.n >= sizeof w->note || checkpoint_verify(w->frame.data, w->frame.n, w->key, &c, &why))
        return damaged(w, e, w->frame.n >= sizeof w->note ? "the checkpoint is too long" : why.msg);
    if (c.size != w->tree.size || memcmp(root.b, c.root.b, MERKLE_HASH) != 0)
        return damaged(w, e, "the records up to here are not those that the checkpoint was signed for");
    memcpy(w->note, w->frame.data, w->frame.n);
    w->note_len = w->frame.n;
    w->signed_tree = w->tree;
    w->signed_tree.sha = NULL;
    w->signed_at = w->at;
    return 0;
}

int walk_next(struct walk *w, struct err *e) {
    size_t used = 0;
    int whole;
    w->frame_at = w->at;
    w->torn = false;
    if (w->at == w->size) return 0;
    while (!(whole = entry_read(w->room + w->first, w->have, &w->frame, &used))) {
        w->torn = w->at + w->have >= w->size;
        if (w->torn) return damaged(w, e, "it ends within the record");
        if (fill(w, e)) return -1;
    }
    if (whole < 0) return damaged(w, e, "the frame is not what was written");
    w->first += used;
    w->have -= used;
    w->at += used;
    return (walk_is_record(w) ? check_record(w, e) : check_checkpoint(w, e)) ? -1 : 1;
}

// ---------------------------------------------------------------- a file that grows
struct walk_mark walk_mark(const struct walk *w) {
    return (struct walk_mark){.at = w->signed_at, .tree = w->signed_tree};
}

void walk_return(struct walk *w, const struct walk_mark *to) {
    EVP_MD_CTX *sha = w->tree.sha;
    w->tree = w->signed_tree = to->tree;
    w->tree.sha = sha;
    w->at = w->signed_at = w->size = to->at;
    w->first = w->have = 0;
}

int walk_grown(struct walk *w, uint64_t size, struct err *e) {
    w->size = size;
    w->first = w->have = 0;
    if (!w->room) w->room = malloc(ROOM);
    return w->room ? 0 : err_set(e, ERR_INTERNAL, "out of memory");
}

void walk_rest(struct walk *w) {
    free(w->room);
    w->room = NULL;
    w->first = w->have = 0;
}

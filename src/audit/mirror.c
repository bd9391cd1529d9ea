#include "audit/mirror.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int failed(const struct mirror *m, const char *file, struct err *e) {
    return err_errno(e, "the mirror cannot be written: %s/%s", m->dir, file);
}

// ---------------------------------------------------------------- opening
static bool read_note(const struct audit_io *io, const char *dir, const struct note_key *key, struct checkpoint *c) {
    char path[PATH_SIZE], note[NOTE_BYTES];
    size_t n;
    struct err why;
    return !path_join(path, dir, AUDIT_CHECKPOINT, &why) && !io->load(io->arg, path, note, sizeof note, &n) &&
           !checkpoint_verify(note, n, key, c, &why);
}

uint64_t mirror_reach(const struct audit_io *io, const char *dir, const struct note_key *key, uint64_t *bytes) {
    char path[PATH_SIZE];
    struct checkpoint c;
    *bytes = 0;
    if (path_join(path, dir, AUDIT_LOG, NULL)) return 0;
    int file = io->open(io->arg, path, false);
    int64_t size = file < 0 ? 0 : io->size(io->arg, file);
    if (file >= 0) io->close(io->arg, file);
    if (size <= 0) return 0;
    *bytes = (uint64_t)size;
    return read_note(io, dir, key, &c) ? c.size : 0;
}

// Walks what is there. What is behind the last checkpoint was cut by a crash, or never checked.
static int read_again(struct mirror *m, struct err *e) {
    struct walk *w = &m->walk;
    struct checkpoint c = {.size = 0};
    struct err broken;
    bool known = read_note(&m->io, m->dir, &m->key, &c);
    int step;
    while ((step = walk_next(w, &broken)) > 0) {
        if (walk_is_record(w) || !known || w->tree.size != c.size) continue;
        struct hash root = merkle_root(&w->tree);
        if (!memcmp(root.b, c.root.b, MERKLE_HASH)) m->met = walk_mark(w);
    }
    if (known && m->met.tree.size != c.size) {
        if (step < 0) *e = broken;
        return step < 0 ? -1
                        : err_set(e, ERR_INVALID, "%s is damaged: %" PRIu64 " records of it were counter-signed",
                                  w->path, c.size);
    }
    const struct walk_mark end = walk_mark(w);
    walk_return(w, &end);
    walk_rest(w);
    return m->io.truncate(m->io.arg, m->file, end.at) ? failed(m, AUDIT_LOG, e) : 0;
}

int mirror_open(struct mirror *m, const struct audit_io *io, const char *dir, const struct note_key *key,
                struct err *e) {
    char path[PATH_SIZE];
    *m = (struct mirror){.io = *io, .key = *key, .file = -1, .walk = {.file = -1}};
    snprintf(m->dir, sizeof m->dir, "%s", dir);
    if (path_join(path, dir, AUDIT_LOG, e)) return -1;
    if ((m->file = io->open(io->arg, path, true)) < 0) return failed(m, AUDIT_LOG, e);
    if (!walk_open(&m->walk, &m->io, m->dir, &m->key, e) && !read_again(m, e)) return 0;
    mirror_close(m);
    return -1;
}

void mirror_close(struct mirror *m) {
    if (!m->io.close) return;
    walk_close(&m->walk);
    if (m->file >= 0) m->io.close(m->io.arg, m->file);
    *m = (struct mirror){.file = -1};
}

uint64_t mirror_at(const struct mirror *m) { return m->walk.at; }

// ---------------------------------------------------------------- pieces
static int refuse(struct mirror *m, struct err *e, const char *why) {
    return err_set(e, ERR_INVALID, "%s would be damaged at record %" PRIu64 ": %s", m->walk.path, m->walk.tree.size,
                   why);
}

// Whether a checkpoint stands where the walk is, and what the target makes of it.
static int judge(struct mirror *m, const struct checkpoint *target, bool *reached, struct err *e) {
    struct walk *w = &m->walk;
    if (w->at != w->signed_at || w->tree.size < target->size) return 0;
    struct hash root = merkle_root(&w->tree);
    if (w->tree.size > target->size || memcmp(root.b, target->root.b, MERKLE_HASH) != 0)
        return refuse(m, e, "the records before it are not those that were counter-signed");
    *reached = true;
    return 0;
}

static int follow(struct mirror *m, const struct checkpoint *target, bool *reached, struct err *e) {
    struct walk *w = &m->walk;
    struct err why;
    int step;
    for (;;) {
        if (judge(m, target, reached, e)) return -1;
        if (*reached || !(step = walk_next(w, &why))) return 0;
        if (step < 0 && w->torn) return 0; // the rest of that frame is still to come
        if (step < 0) {
            *e = why;
            return -1;
        }
        if (walk_is_record(w) && w->tree.size > target->size)
            return refuse(m, e, "no checkpoint stands where the log was counter-signed");
        if (w->at - w->signed_at > MIRROR_LOOSE) return refuse(m, e, "no checkpoint follows");
    }
}

int mirror_take(struct mirror *m, const struct checkpoint *target, const void *data, size_t n, bool *reached,
                struct err *e) {
    struct walk *w = &m->walk;
    const struct audit_io *io = &m->io;
    *reached = false;
    if (n && io->write(io->arg, m->file, data, n, w->at)) return failed(m, AUDIT_LOG, e);
    if (walk_grown(w, w->at + n, e)) return -1;
    int rc = follow(m, target, reached, e);
    if (rc) walk_return(w, &m->met);
    if (walk_grown(w, w->at, e)) rc = -1; // what was left out comes again
    if (io->truncate(io->arg, m->file, w->at)) return failed(m, AUDIT_LOG, e);
    return rc;
}

// ---------------------------------------------------------------- what stands beside
static int put(const struct mirror *m, const char *name, const char *text, size_t n, struct err *e) {
    char path[PATH_SIZE];
    if (path_join(path, m->dir, name, e)) return -1;
    return m->io.replace(m->io.arg, path, text, n) ? failed(m, name, e) : 0;
}

static int put_owner(struct mirror *m, const char *roster, struct err *e) {
    char vkey[NOTE_VKEY];
    uint8_t digest[DIGEST_BYTES];
    const char *text = roster ? roster : "";
    digest_of(text, strlen(text), digest);
    if (m->sealed && !memcmp(digest, m->roster, sizeof digest)) return 0;
    note_vkey(&m->key, vkey);
    if (put(m, AUDIT_KEY, vkey, strlen(vkey), e) || (roster && put(m, AUDIT_ROSTER, text, strlen(text), e))) return -1;
    memcpy(m->roster, digest, sizeof digest);
    m->sealed = true;
    return 0;
}

int mirror_seal(struct mirror *m, const struct mirror_beside *b, struct err *e) {
    const struct audit_io *io = &m->io;
    walk_rest(&m->walk);
    if (io->sync(io->arg, m->file) || io->sync_dir(io->arg, m->dir)) return failed(m, AUDIT_LOG, e);
    if (put_owner(m, b->roster, e) || put(m, AUDIT_WITNESSES, b->witnesses, strlen(b->witnesses), e) ||
        put(m, AUDIT_CHECKPOINT, b->note, b->note_len, e))
        return -1;
    m->met = walk_mark(&m->walk);
    return 0;
}

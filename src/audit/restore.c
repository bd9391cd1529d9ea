#include "audit/restore.h"
#include "audit/walk.h"
#include "audit/witnessed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_ROOM = 1 << 20, ASIDE_MOST = 1000 };

static int failed(struct err *e, const char *path) { return err_errno(e, "the log cannot be put back: %s", path); }

// ---------------------------------------------------------------- what the log itself still has
static int copy_bytes(int from, int to, uint64_t at, uint64_t end) {
    const struct audit_io *io = &audit_files;
    char *room = malloc(COPY_ROOM);
    int64_t got = room ? 0 : -1;
    for (; got >= 0 && at < end; at += (uint64_t)got) {
        size_t n = end - at < COPY_ROOM ? (size_t)(end - at) : COPY_ROOM;
        got = io->read(io->arg, from, room, n, at);
        if (got == 0) break;
        if (got > 0 && io->write(io->arg, to, room, (size_t)got, at)) got = -1;
    }
    free(room);
    return got < 0 ? -1 : 0;
}

// Appends to the fetched log what its own node has behind that. *joined: it reached as far.
static int join_tail(const char *fetched, const char *dir, bool *joined, struct err *e) {
    const struct audit_io *io = &audit_files;
    char path[PATH_SIZE], own[PATH_SIZE];
    *joined = false;
    if (path_join(path, fetched, AUDIT_LOG, e) || path_join(own, dir, AUDIT_LOG, e)) return -1;
    int from = io->open(io->arg, own, false);
    if (from < 0) return errno == ENOENT || errno == ENOTDIR ? 0 : failed(e, own);
    int to = io->open(io->arg, path, true);
    int64_t has = io->size(io->arg, from), end = to < 0 ? -1 : io->size(io->arg, to);
    *joined = end >= 0 && has >= end;
    int rc = has < 0 || end < 0 || (*joined && copy_bytes(from, to, (uint64_t)end, (uint64_t)has)) ? failed(e, own) : 0;
    io->close(io->arg, from);
    if (to >= 0) io->close(io->arg, to);
    return rc;
}

// ---------------------------------------------------------------- what it comes to
// Walks all of it, writes its tree, and cuts both at the last checkpoint that holds.
static int settle(struct walk *w, const char *fetched, bool *clean, struct err *e) {
    char path[PATH_SIZE];
    struct err broken;
    int step = 0;
    uint64_t size = w->size;
    if (path_join(path, fetched, AUDIT_TREE, e)) return -1;
    FILE *tree = fopen(path, "we");
    if (!tree) return failed(e, path);
    bool bad = fchmod(fileno(tree), 0600) != 0;
    while (!bad && (step = walk_next(w, &broken)) > 0)
        if (walk_is_record(w)) bad = fwrite(w->done, sizeof *w->done, (size_t)w->n_done, tree) != (size_t)w->n_done;
    *clean = !step && w->signed_at == size;
    bad = bad || fflush(tree) ||
          ftruncate(fileno(tree), (off_t)(merkle_kept(w->signed_tree.size) * sizeof(struct hash))) ||
          fsync(fileno(tree)) || truncate(w->path, (off_t)w->signed_at);
    if (fclose(tree) || bad) return failed(e, path);
    return 0;
}

// The checkpoint beside it: the last one that is in it, unless the node's own file knows of more records.
static int choose_checkpoint(const char *fetched, const char *dir, const struct walk *w, bool *whole, struct err *e) {
    char path[PATH_SIZE], own[PATH_SIZE], *text = NULL;
    struct checkpoint c;
    struct err why;
    size_t n = 0;
    if (path_join(path, fetched, AUDIT_CHECKPOINT, e) || path_join(own, dir, AUDIT_CHECKPOINT, e)) return -1;
    bool more = !file_read(own, NOTE_BYTES, &text, &n, &why) && !checkpoint_verify(text, n, w->key, &c, &why) &&
                c.size > w->signed_tree.size;
    int rc = more ? file_write(path, text, n, e) : file_write(path, w->note, w->note_len, e);
    if (more) *whole = false;
    free(text);
    return rc;
}

// The node's own list of witnesses, where it is in order, is the longer one.
static int keep_witnesses(const char *fetched, const char *dir, const struct note_key *key, struct err *e) {
    char path[PATH_SIZE], own[PATH_SIZE], *text = NULL;
    struct witnessed *list = NULL;
    struct err why;
    size_t n = 0, len = 0;
    int rc = 0;
    if (path_join(path, fetched, AUDIT_WITNESSES, e) || path_join(own, dir, AUDIT_WITNESSES, e)) return -1;
    if (!witnessed_load(&audit_files, dir, key, &list, &n, &why) && n &&
        !file_read(own, WITNESSES_FILE, &text, &len, &why))
        rc = file_write(path, text, len, e);
    free(text);
    free(list);
    return rc;
}

// ---------------------------------------------------------------- in its place
static int set_aside(const char *dir, char out[PATH_SIZE], struct err *e) {
    const char *slash = strrchr(dir, '/');
    struct stat st;
    out[0] = '\0';
    if (stat(dir, &st)) return errno == ENOENT ? 0 : failed(e, dir);
    for (int i = 1; i < ASIDE_MOST; i++) {
        int n = snprintf(out, PATH_SIZE, "%.*s/damaged-%s-%d", (int)(slash - dir), dir, slash + 1, i);
        if (n >= PATH_SIZE) return err_set(e, ERR_LIMIT, "the path %.200s is too long", dir);
        if (!stat(out, &st)) continue;
        return rename(dir, out) ? failed(e, dir) : 0;
    }
    return err_set(e, ERR_LIMIT, "too many damaged logs were set aside beside %.200s", dir);
}

static int take_place(const char *fetched, const char *dir, struct restored *out, struct err *e) {
    char folder[PATH_SIZE];
    if (dir_sync(fetched, e) || set_aside(dir, out->aside, e)) return -1;
    if (rename(fetched, dir)) return failed(e, dir);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(dir, '/') - dir), dir);
    return dir_sync(folder, e);
}

int restore_log(const char *fetched, const char *dir, const struct note_key *key, struct restored *out, struct err *e) {
    struct walk w;
    bool joined, clean = false;
    *out = (struct restored){.records = 0};
    if (join_tail(fetched, dir, &joined, e) || walk_open(&w, &audit_files, fetched, key, e)) return -1;
    int rc = settle(&w, fetched, &clean, e);
    out->records = w.signed_tree.size;
    out->whole = joined && clean;
    if (!rc) rc = choose_checkpoint(fetched, dir, &w, &out->whole, e);
    walk_close(&w);
    return rc || keep_witnesses(fetched, dir, key, e) || take_place(fetched, dir, out, e) ? -1 : 0;
}

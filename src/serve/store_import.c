// Bringing a file into the store: inspect, copy while hashing, sync, record, rename.
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "engine/process.h"
#include "serve/store_path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/fs.h>
#endif

enum { PIECE = 1 << 20, PIECES_PER_REPORT = 4, INSPECT_SECONDS = 60, LINK_SECONDS = 60 };
#define PARTIAL ".import-" // hidden, so that it is no model; locked while its import lives

// ---------------------------------------------------------------- inspection, in a process of its own
// Reads until the end, the limit or the deadline.
static int read_output(int fd, struct buf *out, struct err *e) {
    uint64_t end = clock_mono_ns() + INSPECT_SECONDS * NS_PER_S;
    for (;;) {
        uint64_t now = clock_mono_ns();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = now < end ? poll(&p, 1, (int)((end - now) / NS_PER_MS) + 1) : 0;
        if (ready < 0 && errno == EINTR) continue;
        if (ready < 0) return err_errno(e, "cannot wait for the inspection");
        if (!ready) return err_set(e, ERR_WORKER, "the inspection took more than %d seconds", INSPECT_SECONDS);
        if (buf_reserve(out, 4096))
            return err_set(e, ERR_LIMIT, "the inspection says more than %u bytes", LIMIT_INSPECTION);
        ssize_t n = read(fd, out->data + out->len, 4096);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_errno(e, "cannot read from the inspection");
        if (!n) return 0;
        out->len += (size_t)n;
    }
}

// The inspector's object, or its refusal as an error.
static json_t *read_inspection(const struct buf *out, int status, const char *file, struct err *e) {
    char how[64];
    struct err why = {.code = ERR_NONE};
    json_t *o = out->len ? json_parse(out->data, out->len, &why) : NULL;
    const json_t *refusal = json_object_get(o, "error");
    if (json_is_object(o) && !refusal && WIFEXITED(status) && !WEXITSTATUS(status)) return o;
    process_how_ended(status, how, sizeof how);
    const json_t *message = json_is_object(refusal) ? json_object_get(refusal, "message") : refusal;
    if (json_is_string(message))
        err_set(e, ERR_INVALID, "%.200s cannot be used: %.250s", file, json_string_value(message));
    else
        err_set(e, ERR_INVALID, "%.200s cannot be used: inspecting it failed (the process %s)", file, how);
    json_decref(o);
    return NULL;
}

json_t *store_inspect(const struct store *s, const char *file, struct err *e) {
    const char *argv[] = {s->program, "worker", "--inspect", file, NULL};
    int ends[2], status = 0;
    pid_t pid;
    struct buf out;
    json_t *o = NULL;
    buf_init(&out, LIMIT_INSPECTION);
    if (pipe(ends)) {
        err_errno(e, "cannot make a pipe");
        return NULL;
    }
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    int rc = process_start(&pid, argv, &(struct process_files){.third = -1, .output = ends[1]}, e);
    close(ends[1]);
    if (!rc) {
        rc = read_output(ends[0], &out, e);
        if (rc) kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
        if (!rc) o = read_inspection(&out, status, file, e);
    }
    close(ends[0]);
    buf_free(&out);
    return o;
}

// ---------------------------------------------------------------- copying
struct copy {
    const struct store_import *how;
    int from, to; // to is -1 for a link, which is only read
    bool cloned;  // `to` already shares the blocks of `from`
    int64_t done, total;
    EVP_MD_CTX *hash;
    unsigned char *piece;
};

static int write_piece(const struct copy *c, size_t n, struct err *e) {
    for (size_t at = 0; at < n;) {
        ssize_t wrote = write(c->to, c->piece + at, n - at);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return err_errno(e, "cannot write to the model store");
        at += (size_t)wrote;
    }
    return 0;
}

static int tell_progress(const struct copy *c, struct err *e) {
    if (c->how->progress && c->how->progress(c->how->arg, c->done, c->total))
        return err_set(e, ERR_CANCELLED, "interrupted");
    return 0;
}

// Hashes the very bytes that are stored: those read here go to the copy, and a clone is what is read.
static int copy_bytes(struct copy *c, struct err *e) {
    int source = c->cloned ? c->to : c->from;
    for (unsigned i = 0;; i++) {
        if (i % PIECES_PER_REPORT == 0 && tell_progress(c, e)) return -1;
        ssize_t n = read(source, c->piece, PIECE);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_errno(e, "cannot read %s", c->how->file);
        if (!n) return c->done ? tell_progress(c, e) : err_set(e, ERR_INVALID, "%s is empty", c->how->file);
        if (!EVP_DigestUpdate(c->hash, c->piece, (size_t)n)) return err_set(e, ERR_INTERNAL, "SHA-256 failed");
        if (c->to >= 0 && !c->cloned && write_piece(c, (size_t)n, e)) return -1;
        c->done += n;
    }
}

static bool clone_file(int to, int from) {
#ifdef FICLONE
    return to >= 0 && !ioctl(to, FICLONE, from);
#else
    (void)to, (void)from;
    return false;
#endif
}

static int copy_and_hash(struct copy *c, char sha256[65], struct err *e) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    int rc = -1;
    c->hash = EVP_MD_CTX_new();
    c->piece = malloc(PIECE);
    c->cloned = clone_file(c->to, c->from);
    if (!c->hash || !c->piece || !EVP_DigestInit_ex(c->hash, EVP_sha256(), NULL))
        err_set(e, ERR_INTERNAL, "out of memory");
    else if (copy_bytes(c, e)) {
    } else if (c->to >= 0 && fsync(c->to))
        err_errno(e, "cannot write to the model store");
    else if (!EVP_DigestFinal_ex(c->hash, digest, &n) || n != 32)
        err_set(e, ERR_INTERNAL, "SHA-256 failed");
    else
        rc = 0;
    for (unsigned i = 0; !rc && i < n; i++) snprintf(sha256 + 2 * i, 3, "%02x", digest[i]);
    EVP_MD_CTX_free(c->hash);
    free(c->piece);
    return rc;
}

// ---------------------------------------------------------------- one import
struct import {
    const struct store *store;
    const struct store_import *how;
    char name[LIMIT_MODEL_NAME + 1];
    char target[PATH_SIZE];                    // the absolute path of the source
    char model[PATH_SIZE], sidecar[PATH_SIZE]; // where it will be
    char partial[PATH_SIZE];                   // where it is meanwhile
    char sha256[65];
    struct stat st;
    json_t *info;
};

int store_open(const char *file, struct stat *st, struct err *e) {
    char magic[4];
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO must not hold us up
    if (fd < 0 || fstat(fd, st)) {
        enum err_code code = errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
        err_errno(e, "cannot read %.300s", file);
        if (e) e->code = code;
    } else if (!S_ISREG(st->st_mode))
        err_set(e, ERR_INVALID, "%.300s is not a file", file);
    else if (pread(fd, magic, sizeof magic, 0) != (ssize_t)sizeof magic || memcmp(magic, "GGUF", sizeof magic) != 0)
        err_set(e, ERR_INVALID, "%.300s is not a GGUF file", file);
    else
        return fd;
    if (fd >= 0) close(fd);
    return -1;
}

static int check_name(struct import *i, struct err *e) {
    struct stat st;
    if (!i->how->name && store_name_of(i->how->file, i->name, e)) return -1;
    if (i->how->name && strlen(i->how->name) > LIMIT_MODEL_NAME)
        return err_set(e, ERR_INVALID, "a model's name has at most %u bytes", LIMIT_MODEL_NAME);
    if (i->how->name) snprintf(i->name, sizeof i->name, "%s", i->how->name);
    if (store_path(i->store, i->name, ".gguf", i->model, e) || store_path(i->store, i->name, ".json", i->sidecar, e))
        return -1;
    if (!i->how->force && !lstat(i->model, &st))
        return err_set(e, ERR_INVALID, "there is a model '%s' already: give --name, or --force to replace it", i->name);
    return 0;
}

// Whether nobody holds the lock of a partial file any more. Links and records have none, but live for a moment only.
static bool is_leftover(const char *path) {
    struct stat st;
    if (lstat(path, &st)) return false;
    if (!S_ISREG(st.st_mode) || strstr(strrchr(path, '/'), ".json")) return st.st_mtime + LINK_SECONDS < time(NULL);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool unlocked = fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB);
    if (fd >= 0) close(fd);
    return unlocked;
}

// What imports that were killed have left behind.
static void remove_leftovers(const struct store *s) {
    char path[PATH_SIZE];
    const struct dirent *entry;
    DIR *d = opendir(s->dir);
    while (d && (entry = readdir(d)))
        if (!strncmp(entry->d_name, PARTIAL, strlen(PARTIAL)) && !path_join(path, s->dir, entry->d_name, NULL) &&
            is_leftover(path))
            unlink(path);
    if (d) closedir(d);
}

static int open_partial(struct import *i, struct err *e) {
    if (path_join(i->partial, i->store->dir, PARTIAL "XXXXXX", e)) return -1;
    int fd = mkostemp(i->partial, O_CLOEXEC);
    if (fd >= 0 && !flock(fd, LOCK_EX)) return fd;
    err_errno(e, "cannot create a file in %s", i->store->dir);
    if (fd >= 0) close(fd);
    return -1;
}

static int write_record(const struct import *i, const char *path, struct err *e) {
    const char *base = strrchr(i->target, '/');
    json_t *source = json_string(base ? base + 1 : i->target);
    json_t *o = json_pack("{s:i, s:s, s:I, s:I, s:o, s:O}", "v", 1, "sha256", i->sha256, "bytes",
                          (json_int_t)i->st.st_size, "imported_at", (json_int_t)(clock_wall_ns() / NS_PER_S), "source",
                          source ? source : json_null(), "info", i->info);
    char *text = o ? json_text(o) : NULL;
    int rc = text ? file_write(path, text, strlen(text), e) : err_set(e, ERR_INTERNAL, "out of memory");
    free(text);
    json_decref(o);
    return rc;
}

// The record as it was. Where that fails, none is better than one that speaks of another file.
static void restore_record(const struct import *i, const char *old, size_t len) {
    if (!old || file_write(i->sidecar, old, len, NULL)) unlink(i->sidecar);
}

// Everything is prepared under names that count for nothing. The record goes first, as it can be put back: the rename
// that makes the model is the last thing that can fail.
static int rename_both(const struct import *i, const char *record, struct err *e) {
    char *old = NULL;
    size_t len = 0;
    struct err why = {.code = ERR_NONE};
    if (file_read(i->sidecar, LIMIT_SIDECAR, &old, &len, &why) && why.code != ERR_NOT_FOUND) {
        if (e) *e = why;
        return -1;
    }
    int rc = rename(record, i->sidecar) ? err_errno(e, "cannot create %s", i->sidecar) : 0;
    if (!rc && rename(i->partial, i->model)) {
        rc = err_errno(e, "cannot create %s", i->model);
        restore_record(i, old, len);
    }
    free(old);
    return rc;
}

static int publish(struct import *i, struct err *e) {
    struct err unsynced;
    char record[PATH_SIZE];
    if (i->how->link && (unlink(i->partial) || symlink(i->target, i->partial)))
        return err_errno(e, "cannot create a link in %s", i->store->dir);
    if (snprintf(record, sizeof record, "%s.json", i->partial) >= (int)sizeof record)
        return err_set(e, ERR_LIMIT, "the path of the model store is too long");
    if (write_record(i, record, e)) return -1;
    int rc = rename_both(i, record, e);
    if (rc)
        unlink(record);
    else if (dir_sync(i->store->dir, &unsynced))
        log_warn("the model store: %s", unsynced.msg);
    return rc;
}

static int import_file(struct import *i, int from, struct err *e) {
    char *real = realpath(i->how->file, NULL);
    int fits = real ? snprintf(i->target, sizeof i->target, "%s", real) : -1;
    free(real);
    if (fits < 0 || fits >= (int)sizeof i->target) return err_errno(e, "cannot find %s", i->how->file);
    if (!(i->info = store_inspect(i->store, i->target, e)) || path_make_dir(i->store->dir, e)) return -1;
    remove_leftovers(i->store);
    int to = open_partial(i, e), rc = -1;
    if (to < 0) return -1;
    struct copy c = {.how = i->how, .from = from, .to = i->how->link ? -1 : to, .total = (int64_t)i->st.st_size};
    if (!copy_and_hash(&c, i->sha256, e)) {
        i->st.st_size = (off_t)c.done;
        rc = publish(i, e);
    }
    if (rc) unlink(i->partial);
    close(to);
    return rc;
}

int store_import(const struct store *s, const struct store_import *how, char name[LIMIT_MODEL_NAME + 1],
                 struct err *e) {
    struct import i = {.store = s, .how = how};
    int fd = store_open(how->file, &i.st, e);
    int rc = fd < 0 || check_name(&i, e) || import_file(&i, fd, e) ? -1 : 0;
    if (fd >= 0) close(fd);
    json_decref(i.info);
    if (!rc && name) snprintf(name, LIMIT_MODEL_NAME + 1, "%s", i.name);
    return rc;
}

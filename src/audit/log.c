#include "base/log.h"
#include "audit/log_internal.h"
#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { BATCH_ROOM = AUDIT_BATCH_BYTES + 2 * (ENTRY_HEAD + ENTRY_MAX), BATCH_NODES = 2 * AUDIT_QUEUE + MERKLE_LEVELS };

int audit_file_failed(struct err *e, const char *path) {
    return err_errno(e, "the audit log cannot be written: %s", path);
}

// ---------------------------------------------------------------- the writer
static void fail(struct audit *a, const struct err *why) {
    pthread_mutex_lock(&a->lock);
    if (!a->failed) a->why = *why;
    a->failed = true;
    pthread_mutex_unlock(&a->lock);
    log_error("%s", why->msg);
}

static void add_frame(struct audit *a, enum entry_type type, const void *data, size_t n) {
    assert(a->batch_len + ENTRY_HEAD + n <= BATCH_ROOM);
    entry_head(type, data, n, a->batch + a->batch_len);
    memcpy(a->batch + a->batch_len + ENTRY_HEAD, data, n);
    a->batch_len += ENTRY_HEAD + n;
}

static void add_record(struct audit *a, const struct pending *p) {
    struct hash leaf = merkle_leaf(&a->tree, (uint8_t)p->type, p->data, p->n);
    int n;
    add_frame(a, p->type, p->data, p->n);
    merkle_add(&a->tree, &leaf, a->nodes + a->n_nodes, &n);
    a->n_nodes += (size_t)n;
}

static int not_as_left(struct err *e, const char *path) {
    return err_set(e, ERR_IO, "the audit log cannot be written: %s was cut, moved or replaced by another program",
                   path);
}

// Whether what stands under the log's name still is as long as what was written.
static int check_name(const struct audit *a, struct err *e) {
    const struct audit_io *io = &a->io;
    int file = io->open(io->arg, a->path, false);
    bool well = file >= 0 && io->size(io->arg, file) == (int64_t)a->at;
    if (file >= 0) io->close(io->arg, file);
    return well ? 0 : not_as_left(e, a->path);
}

// Makes a batch durable, its checkpoint with it.
static int commit(struct audit *a, const struct pendings *batch, char note[NOTE_BYTES], size_t *n, struct err *e) {
    const struct pending *p;
    struct checkpoint c;
    uint64_t kept = merkle_kept(a->tree.size);
    a->batch_len = a->n_nodes = 0;
    TAILQ_FOREACH(p, batch, next) add_record(a, p);
    c = (struct checkpoint){.size = a->tree.size, .root = merkle_root(&a->tree)};
    snprintf(c.origin, sizeof c.origin, "%s", a->name.name);
    if (checkpoint_write(&c, a->key, note, n, e)) return -1;
    add_frame(a, ENTRY_CHECKPOINT, note, *n);
    const struct audit_io *io = &a->io;
    if (io->size(io->arg, a->file) != (int64_t)a->at) return not_as_left(e, a->path);
    if (io->write(io->arg, a->file, a->batch, a->batch_len, a->at) || io->sync(io->arg, a->file))
        return audit_file_failed(e, a->path);
    if (io->write(io->arg, a->tree_file, a->nodes, a->n_nodes * sizeof *a->nodes, kept * sizeof *a->nodes))
        return audit_file_failed(e, a->tree_path);
    a->at += a->batch_len;
    return 0;
}

// Moves what one fdatasync takes from the queue. With the lock.
static void take(struct audit *a, struct pendings *batch) {
    size_t bytes = 0;
    struct pending *p;
    while ((p = TAILQ_FIRST(&a->queue)) && bytes < AUDIT_BATCH_BYTES) {
        if (bytes + ENTRY_HEAD + p->n > AUDIT_BATCH_BYTES && bytes) break;
        bytes += ENTRY_HEAD + p->n;
        TAILQ_REMOVE(&a->queue, p, next);
        TAILQ_INSERT_TAIL(batch, p, next);
    }
}

static void finish(struct audit *a, struct pendings *batch, bool failed) {
    const uint64_t one = 1;
    struct pending *p;
    pthread_mutex_lock(&a->lock);
    while ((p = TAILQ_FIRST(batch))) {
        TAILQ_REMOVE(batch, p, next);
        p->failed = failed;
        TAILQ_INSERT_TAIL(&a->finished, p, next);
    }
    pthread_mutex_unlock(&a->lock);
    if (write(a->event_fd, &one, sizeof one) < 0) log_debug("the loop has been told already");
}

static void write_batch(struct audit *a, struct pendings *batch) {
    char note[NOTE_BYTES];
    size_t n;
    struct err why;
    int rc = a->failed ? -1 : commit(a, batch, note, &n, &why); // only this thread sets `failed`
    if (rc && !a->failed) fail(a, &why);
    if (!rc) {
        pthread_mutex_lock(&a->lock);
        a->head = a->tree.size;
        a->note_len = n;
        memcpy(a->note, note, n);
        pthread_mutex_unlock(&a->lock);
    }
    finish(a, batch, rc != 0);
}

// The checkpoint by itself, now and then.
static void publish(struct audit *a) {
    struct err why;
    a->published_ns = clock_mono_ns();
    if (a->failed || a->published == a->head) return;
    if (check_name(a, &why))
        fail(a, &why);
    else if (a->io.replace(a->io.arg, a->checkpoint_path, a->note, a->note_len) || a->io.sync_dir(a->io.arg, a->dir)) {
        audit_file_failed(&why, a->checkpoint_path);
        fail(a, &why);
    }
    pthread_mutex_lock(&a->lock);
    a->published = a->head;
    pthread_mutex_unlock(&a->lock);
}

// Waits for records. With the lock; false: it was quiet for a while.
static bool wait_for_work(struct audit *a) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += AUDIT_PUBLISH_IDLE_MS / 1000;
    while (TAILQ_EMPTY(&a->queue) && !a->stopping) {
        if (a->published == a->head || a->failed)
            pthread_cond_wait(&a->wake, &a->lock);
        else if (pthread_cond_timedwait(&a->wake, &a->lock, &until) == ETIMEDOUT)
            return false;
    }
    return true;
}

static void *writer(void *arg) {
    struct audit *a = arg;
    bool more = true;
    while (more) {
        struct pendings batch = TAILQ_HEAD_INITIALIZER(batch);
        pthread_mutex_lock(&a->lock);
        bool work = wait_for_work(a);
        take(a, &batch);
        more = !a->stopping || !TAILQ_EMPTY(&a->queue);
        pthread_mutex_unlock(&a->lock);
        if (!TAILQ_EMPTY(&batch)) write_batch(a, &batch);
        uint64_t since = clock_mono_ns() - a->published_ns;
        if (!work || !more || since > AUDIT_PUBLISH_BUSY_MS * NS_PER_MS) publish(a);
    }
    return NULL;
}

// ---------------------------------------------------------------- appending
static struct pending *pending_new(struct audit *a, enum entry_type type, uint64_t intent, const char *text, size_t len,
                                   struct err *e) {
    char begin[RECORD_BEGIN];
    size_t n;
    record_begin_write(&(struct record_begin){.seq = a->next, .type = type, .intent = intent}, begin, &n);
    if (len > ENTRY_MAX - n) {
        err_set(e, ERR_LIMIT, "a record of %zu bytes is too long for the audit log", len);
        return NULL;
    }
    struct pending *p = malloc(sizeof *p + n + len);
    if (!p) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *p = (struct pending){.type = type, .seq = a->next, .n = n + len - 1};
    memcpy(p->data, begin, n);
    memcpy(p->data + n, text + 1, len - 1); // begin has the brace
    return p;
}

static int enqueue(struct audit *a, struct pending *p, struct err *e) {
    bool owed = p->type == ENTRY_OUTCOME || p->type == ENTRY_RESERVE;
    size_t part = owed ? 4 : 3; // quarters
    int rc = 0;
    pthread_mutex_lock(&a->lock);
    if (a->failed) {
        if (e) *e = a->why;
        rc = -1;
    } else if (a->queued >= part * (AUDIT_QUEUE / 4) || a->queued_bytes + p->n > part * (AUDIT_QUEUE_BYTES / 4))
        rc = err_set(e, ERR_BUSY, "too much waits for the audit log: try again");
    else {
        TAILQ_INSERT_TAIL(&a->queue, p, next);
        a->queued++;
        a->queued_bytes += p->n;
        a->next++;
        pthread_cond_signal(&a->wake);
    }
    pthread_mutex_unlock(&a->lock);
    return rc;
}

int audit_append(struct audit *a, enum entry_type type, uint64_t intent, const json_t *body, audit_done *done,
                 void *arg, uint64_t *seq, struct err *e) {
    assert(json_object_size(body) && entry_type_name(type));
    char *text = json_dumps(body, JSON_COMPACT | JSON_ENSURE_ASCII);
    if (!text) return err_set(e, ERR_INTERNAL, "out of memory for a record of the audit log");
    struct pending *p = pending_new(a, type, intent, text, strlen(text), e);
    free(text);
    if (!p) return -1;
    p->done = done;
    p->arg = arg;
    if (enqueue(a, p, e)) {
        free(p);
        return -1;
    }
    if (seq) *seq = a->next - 1;
    return 0;
}

int audit_fd(const struct audit *a) { return a->event_fd; }

void audit_dispatch(struct audit *a) {
    struct pendings finished = TAILQ_HEAD_INITIALIZER(finished);
    uint64_t count;
    struct err why;
    struct pending *p;
    if (read(a->event_fd, &count, sizeof count) < 0) count = 0;
    pthread_mutex_lock(&a->lock);
    TAILQ_CONCAT(&finished, &a->finished, next);
    TAILQ_FOREACH(p, &finished, next) {
        a->queued--;
        a->queued_bytes -= p->n;
    }
    why = a->why;
    pthread_mutex_unlock(&a->lock);
    while ((p = TAILQ_FIRST(&finished))) {
        TAILQ_REMOVE(&finished, p, next);
        const struct entry f = {.type = p->type, .data = p->data, .n = p->n};
        if (p->done) p->done(p->arg, p->seq, &f, p->failed ? &why : NULL);
        free(p);
    }
}

// ---------------------------------------------------------------- looking
bool audit_failed(struct audit *a, struct err *e) {
    pthread_mutex_lock(&a->lock);
    bool failed = a->failed;
    if (failed && e) *e = a->why;
    pthread_mutex_unlock(&a->lock);
    return failed;
}

bool audit_at_rest(struct audit *a) {
    pthread_mutex_lock(&a->lock);
    bool rest = a->failed || (a->next == a->head && a->published == a->head);
    pthread_mutex_unlock(&a->lock);
    return rest;
}

uint64_t audit_head(struct audit *a, char note[NOTE_BYTES], size_t *n) {
    pthread_mutex_lock(&a->lock);
    uint64_t head = a->head;
    if (note) {
        memcpy(note, a->note, a->note_len);
        *n = a->note_len;
    }
    pthread_mutex_unlock(&a->lock);
    return head;
}

const char *audit_dir(const struct audit *a) { return a->dir; }
const char *audit_origin(const struct audit *a) { return a->name.name; }

static int read_node(void *arg, int level, uint64_t index, struct hash *out, struct err *e) {
    const struct audit *a = arg;
    int64_t got = a->io.read(a->io.arg, a->tree_file, out, sizeof *out, merkle_place(level, index) * sizeof *out);
    if (got == sizeof *out) return 0;
    return got < 0 ? err_errno(e, "cannot read %s", a->tree_path) : err_set(e, ERR_IO, "%s is too short", a->tree_path);
}

int audit_prove(struct audit *a, uint64_t index, uint64_t size, struct hash path[MERKLE_LEVELS], int *n,
                struct err *e) {
    if (index >= size) return err_set(e, ERR_NOT_FOUND, "the log has no such record yet");
    return merkle_inclusion(read_node, a, index, size, path, n, e);
}

int audit_prove_growth(struct audit *a, uint64_t size, uint64_t head, struct hash *root,
                       struct hash path[MERKLE_LEVELS], int *n, struct err *e) {
    *n = 0;
    if (size > head) return err_set(e, ERR_NOT_FOUND, "the log has no such record yet");
    if (merkle_root_at(read_node, a, size, root, e)) return -1;
    return size ? merkle_consistency(read_node, a, size, head, path, n, e) : 0;
}

// ---------------------------------------------------------------- opening
static int open_files(struct audit *a, struct err *e) {
    const struct audit_io *io = &a->io;
    char path[PATH_SIZE], vkey[NOTE_VKEY];
    int64_t size;
    if (path_join(a->path, a->dir, AUDIT_LOG, e) || path_join(a->tree_path, a->dir, AUDIT_TREE, e) ||
        path_join(a->checkpoint_path, a->dir, AUDIT_CHECKPOINT, e) || path_join(path, a->dir, AUDIT_KEY, e))
        return -1;
    if ((a->file = io->open(io->arg, a->path, true)) < 0 || (size = io->size(io->arg, a->file)) < 0)
        return audit_file_failed(e, a->path);
    if ((a->tree_file = io->open(io->arg, a->tree_path, true)) < 0) return audit_file_failed(e, a->tree_path);
    if (size) return 0;
    note_vkey(&a->name, vkey);
    if (io->replace(io->arg, path, vkey, strlen(vkey)) || io->sync_dir(io->arg, a->dir))
        return audit_file_failed(e, path);
    return 0;
}

static struct audit *audit_new(const struct audit_spec *spec, struct err *e) {
    pthread_condattr_t clock;
    struct audit *a = calloc(1, sizeof *a);
    if (!a) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *a = (struct audit){.io = spec->io, .key = spec->key, .file = -1, .tree_file = -1};
    TAILQ_INIT(&a->queue);
    TAILQ_INIT(&a->finished);
    pthread_mutex_init(&a->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&a->wake, &clock);
    pthread_condattr_destroy(&clock);
    a->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    a->batch = malloc(BATCH_ROOM);
    a->nodes = malloc(BATCH_NODES * sizeof *a->nodes);
    snprintf(a->name.name, sizeof a->name.name, "%s", spec->origin);
    if (snprintf(a->dir, sizeof a->dir, "%s", spec->dir) >= (int)sizeof a->dir || !note_is_name(spec->origin) ||
        key_public(spec->key, a->name.public) || a->event_fd < 0 || !a->batch || !a->nodes ||
        merkle_init(&a->tree, e)) {
        err_set(e, ERR_INTERNAL, "the audit log %s cannot be opened: out of memory, or a bad name or key", spec->dir);
        audit_close(a);
        return NULL;
    }
    return a;
}

struct audit *audit_open(const struct audit_spec *spec, struct audit_found *found, struct err *e) {
    struct unanswered *list = NULL;
    size_t n = 0;
    *found = (struct audit_found){.records = 0};
    struct audit *a = audit_new(spec, e);
    if (!a) return NULL;
    int rc = open_files(a, e) || recover_read(a, found, &list, &n, e) || recover_tell(a, found, list, n, e) ? -1 : 0;
    free(list);
    a->published_ns = clock_mono_ns();
    if (!rc && pthread_create(&a->thread, NULL, writer, a)) rc = err_set(e, ERR_INTERNAL, "a thread cannot be started");
    a->running = !rc;
    if (!rc) return a;
    audit_close(a);
    return NULL;
}

static void drop_all(struct pendings *list) {
    struct pending *p;
    while ((p = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, p, next);
        free(p);
    }
}

void audit_close(struct audit *a) {
    if (!a) return;
    if (a->running) {
        pthread_mutex_lock(&a->lock);
        a->stopping = true;
        pthread_cond_signal(&a->wake);
        pthread_mutex_unlock(&a->lock);
        pthread_join(a->thread, NULL);
        audit_dispatch(a);
    }
    drop_all(&a->queue); // of a log that could not be opened
    if (a->file >= 0) a->io.close(a->io.arg, a->file);
    if (a->tree_file >= 0) a->io.close(a->io.arg, a->tree_file);
    if (a->event_fd >= 0) close(a->event_fd);
    merkle_close(&a->tree);
    pthread_cond_destroy(&a->wake);
    pthread_mutex_destroy(&a->lock);
    free(a->batch);
    free(a->nodes);
    free(a);
}

// What the parts of audit/log share: recover.c makes a log's state from its files, log.c keeps it going.
#pragma once

#include "audit/log.h"
#include "audit/walk.h"

#include <pthread.h>
#include <sys/queue.h>

struct pending {
    TAILQ_ENTRY(pending) next;
    audit_done *done;
    void *arg;
    uint64_t seq;
    bool failed;
    enum entry_type type;
    size_t n;
    char data[];
};
TAILQ_HEAD(pendings, pending);

struct unanswered {   // an intent
    uint64_t seq, at; // at: of its frame
    uint64_t answer;  // its outcome's number, which no checkpoint covers yet; RECORD_ALONE: there is none
};

struct audit {
    struct audit_io io;
    char dir[PATH_SIZE], path[PATH_SIZE], tree_path[PATH_SIZE], checkpoint_path[PATH_SIZE];
    struct note_key name;
    EVP_PKEY *key; // borrowed
    int file, tree_file, event_fd;
    // the writer's; before it runs, the opener's
    struct merkle tree;
    uint64_t at;    // bytes of the log
    uint8_t *batch; // owned
    size_t batch_len;
    struct hash *nodes; // owned
    size_t n_nodes;
    uint64_t published, published_ns; // the size that the file `checkpoint` tells of (with the lock), and since when
    // shared
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct pendings queue, finished;
    size_t queued, queued_bytes;
    uint64_t next;
    bool stopping, failed;
    struct err why;
    uint64_t head;
    char note[NOTE_BYTES];
    size_t note_len;
};

// Reads the log at a->dir and sets tree, at, note, head, next. *list (free it): intents without an outcome.
int recover_read(struct audit *a, struct audit_found *found, struct unanswered **list, size_t *n,
                 struct err *e) MUST_USE;
// Appends what the log is to say of that, before anything else.
int recover_tell(struct audit *a, struct audit_found *found, const struct unanswered *list, size_t n,
                 struct err *e) MUST_USE;
int audit_file_failed(struct err *e, const char *path); // "cannot write PATH: errno ..."

#include "serve/keeper.h"
#include "base/log.h"
#include "base/paths.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

struct keeping {
    TAILQ_ENTRY(keeping) next;
    keeper_done *done;
    keeper_work *work, *after; // of keeper_do: in place of path and data
    void *arg;
    struct err why;
    size_t n;
    char path[PATH_SIZE];
    char data[];
};
TAILQ_HEAD(keepings, keeping);

struct keeper {
    struct event *event;
    int fd;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct keepings queue, finished;
    size_t waiting; // of both
    bool stopping;
};

static void keep(struct keeping *g) {
    char dir[PATH_SIZE];
    if (g->work) {
        g->work(g->arg);
        return;
    }
    snprintf(dir, sizeof dir, "%s", g->path);
    *strrchr(dir, '/') = '\0';
    g->why.code = ERR_NONE;
    if (path_make_dir(dir, &g->why) || file_write(g->path, g->data, g->n, &g->why)) log_warn("%s", g->why.msg);
}

static void *run(void *arg) {
    struct keeper *k = arg;
    const uint64_t one = 1;
    pthread_mutex_lock(&k->lock);
    for (;;) {
        while (TAILQ_EMPTY(&k->queue) && !k->stopping) pthread_cond_wait(&k->wake, &k->lock);
        struct keeping *g = TAILQ_FIRST(&k->queue);
        if (!g) break;
        TAILQ_REMOVE(&k->queue, g, next);
        pthread_mutex_unlock(&k->lock);
        keep(g);
        pthread_mutex_lock(&k->lock);
        TAILQ_INSERT_TAIL(&k->finished, g, next);
        if (write(k->fd, &one, sizeof one) < 0) log_debug("the loop has been told already");
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

static void on_finished(evutil_socket_t fd, short what, void *arg) {
    struct keeper *k = arg;
    struct keepings finished = TAILQ_HEAD_INITIALIZER(finished);
    struct keeping *g;
    uint64_t count;
    (void)what;
    if (read(fd, &count, sizeof count) < 0) return;
    pthread_mutex_lock(&k->lock);
    TAILQ_CONCAT(&finished, &k->finished, next);
    TAILQ_FOREACH(g, &finished, next) k->waiting--;
    pthread_mutex_unlock(&k->lock);
    while ((g = TAILQ_FIRST(&finished))) {
        TAILQ_REMOVE(&finished, g, next);
        if (g->after) g->after(g->arg);
        if (g->done) g->done(g->arg, g->why.code ? &g->why : NULL);
        free(g);
    }
}

struct keeper *keeper_new(struct event_base *base, struct err *e) {
    struct keeper *k = calloc(1, sizeof *k);
    if (!k) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    TAILQ_INIT(&k->queue);
    TAILQ_INIT(&k->finished);
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->wake, NULL);
    k->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    k->event = k->fd < 0 ? NULL : event_new(base, k->fd, EV_READ | EV_PERSIST, on_finished, k);
    k->running = k->event && !event_add(k->event, NULL) && !pthread_create(&k->thread, NULL, run, k);
    if (k->running) return k;
    err_set(e, ERR_INTERNAL, "out of memory, or no thread can be started");
    keeper_free(k);
    return NULL;
}

static void free_list(struct keepings *list) {
    struct keeping *g;
    while ((g = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, g, next);
        free(g);
    }
}

void keeper_free(struct keeper *k) {
    if (!k) return;
    if (k->running) {
        pthread_mutex_lock(&k->lock);
        k->stopping = true;
        pthread_cond_signal(&k->wake);
        pthread_mutex_unlock(&k->lock);
        pthread_join(k->thread, NULL);
    }
    if (k->event) event_free(k->event);
    if (k->fd >= 0) close(k->fd);
    free_list(&k->queue);
    free_list(&k->finished);
    pthread_cond_destroy(&k->wake);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

// Takes g over.
static int queue_up(struct keeper *k, struct keeping *g, struct err *e) {
    pthread_mutex_lock(&k->lock);
    bool full = k->waiting == KEEPER_WAITING;
    if (!full) {
        TAILQ_INSERT_TAIL(&k->queue, g, next);
        k->waiting++;
        pthread_cond_signal(&k->wake);
    }
    pthread_mutex_unlock(&k->lock);
    if (!full) return 0;
    free(g);
    return err_set(e, ERR_BUSY, "too much waits to be written");
}

int keeper_put(struct keeper *k, const char *path, const void *data, size_t n, keeper_done *done, void *arg,
               struct err *e) {
    struct keeping *g = malloc(sizeof *g + n);
    if (!g) return err_set(e, ERR_INTERNAL, "out of memory");
    *g = (struct keeping){.done = done, .arg = arg, .n = n};
    snprintf(g->path, sizeof g->path, "%s", path);
    memcpy(g->data, data, n);
    return queue_up(k, g, e);
}

int keeper_do(struct keeper *k, keeper_work *work, keeper_work *done, void *arg, struct err *e) {
    struct keeping *g = malloc(sizeof *g);
    if (!g) return err_set(e, ERR_INTERNAL, "out of memory");
    *g = (struct keeping){.work = work, .after = done, .arg = arg};
    return queue_up(k, g, e);
}

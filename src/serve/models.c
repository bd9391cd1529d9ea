#include "serve/models.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct models {
    struct event_base *base;
    struct settings settings;
    struct store store;
    TAILQ_HEAD(, model) all;
    long n;
    void (*changed)(void *arg);
    void *arg;
};

struct models *models_new(struct event_base *base, const struct settings *s, const struct store *store, struct err *e) {
    struct models *m = calloc(1, sizeof *m);
    if (!m) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    m->base = base;
    m->settings = *s;
    m->store = *store;
    TAILQ_INIT(&m->all);
    return m;
}

void models_listen(struct models *m, void (*changed)(void *arg), void *arg) {
    m->changed = changed;
    m->arg = arg;
}

struct model *models_find(const struct models *m, const char *name) {
    struct model *one;
    TAILQ_FOREACH(one, &m->all, next) {
        if (!strcmp(one->name, name)) return one;
    }
    return NULL;
}

struct model *models_next(const struct models *m, const struct model *after) {
    return after ? TAILQ_NEXT(after, next) : TAILQ_FIRST(&m->all);
}

// ---------------------------------------------------------------- watches
void model_watch(struct model *m, struct model_watch *w) { TAILQ_INSERT_TAIL(&m->watches, w, next); }
void model_unwatch(struct model *m, struct model_watch *w) { TAILQ_REMOVE(&m->watches, w, next); }

static void log_state(struct model *m, const struct engine_status *s) {
    if (s->state == m->said) return;
    m->said = s->state;
    if (s->state == ENGINE_LOADING) m->loading_ns = clock_mono_ns();
    if (s->state == ENGINE_READY)
        log_info("model '%s' is ready after %.1f s: %s on %s, context %d, %d KV cells", m->name,
                 (double)(clock_mono_ns() - m->loading_ns) / 1e9, s->info.description, s->info.backends,
                 (int)s->info.ctx, (int)s->info.kv_cells);
    if (s->state == ENGINE_FAILED) log_error("model '%s' failed: %s", m->name, s->why.msg);
}

static void on_changed(void *arg) {
    struct model *m = arg;
    struct engine_status status;
    engine_get_status(m->engine, &status);
    log_state(m, &status);
    if (m->of->changed) m->of->changed(m->of->arg);
    for (struct model_watch *w = TAILQ_FIRST(&m->watches), *next; w; w = next) {
        next = TAILQ_NEXT(w, next);
        w->changed(w->arg);
    }
}

// ---------------------------------------------------------------- start and stop
static void model_stop(struct model *m) {
    struct model_watch *w;
    log_info("model '%s' stops", m->name);
    TAILQ_REMOVE(&m->of->all, m, next); // first: its requests' ends must not find it
    m->of->n--;
    engine_stop(m->engine);
    while ((w = TAILQ_FIRST(&m->watches))) {
        TAILQ_REMOVE(&m->watches, w, next);
        w->stopped(w->arg);
    }
    free(m);
}

static bool is_idle(const struct model *m, struct engine_status *status) {
    engine_get_status(m->engine, status);
    return !status->requests && TAILQ_EMPTY(&m->watches) && status->state != ENGINE_LOADING;
}

static int make_room(struct models *m, struct err *e) {
    struct engine_status status;
    while (m->n >= m->settings.max_models) {
        struct model *one, *oldest = NULL;
        TAILQ_FOREACH(one, &m->all, next) {
            if (!is_idle(one, &status)) continue;
            if (status.state == ENGINE_FAILED) one->used_ns = 0;
            if (!oldest || one->used_ns < oldest->used_ns) oldest = one;
        }
        if (!oldest)
            return err_set(e, ERR_BUSY,
                           "all %ld models that may be loaded are in use: try again later, or raise max_models", m->n);
        model_stop(oldest);
    }
    return 0;
}

// Whether the file can be a model at all; only a worker looks further into it.
static int check_file(const char *path, struct err *e) {
    struct stat st;
    int fd = store_open(path, &st, e);
    if (fd >= 0) return close(fd);
    if (e) snprintf(e->param, sizeof e->param, "model");
    if (e && e->code == ERR_IO) e->code = ERR_NOT_FOUND; // not readable for us: there is none, as far as clients go
    return -1;
}

static struct model *model_start(struct models *m, const char *name, const char *path, struct err *e) {
    struct engine_options o;
    if (check_file(path, e) || make_room(m, e)) return NULL; // in this order: junk must not cost a loaded model
    struct model *one = calloc(1, sizeof *one);
    if (!one) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    snprintf(one->name, sizeof one->name, "%s", name);
    snprintf(one->path, sizeof one->path, "%s", path);
    TAILQ_INIT(&one->watches);
    one->of = m;
    one->started_ns = one->loading_ns = one->used_ns = clock_mono_ns();
    engine_options_of(&o, &m->settings, name, path);
    one->engine = engine_start(m->base, m->store.program, &o, on_changed, one, e);
    if (!one->engine) {
        free(one);
        return NULL;
    }
    log_info("model '%s' loads from %s", name, path);
    TAILQ_INSERT_TAIL(&m->all, one, next);
    m->n++;
    return one;
}

void models_stop_all(struct models *m) {
    struct model *one;
    while ((one = TAILQ_FIRST(&m->all))) model_stop(one);
}

void models_free(struct models *m) {
    if (!m) return;
    models_stop_all(m);
    free(m);
}

int models_stop(struct models *m, const char *name, struct err *e) {
    struct model *one = models_find(m, name);
    if (one) {
        model_stop(one);
        return 0;
    }
    err_param(e, "model", "no model '%.128s' is loaded", name);
    if (e) e->code = ERR_NOT_FOUND;
    return -1;
}

// ---------------------------------------------------------------- by name, by path
static struct model *only_one(const struct models *m, struct err *e) {
    struct model *one = TAILQ_FIRST(&m->all);
    if (one && !TAILQ_NEXT(one, next)) return one;
    err_param(e, "model", "'model' is missing: name one (see /v1/models)");
    return NULL;
}

struct model *models_get(struct models *m, const char *name, struct err *e) {
    char path[PATH_SIZE];
    if (!*name) return only_one(m, e);
    struct model *one = models_find(m, name);
    if (one) return one;
    return store_find(&m->store, name, path, e) ? NULL : model_start(m, name, path, e);
}

static int check_path(const char *path, struct err *e) {
    size_t n = strlen(path);
    if (path[0] != '/' || n < 6 || strcmp(path + n - 5, ".gguf") != 0)
        return err_param(e, "model", "'model' must be a model's name or the absolute path of a .gguf file");
    return n < PATH_SIZE ? 0 : err_param(e, "model", "the path in 'model' is too long");
}

// A model with that name may stay, unless it has failed; another file under its name must wait until it is stopped.
static struct model *reuse(struct models *m, const char *name, const char *path, struct err *e) {
    struct engine_status status;
    struct model *one = models_find(m, name);
    if (one && !strcmp(one->path, path)) {
        engine_get_status(one->engine, &status);
        if (status.state != ENGINE_FAILED) return one;
        model_stop(one);
    } else if (one) {
        err_param(e, "model", "another model called '%s' is loaded: stop it first (`nebulus stop %s`)", name, name);
        return NULL;
    }
    return model_start(m, name, path, e);
}

struct model *models_load(struct models *m, const char *name_or_path, struct err *e) {
    char path[PATH_SIZE], name[LIMIT_MODEL_NAME + 1];
    const struct model *one = models_find(m, name_or_path);
    bool is_path = !one && strchr(name_or_path, '/');
    if (is_path && (check_path(name_or_path, e) || store_name_of(name_or_path, name, e))) return NULL;
    if (!one && !is_path && store_find(&m->store, name_or_path, path, e)) return NULL;
    if (one || is_path) snprintf(path, sizeof path, "%s", one ? one->path : name_or_path);
    if (!is_path) snprintf(name, sizeof name, "%s", name_or_path); // names that are found are short enough
    return reuse(m, name, path, e);
}

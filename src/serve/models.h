// The models this daemon holds: each is a name, a file and an engine. Loading one more than settings.max_models stops
// the least recently used one that is idle. Threads: the event-loop thread only.
#pragma once

#include "base/settings.h"
#include "engine/client.h"
#include "serve/store.h"
#include <sys/queue.h>

struct models;

struct model_watch {
    void (*changed)(void *arg); // state or progress; may end this very watch
    void (*stopped)(void *arg); // the model is going away, and with it the watch
    void *arg;
    TAILQ_ENTRY(model_watch) next;
};

// Borrowed by whoever gets one: it lives until models_stop (or eviction, which spares models with requests or watches).
struct model {
    char name[LIMIT_MODEL_NAME + 1];
    char path[PATH_SIZE];
    struct engine *engine;
    uint64_t started_ns, used_ns; // clock_mono_ns of its start and its last use
    int64_t requests;             // since its start
    uint64_t read_ns;             // when a prompt was last read to its end, clock_mono_ns
    // for models.c
    struct models *of;
    TAILQ_HEAD(, model_watch) watches;
    TAILQ_ENTRY(model) next;
    enum engine_state said; // the last state in the log
    uint64_t loading_ns;    // since when its worker loads
};

struct models *models_new(struct event_base *base, const struct settings *s, const struct store *store,
                          struct err *e) MUST_USE;
void models_free(struct models *m); // stops all; the loop must run on until the workers are gone
// Called on every change of a model's state or progress. One listener.
void models_listen(struct models *m, void (*changed)(void *arg), void *arg);
void models_stop_all(struct models *m);

// The loaded or stored model of that name; "" means the only one that is loaded. Starts it where needed: requests may
// be submitted to its engine at once. ERR_NOT_FOUND (param "model"); ERR_BUSY where no room can be made.
struct model *models_get(struct models *m, const char *name, struct err *e) MUST_USE;

// The same for an order to load: takes a name or the absolute path of a .gguf, and starts a model that has failed once
// more.
struct model *models_load(struct models *m, const char *name_or_path, struct err *e) MUST_USE;

struct model *models_find(const struct models *m, const char *name); // loaded ones only; NULL where there is none
struct model *models_next(const struct models *m, const struct model *after); // NULL begins, and ends, the round
int models_stop(struct models *m, const char *name, struct err *e) MUST_USE;

void model_watch(struct model *m, struct model_watch *w);
void model_unwatch(struct model *m, struct model_watch *w);

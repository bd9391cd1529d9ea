#include "serve/load.h"
#include "base/json.h"
#include "serve/status.h"

#include <stdlib.h>

struct loading {
    struct call call;
    struct model *model;
    struct model_watch watch;
    enum engine_state said; // what the last line told
    double said_progress;
};

static void end(struct loading *l) {
    http_end(l->call.x);
    free(l);
}

static void on_changed(void *arg) {
    struct loading *l = arg;
    struct engine_status status;
    engine_get_status(l->model->engine, &status);
    if (status.state == ENGINE_LOADING || status.state == ENGINE_WAITING) {
        if (status.state != l->said || status.progress > l->said_progress)
            call_line(&l->call, json_pack("{s:i, s:s, s:f}", "v", 1, "state", engine_state_name(status.state),
                                          "progress", status.progress));
        l->said = status.state;
        l->said_progress = status.progress;
        return;
    }
    if (status.state == ENGINE_READY)
        call_line(&l->call, json_pack("{s:i, s:s, s:o}", "v", 1, "state", "ready", "model", status_of_model(l->model)));
    else
        call_line(&l->call, call_error(&status.why));
    model_unwatch(l->model, &l->watch);
    end(l);
}

static void on_stopped(void *arg) {
    struct err why;
    err_set(&why, ERR_CANCELLED, "the model was stopped");
    call_line(&((struct loading *)arg)->call, call_error(&why));
    end(arg);
}

static void on_left(void *arg) {
    struct loading *l = arg;
    model_unwatch(l->model, &l->watch);
    free(l);
}

// The model that the body asks for.
static struct model *asked_model(const struct call *c, struct err *e) {
    const char *name = NULL;
    json_t *body = call_body(c, e);
    struct model *model = NULL;
    if (body && !json_get_string(body, "model", &name, e)) {
        if (name && *name)
            model = models_load(c->s->models, name, e);
        else
            err_param(e, "model", "'model' is missing: name one, or give the absolute path of a .gguf file");
    }
    json_decref(body);
    return model;
}

void load_start(const struct call *c) {
    struct err why = {.code = ERR_NONE};
    struct model *model = asked_model(c, &why);
    struct loading *l = model ? calloc(1, sizeof *l) : NULL;
    if (!l) {
        if (model) err_set(&why, ERR_INTERNAL, "out of memory");
        call_fail(c, &why);
        return;
    }
    *l = (struct loading){.call = *c, .model = model, .said = ENGINE_FAILED};
    l->watch = (struct model_watch){.changed = on_changed, .stopped = on_stopped, .arg = l};
    model_watch(model, &l->watch);
    call_begin(c, "application/x-ndjson");
    http_on_close(c->x, on_left, l);
    on_changed(l); // where it stands now
}

#include "serve/status.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "serve/discovery.h"
#include "serve/witness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODELS_PATH "/v1/models/"

void status_health(const struct call *c) { call_answer(c, json_pack("{s:s}", "status", "ok")); }

void status_metrics(const struct call *c) {
    struct buf out;
    struct err why;
    buf_init(&out, LIMIT_METRICS);
    if (metrics_write(&c->s->metrics, c->s->models, http_server_connections(c->s->http), &out)) {
        err_set(&why, ERR_INTERNAL, "out of memory");
        call_fail(c, &why);
    } else {
        metrics_answer(&c->s->metrics, c->route, 200);
        http_reply(c->x, 200, "text/plain; version=0.0.4; charset=utf-8", out.data, out.len);
    }
    buf_free(&out);
}

// ---------------------------------------------------------------- the daemon's own shape
static json_t *text_json(const char *s) {
    char shown[2048];
    text_escape(shown, sizeof shown, s); // file names need not be UTF-8
    return json_string(shown);
}

static void without_type(json_t *o) { json_object_del(o, "t"); } // the wire's own member

// How what its sequences remember reaches other nodes.
static json_t *travels_json(const struct model *m, const struct engine_status *s) {
    const struct kv_shape *kv = &s->info.kv;
    char text[256];
    if (s->state != ENGINE_READY) return json_null();
    if (!engine_arena(m->engine))
        snprintf(text, sizeof text, "not: %s", s->info.kv_why[0] ? s->info.kv_why : "kv_buffer is 0");
    else if (kv->form == KV_ROWS)
        snprintf(text, sizeof text, "by rows, while the prompt is read");
    else
        snprintf(text, sizeof text, "as a whole, up to %.1f MB, after a pause: %s", (double)kv->state / 1e6,
                 s->info.kv_why);
    return text_json(text);
}

json_t *status_of_model(const struct model *m) {
    struct engine_status s;
    engine_get_status(m->engine, &s);
    bool known = s.info.arch[0] || s.state == ENGINE_READY;
    json_t *info = known ? info_encode(&s.info) : json_null();
    json_t *stats = s.state == ENGINE_READY ? stats_encode(&s.stats) : json_null();
    json_t *why = s.why.code ? json_pack("{s:s, s:o}", "code", err_name(s.why.code), "message", text_json(s.why.msg))
                             : json_null();
    without_type(info);
    without_type(stats);
    return json_pack("{s:s, s:o, s:s, s:f, s:o, s:o, s:i, s:i, s:I, s:f, s:o, s:o}", "name", m->name, "path",
                     text_json(m->path), "state", engine_state_name(s.state), "progress", s.progress, "error", why,
                     "memory_travels", travels_json(m, &s), "pid", (int)s.pid, "restarts", s.restarts, "requests",
                     (json_int_t)m->requests, "idle_s", s.requests ? 0.0 : (double)(clock_mono_ns() - m->used_ns) / 1e9,
                     "info", info, "stats", stats);
}

void status_show(const struct call *c) {
    const struct metrics *m = &c->s->metrics;
    char api[SETTING_SIZE + 16];
    json_t *models = json_array();
    for (const struct model *one = models_next(c->s->models, NULL); one; one = models_next(c->s->models, one))
        json_array_append_new(models, status_of_model(one));
    snprintf(api, sizeof api, strchr(c->s->host, ':') ? "[%s]:%u" : "%s:%u", c->s->host, (unsigned)c->s->port);
    call_answer(c,
                json_pack("{s:i, s:s, s:i, s:I, s:s, s:I, s:I, s:{s:I, s:I, s:I}, s:o, s:o, s:o}", "v", 1, "version",
                          NEBULUS_VERSION, "pid", (int)getpid(), "uptime_s", (json_int_t)metrics_uptime_s(m), "api",
                          api, "rss_bytes", (json_int_t)metrics_rss_bytes(), "connections",
                          (json_int_t)http_server_connections(c->s->http), "requests", "total", (json_int_t)m->total,
                          "failed", (json_int_t)m->failed, "active", (json_int_t)m->active, "models", models,
                          "discovery", discovery_status_json(c->s->discovery), "audit", witness_json(c->s->witness)));
}

void status_stop(const struct call *c) {
    struct err why = {.code = ERR_NONE};
    const char *name = "";
    json_t *body = call_body(c, &why);
    if (!body || json_get_string(body, "model", &name, &why) || models_stop(c->s->models, name, &why))
        call_fail(c, &why);
    else
        call_answer(c, json_pack("{s:i, s:s}", "v", 1, "stopped", name));
    json_decref(body);
}

// ---------------------------------------------------------------- OpenAI's shape
static json_t *openai_model(const char *name, int64_t created) {
    return json_pack("{s:s, s:s, s:I, s:s}", "id", name, "object", "model", "created", (json_int_t)created, "owned_by",
                     "nebulus");
}

// The stored ones, and those that were loaded by path.
static json_t *all_models(const struct serve *s, struct err *e) {
    struct store_model *stored;
    size_t n;
    if (store_list_entries(&s->store, &stored, &n, e)) return NULL;
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        if (!stored[i].missing) json_array_append_new(list, openai_model(stored[i].name, stored[i].imported_at));
    for (const struct model *m = models_next(s->models, NULL); m; m = models_next(s->models, m)) {
        size_t i = 0;
        while (i < n && strcmp(stored[i].name, m->name) != 0) i++;
        int64_t age_s = (int64_t)((clock_mono_ns() - m->started_ns) / NS_PER_S);
        if (i == n) json_array_append_new(list, openai_model(m->name, (int64_t)(clock_wall_ns() / NS_PER_S) - age_s));
    }
    store_list_free(stored, n);
    if (!list) err_set(e, ERR_INTERNAL, "out of memory");
    return list;
}

void status_models(const struct call *c) {
    struct err why;
    json_t *list = all_models(c->s, &why);
    if (list)
        call_answer(c, json_pack("{s:s, s:o}", "object", "list", "data", list));
    else
        call_fail(c, &why);
}

void status_one_model(const struct call *c) {
    const char *name = http_path(c->x) + strlen(MODELS_PATH);
    struct err why;
    json_t *one = NULL, *list = all_models(c->s, &why);
    size_t i;
    json_array_foreach(list, i, one) {
        if (!strcmp(name, json_string_value(json_object_get(one, "id")))) break;
    }
    if (list && i < json_array_size(list))
        call_reply(c, 200, one);
    else {
        if (list) {
            err_param(&why, "model", "there is no model '%.128s'", name);
            why.code = ERR_NOT_FOUND;
        }
        call_fail(c, &why);
    }
    json_decref(list);
}

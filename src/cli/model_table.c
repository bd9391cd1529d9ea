#include "cli/model_table.h"
#include "base/json.h"
#include "cli/table.h"
#include "cli/term.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define BY_ROWS "by rows" // the ordinary way

struct row {
    const char *name, *state;
    double progress, idle_s;
    int64_t restarts, ctx, bytes, cells_used, cells_total, running, waiting, tokens;
    const char *why, *travels, *emulated;
};

static int read_row(const json_t *model, struct row *r, struct err *e) {
    json_t *info = NULL, *stats = NULL, *error = NULL;
    *r = (struct row){.name = "?", .state = "?", .why = "", .travels = "", .emulated = ""};
    if (json_get_string(model, "name", &r->name, e) || json_get_string(model, "state", &r->state, e) ||
        json_get_real(model, "progress", 0, 1, &r->progress, e) ||
        json_get_real(model, "idle_s", 0, 1e12, &r->idle_s, e) ||
        json_get_int(model, "restarts", 0, INT64_MAX, &r->restarts, e) || json_get_object(model, "info", &info, e) ||
        json_get_string(model, "memory_travels", &r->travels, e) || json_get_object(model, "stats", &stats, e) ||
        json_get_object(model, "error", &error, e))
        return -1;
    if (info && (json_get_int(info, "ctx", 0, INT64_MAX, &r->ctx, e) ||
                 json_get_int(info, "model_bytes", 0, INT64_MAX, &r->bytes, e) ||
                 json_get_string(info, "emulated", &r->emulated, e)))
        return -1;
    if (error && json_get_string(error, "message", &r->why, e)) return -1;
    if (!stats) return 0;
    return json_get_int(stats, "cells_used", 0, INT64_MAX, &r->cells_used, e) ||
                   json_get_int(stats, "cells_total", 0, INT64_MAX, &r->cells_total, e) ||
                   json_get_int(stats, "running", 0, INT64_MAX, &r->running, e) ||
                   json_get_int(stats, "waiting", 0, INT64_MAX, &r->waiting, e) ||
                   json_get_int(stats, "decode_tokens", 0, INT64_MAX, &r->tokens, e)
               ? -1
               : 0;
}

static int add_row(struct table *t, const struct row *r, struct err *e) {
    char size[SIZE_TEXT], used[SIZE_TEXT], total[SIZE_TEXT], tokens[SIZE_TEXT], idle[SIZE_TEXT], state[64], kv[64];
    bool busy = r->running || r->waiting, loading = !strcmp(r->state, "loading");
    snprintf(state, sizeof state, loading ? "%.40s %d%%" : "%.40s", r->state, (int)(r->progress * 100));
    snprintf(kv, sizeof kv, "%s/%s", term_count(used, (uint64_t)r->cells_used),
             term_count(total, (uint64_t)r->cells_total));
    return table_cell(t, e, "%s", r->name) || table_cell(t, e, "%s", state) ||
                   table_cell(t, e, "%s", r->bytes ? term_size(size, (uint64_t)r->bytes) : "-") ||
                   table_cell(t, e, "%s", r->ctx ? term_count(size, (uint64_t)r->ctx) : "-") ||
                   table_cell(t, e, "%s", r->cells_total ? kv : "-") ||
                   table_cell(t, e, "%lld", (long long)r->running) || table_cell(t, e, "%lld", (long long)r->waiting) ||
                   table_cell(t, e, "%s", term_count(tokens, (uint64_t)r->tokens)) ||
                   table_cell(t, e, "%lld", (long long)r->restarts) ||
                   table_cell(t, e, "%s", busy || loading ? "-" : term_duration(idle, (uint64_t)r->idle_s))
               ? -1
               : 0;
}

int model_table_write(const json_t *status, const struct sheet *to, struct err *e) {
    static const char *const head[] = {"NAME",     "STATE",    ">SIZE",   ">CONTEXT",  ">KV TOKENS",
                                       ">RUNNING", ">WAITING", ">TOKENS", ">RESTARTS", ">IDLE"};
    struct table t;
    struct row r;
    json_t *models = NULL;
    size_t i;
    int rc = -1;
    table_init(&t, head, sizeof head / sizeof *head);
    if (json_get_array(status, "models", &models, e)) goto out;
    for (i = 0; i < json_array_size(models); i++)
        if (read_row(json_array_get(models, i), &r, e) || add_row(&t, &r, e)) goto out;
    if (i)
        table_write(&t, to->out);
    else
        fprintf(to->out, "no model is loaded\n");
    for (i = 0; i < json_array_size(models); i++) {
        if (read_row(json_array_get(models, i), &r, e)) goto out;
        if (r.why[0]) term_note(to->notes, "%s: %s", r.name, r.why);
        if (r.emulated[0]) term_note(to->notes, "%s: its times are those of %s, emulated", r.name, r.emulated);
        if (r.travels[0] && strncmp(r.travels, BY_ROWS, strlen(BY_ROWS)) != 0)
            term_note(to->notes, "%s: what it remembers travels to other nodes %s", r.name, r.travels);
    }
    rc = 0;
out:
    table_free(&t);
    return rc;
}

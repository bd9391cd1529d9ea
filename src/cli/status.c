// nebulus status: the daemon and its models. nebulus ps: the models only.
#include "base/json.h"
#include "base/text.h"
#include "cli/api_client.h"
#include "cli/audit_view.h"
#include "cli/model_table.h"
#include "cli/term.h"
#include "cli/view.h"

#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

static const struct option options[] = {OPTION_WATCH, OPTION_JSON};

struct summary {
    const char *version, *api;
    double uptime_s;
    int64_t pid, rss_bytes, connections, total, failed, active;
};

static int read_summary(const json_t *status, struct summary *s, struct err *e) {
    json_t *requests = NULL;
    *s = (struct summary){.version = "?", .api = "?"};
    if (json_get_string(status, "version", &s->version, e) || json_get_string(status, "api", &s->api, e) ||
        json_get_real(status, "uptime_s", 0, 1e12, &s->uptime_s, e) ||
        json_get_int(status, "pid", 0, INT64_MAX, &s->pid, e) ||
        json_get_int(status, "rss_bytes", 0, INT64_MAX, &s->rss_bytes, e) ||
        json_get_int(status, "connections", 0, INT64_MAX, &s->connections, e) ||
        json_get_object(status, "requests", &requests, e))
        return -1;
    if (!requests) return 0;
    return json_get_int(requests, "total", 0, INT64_MAX, &s->total, e) ||
                   json_get_int(requests, "failed", 0, INT64_MAX, &s->failed, e) ||
                   json_get_int(requests, "active", 0, INT64_MAX, &s->active, e)
               ? -1
               : 0;
}

static int write_summary(const json_t *status, FILE *out, struct err *e) {
    struct summary s;
    char up[SIZE_TEXT], memory[SIZE_TEXT], line[ESCAPED_MAX], safe[ESCAPED_MAX];
    if (read_summary(status, &s, e)) return -1;
    snprintf(line, sizeof line, "nebulus %.64s at %.255s", s.version, s.api);
    text_escape(safe, sizeof safe, line);
    fprintf(out, "%s%s%s\n", term_style(STDOUT_FILENO, STYLE_BOLD), safe, term_style(STDOUT_FILENO, STYLE_END));
    fprintf(out, "  up %s, pid %lld, %s of memory, %lld connections\n", term_duration(up, (uint64_t)s.uptime_s),
            (long long)s.pid, term_size(memory, (uint64_t)s.rss_bytes), (long long)s.connections);
    fprintf(out, "  requests: %lld, of them %lld active and %lld failed\n", (long long)s.total, (long long)s.active,
            (long long)s.failed);
    if (audit_view_write(json_object_get(status, "audit"), out, e)) return -1;
    fprintf(out, "\n");
    return 0;
}

static int write_status(const json_t *status, const struct sheet *to, struct err *e) {
    return write_summary(status, to->out, e) || model_table_write(status, to, e) ? -1 : 0;
}

static int run(struct invocation *in) { return view_watch(in, "/nebulus/v1/status", write_status); }

static int run_ps(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct api_client *api = api_open(in->settings.api, &e);
    json_t *status = NULL, *shape = NULL;
    int rc = -1;
    if (api) rc = api_get(api, "/nebulus/v1/status", &status, &e);
    if (!rc && !args_has(&in->args, "json"))
        rc = model_table_write(status, &(struct sheet){stdout, stderr}, &e);
    else if (!rc) {
        json_t *models = json_object_get(status, "models");
        shape = cli_object();
        if (shape && models) json_object_set(shape, "models", models);
        rc = term_print_json(shape, &e);
    }
    json_decref(status);
    api_close(api);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_status = {
    .name = "status",
    .group = "Daemon",
    .arguments = "",
    .summary = "Show how the daemon and its models are",
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

const struct command command_ps = {
    .name = "ps",
    .group = "Daemon",
    .arguments = "",
    .summary = "List the loaded models",
    .options = json_option,
    .n_options = COUNT_OF(json_option),
    .settings = SETTINGS_API,
    .run = run_ps,
};

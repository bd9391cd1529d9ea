// nebulus audit recover: after records were lost, without them; or with them, from another node's mirror.
#include "base/json.h"
#include "base/text.h"
#include "cli/api_client.h"
#include "cli/audit_log.h"
#include "cli/interrupt.h"
#include "cli/term.h"

#include <stdio.h>
#include <string.h>

enum { LOOK_MS = 100 };

static const char path[] = "/nebulus/v1/audit/recover";

// ---------------------------------------------------------------- from a mirror
struct progress {
    const char *state, *log, *aside, *why;
    int64_t records, bytes;
};

// What the daemon says of it, in {"audit":{"restore":{..}}}.
static int read_progress(const json_t *answer, struct progress *p, struct err *e) {
    json_t *audit = NULL, *restore = NULL;
    *p = (struct progress){.state = "failed", .log = "?", .why = "the daemon was started again meanwhile"};
    if (json_get_object(answer, "audit", &audit, e) || (audit && json_get_object(audit, "restore", &restore, e)))
        return -1;
    if (!restore) return 0;
    return json_get_string(restore, "state", &p->state, e) || json_get_string(restore, "log", &p->log, e) ||
                   json_get_string(restore, "aside", &p->aside, e) || json_get_string(restore, "error", &p->why, e) ||
                   json_get_int(restore, "records", 0, INT64_MAX, &p->records, e) ||
                   json_get_int(restore, "bytes", 0, INT64_MAX, &p->bytes, e)
               ? -1
               : 0;
}

static int tell(const struct invocation *in, const json_t *answer, const struct progress *p) {
    char line[ESCAPED_MAX], safe[ESCAPED_MAX];
    if (args_has(&in->args, "json"))
        return audit_print_json(json_object_get(json_object_get(answer, "audit"), "restore"));
    snprintf(line, sizeof line, "the audit log %.200s has its first %lld records again", p->log, (long long)p->records);
    text_escape(safe, sizeof safe, line);
    puts(safe);
    if (!p->aside) return CLI_OK;
    text_escape(safe, sizeof safe, p->aside);
    printf("what was there of it is kept in %s\n", safe);
    return CLI_OK;
}

static int recover_from(const struct invocation *in, struct api_client *api, const char *node, struct err *e) {
    json_t *body = json_pack("{s:s}", "from", node), *answer = NULL;
    struct progress p = {.state = "running"};
    int rc = body ? api_post(api, path, body, &answer, e) : err_set(e, ERR_INTERNAL, "out of memory");
    json_decref(body);
    while (!rc && !(rc = read_progress(answer, &p, e)) && !strcmp(p.state, "running")) {
        if (interrupt_sleep(LOOK_MS)) break;
        json_decref(answer);
        answer = NULL;
        rc = api_get(api, "/nebulus/v1/status", &answer, e);
    }
    if (!rc && !strcmp(p.state, "failed")) rc = err_set(e, ERR_AUDIT, "%.400s", p.why ? p.why : "it failed");
    if (rc)
        rc = cli_fail(e);
    else
        rc = strcmp(p.state, "running") != 0 ? tell(in, answer, &p) : CLI_INTERRUPTED;
    json_decref(answer);
    return rc;
}

// ---------------------------------------------------------------- without them
static int give_up(const struct invocation *in, struct api_client *api, struct err *e) {
    json_t *body = json_object(), *answer = NULL;
    const char *log = "?";
    int rc = api_post(api, path, body, &answer, e) || json_get_string(answer, "log", &log, e) ? -1 : 0;
    if (rc)
        rc = cli_fail(e);
    else if (args_has(&in->args, "json"))
        rc = audit_print_json(answer);
    else
        printf("recorded, and given up: what was missing. The audit log is %s now\n", log);
    json_decref(body);
    json_decref(answer);
    return rc;
}

int audit_recover(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    const char *from = args_text(&in->args, "from", NULL);
    struct api_client *api = api_open(in->settings.api, &e);
    int rc = !api ? cli_fail(&e) : from ? recover_from(in, api, from, &e) : give_up(in, api, &e);
    api_close(api);
    return rc;
}

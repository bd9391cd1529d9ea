// nebulus audit show: everything that this home's logs know of one request, and whether these logs are whole.
#include "audit/verify.h"
#include "base/text.h"
#include "cli/audit_tell.h"
#include "cli/term.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LINE = 4 * AUDIT_TOLD };

struct showing {
    struct audit_names names;
    const char *req_id;
    json_t *records; // owned
    json_t *logs;    // folder -> {ok, origin or error}; owned
};

static json_t *check_log(const char *dir) {
    struct verified v;
    struct err e = {.code = ERR_NONE};
    if (verify_log(&audit_files, dir, NULL, NULL, &v, &e)) return json_pack("{s:b,s:s}", "ok", 0, "error", e.msg);
    return json_pack("{s:b,s:s,s:I}", "ok", 1, "origin", v.key.name, "records", (json_int_t)v.records);
}

static int collect(void *arg, const json_t *record, const char *dir) {
    struct showing *s = arg;
    if (strcmp(audit_text(record, "req_id"), s->req_id) != 0) return 0;
    json_array_append_new(s->records, json_deep_copy(record));
    if (!json_object_get(s->logs, dir)) json_object_set_new(s->logs, dir, check_log(dir));
    return 0;
}

// ---------------------------------------------------------------- for people
static void line(const char *name, const char *text) {
    char safe[LINE];
    text_escape(safe, sizeof safe, text);
    printf("  %-11s %s\n", name, safe);
}

static const json_t *find(const struct showing *s, const char *type, const char *part) {
    for (size_t i = 0; i < json_array_size(s->records); i++) {
        const json_t *r = json_array_get(s->records, i);
        if (!strcmp(audit_text(r, "type"), type) && !strcmp(audit_text(r, "part"), part)) return r;
    }
    return NULL;
}

static void print_asker(const json_t *intent) {
    char text[LINE];
    const json_t *labels = json_object_get(intent, "labels");
    int n = snprintf(text, sizeof text, "%.64s", audit_text(intent, "agent"));
    if (*audit_text(intent, "key_id"))
        n += snprintf(text + n, sizeof text - (size_t)n, ", key %.32s", audit_text(intent, "key_id"));
    for (size_t i = 0; i < json_array_size(labels) && n < (int)sizeof text - 80; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%.64s", i ? " " : ", labels ",
                      json_string_value(json_array_get(labels, i)));
    line("asked by", text);
    line("model", audit_text(intent, "model"));
}

// Nodes whose times are not their own.
static void print_emulated(const struct showing *s, const json_t *r) {
    const json_t *one;
    size_t i;
    json_array_foreach(json_object_get(r, "computed"), i, one) {
        char text[LINE], plain[ROSTER_NAME];
        if (!*audit_text(one, "emulated")) continue;
        snprintf(text, sizeof text, "%s took the times of %.64s", audit_name(&s->names, audit_text(one, "node"), plain),
                 audit_text(one, "emulated"));
        line("emulated", text);
    }
}

static void print_outcome(const struct showing *s, const json_t *r) {
    char text[LINE], told[AUDIT_TOLD];
    if (json_object_get(r, "decision")) {
        audit_tell_rules(r, told);
        line("policy", told);
    }
    audit_tell(&s->names, r, told);
    line("ended", told);
    snprintf(text, sizeof text, "%.1f ms in all; waited %.1f, first token after %.1f",
             (double)audit_number(r, "took", "total") / 1e6, (double)audit_number(r, "took", "queue") / 1e6,
             (double)audit_number(r, "took", "ttft") / 1e6);
    line("took", text);
    print_emulated(s, r);
}

static void print_records(const struct showing *s) {
    for (size_t i = 0; i < json_array_size(s->records); i++) {
        const json_t *r = json_array_get(s->records, i);
        char text[LINE], told[AUDIT_TOLD], when[AUDIT_WHEN];
        audit_tell(&s->names, r, told);
        snprintf(text, sizeof text, "%" PRId64 " %s %s %s%s %s", audit_number(r, NULL, "seq"), audit_when(r, when),
                 audit_text(r, "type"), audit_text(r, "part"), *audit_text(r, "part") ? ":" : "", told);
        line(i ? "" : "records", text);
    }
}

static int print_logs(const struct showing *s) {
    const char *dir;
    const json_t *log;
    int rc = CLI_OK;
    json_object_foreach((json_t *)s->logs, dir, log) {
        char text[LINE];
        bool ok = json_is_true(json_object_get(log, "ok"));
        if (ok)
            snprintf(text, sizeof text, "ok: %.160s, %" PRId64 " records", audit_text(log, "origin"),
                     audit_number(log, NULL, "records"));
        else
            snprintf(text, sizeof text, "NOT ok: %.500s", audit_text(log, "error"));
        line("signatures", text);
        if (!ok) rc = CLI_FAILED;
    }
    return rc;
}

static int print(const struct showing *s) {
    const json_t *intent = find(s, "intent", "gateway"), *outcome = find(s, "outcome", "gateway");
    char safe[LINE];
    text_escape(safe, sizeof safe, s->req_id);
    printf("%s\n", safe);
    if (!intent) intent = find(s, "intent", "place");
    if (intent) print_asker(intent);
    if (outcome) print_outcome(s, outcome);
    print_records(s);
    return print_logs(s);
}

int audit_show(struct invocation *in) {
    struct showing s = {.records = json_array(), .logs = json_object()};
    struct err e = {.code = ERR_NONE};
    int rc = CLI_OK;
    if (in->args.n_words < 2) {
        err_set(&e, ERR_INVALID, "which request? See the answer's id, or `nebulus audit tail`");
        rc = cli_usage(in->command, &e);
        goto out;
    }
    s.req_id = in->args.words[1];
    audit_names_read(&in->paths, &s.names);
    if (audit_read_all(&in->paths, s.req_id, collect, &s, &e))
        rc = cli_fail(&e);
    else if (!json_array_size(s.records)) {
        err_set(&e, ERR_NOT_FOUND, "this node's audit log has nothing of a request '%.64s'", s.req_id);
        rc = cli_fail(&e);
    } else if (args_has(&in->args, "json")) {
        json_t *o = json_pack("{s:i,s:s,s:O,s:O}", "v", 1, "req_id", s.req_id, "records", s.records, "logs", s.logs);
        rc = audit_print_json(o);
        json_decref(o);
    } else
        rc = print(&s);
out:
    json_decref(s.records);
    json_decref(s.logs);
    return rc;
}

#include "cli/audit_log.h"
#include "audit/logs.h"
#include "audit/walk.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/paths.h"
#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROSTER_FILE_BYTES = 2 << 20 };

// ---------------------------------------------------------------- the logs
int audit_read_log(const char *dir, const char *containing, audit_reader *read, void *arg, struct err *e) {
    struct walk w;
    int step, rc = 0;
    if (walk_open(&w, &audit_files, dir, NULL, e)) return -1;
    while (!rc && (step = walk_next(&w, e)) > 0) {
        const struct entry *f = &w.frame;
        if (!walk_is_record(&w) || (containing && !memmem(f->data, f->n, containing, strlen(containing)))) continue;
        json_t *record = json_parse(f->data, f->n, e);
        rc = record ? read(arg, record, dir) : -1;
        json_decref(record);
    }
    if (!rc && step < 0) rc = -1;
    walk_close(&w);
    return rc;
}

int audit_read_all(const struct paths *p, const char *containing, audit_reader *read, void *arg, struct err *e) {
    struct audit_logs logs;
    int rc = 0;
    if (audit_logs_find(p, &logs, e)) return -1;
    for (size_t i = 0; i < logs.n && !rc; i++) rc = audit_read_log(logs.dir[i], containing, read, arg, e);
    audit_logs_free(&logs);
    return rc < 0 ? -1 : 0;
}

int audit_print_json(const json_t *o) {
    if (!o || json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII)) return CLI_FAILED;
    putchar('\n');
    return CLI_OK;
}

// ---------------------------------------------------------------- what is in a record
const char *audit_text(const json_t *o, const char *name) {
    const char *text = json_string_value(json_object_get(o, name));
    return text ? text : "";
}

const char *audit_at(const json_t *outcome, const char *phase) {
    const json_t *list = json_object_get(outcome, "computed"), *one, *best = NULL;
    bool reads = !strcmp(phase, "prefill");
    size_t i;
    json_array_foreach(list, i, one) {
        if (reads && !json_is_true(json_object_get(one, "read"))) continue;
        if (!best || (!reads && audit_number(one, NULL, "wrote") > audit_number(best, NULL, "wrote"))) best = one;
    }
    return best ? audit_text(best, "node") : audit_text(outcome, phase);
}

int64_t audit_number(const json_t *o, const char *group, const char *name) {
    return json_integer_value(json_object_get(group ? json_object_get(o, group) : o, name));
}

int audit_since(const struct invocation *in, int64_t *out, struct err *e) {
    static const struct {
        char unit;
        int64_t s;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    const char *text = args_text(&in->args, "since", NULL);
    char number[24];
    long n;
    *out = 0;
    if (!text) return 0;
    size_t len = strlen(text);
    if (len > 1 && len < sizeof number) {
        snprintf(number, sizeof number, "%.*s", (int)len - 1, text);
        for (size_t i = 0; i < COUNT_OF(units); i++) {
            if (text[len - 1] != units[i].unit || text_parse_long(number, 1, 1000000, &n)) continue;
            *out = (int64_t)clock_wall_ns() - n * units[i].s * (int64_t)NS_PER_S;
            return 0;
        }
    }
    return err_param(e, "since", "--since takes a number and s, m, h or d: 90m");
}

// ---------------------------------------------------------------- names of nodes
static void add_names(struct audit_names *out, const char *dir) {
    char path[PATH_SIZE], *text;
    size_t n;
    if (path_join(path, dir, "roster", NULL) || file_read(path, ROSTER_FILE_BYTES, &text, &n, NULL)) return;
    json_t *document = json_parse(text, n, NULL);
    struct roster *r = document ? roster_read(document, NULL, NULL) : NULL;
    for (size_t i = 0; r && i < r->n_nodes && out->n < AUDIT_NAMES; i++) {
        memcpy(out->list[out->n].id, r->nodes[i].id, sizeof r->nodes[i].id);
        memcpy(out->list[out->n++].name, r->nodes[i].name, sizeof r->nodes[i].name);
    }
    roster_free(r);
    json_decref(document);
    free(text);
}

void audit_names_read(const struct paths *p, struct audit_names *out) {
    struct audit_logs logs;
    out->n = 0;
    if (audit_logs_find(p, &logs, NULL)) return;
    for (size_t i = logs.n; i > 0; i--) add_names(out, logs.dir[i - 1]); // what it is called now comes first
    audit_logs_free(&logs);
}

const char *audit_name(const struct audit_names *names, const char *id, char out[ROSTER_NAME]) {
    for (size_t i = 0; i < names->n; i++)
        if (!strcmp(names->list[i].id, id)) return names->list[i].name;
    snprintf(out, ROSTER_NAME, "%.8s", *id ? id : "-");
    for (char *c = out; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '-') *c = '?';
    return out;
}

bool audit_is_node(const struct audit_names *names, const char *id, const char *wanted) {
    char plain[ROSTER_NAME];
    return *id && (!strcmp(audit_name(names, id, plain), wanted) ||
                   (strlen(wanted) >= 4 && !strncmp(id, wanted, strlen(wanted))));
}

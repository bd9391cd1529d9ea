#include "cli/audit_log.h"
#include "audit/walk.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TAIL_USUAL = 20, REPORT_ROWS = 4096, CELL = 128 };

// ---------------------------------------------------------------- the logs
static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int audit_logs_find(const struct paths *p, struct audit_logs *out, struct err *e) {
    char dir[PATH_SIZE], path[PATH_SIZE], file[PATH_SIZE];
    const struct dirent *entry;
    *out = (struct audit_logs){.n = 0};
    if (path_join(dir, p->state, "audit", e)) return -1;
    DIR *d = opendir(dir);
    while (d && (entry = readdir(d)) && out->n < AUDIT_LOGS) {
        if (strspn(entry->d_name, "0123456789") != 6 || path_join(path, dir, entry->d_name, e) ||
            path_join(file, path, AUDIT_KEY, e) || !(out->dir[out->n] = strdup(path)))
            continue;
        out->n++;
    }
    if (d) closedir(d);
    qsort(out->dir, out->n, sizeof *out->dir, by_name);
    return out->n ? 0 : err_set(e, ERR_NOT_FOUND, "there is no audit log in %s: no daemon has run with this home", dir);
}

void audit_logs_free(struct audit_logs *l) {
    for (size_t i = 0; i < l->n; i++) free(l->dir[i]);
    l->n = 0;
}

static int read_log(const char *dir, const char *containing, audit_reader *read, void *arg, struct err *e) {
    struct walk w;
    int step, rc = 0;
    if (walk_open(&w, &audit_files, dir, NULL, e)) return -1;
    while (!rc && (step = walk_next(&w, e)) > 0) {
        const struct entry *f = &w.frame;
        if (!walk_is_record(&w) || (containing && !memmem(f->data, f->n, containing, strlen(containing)))) continue;
        json_t *record = json_parse(f->data, f->n, e);
        rc = record ? read(arg, record) : -1;
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
    for (size_t i = 0; i < logs.n && !rc; i++) rc = read_log(logs.dir[i], containing, read, arg, e);
    audit_logs_free(&logs);
    return rc < 0 ? -1 : 0;
}

int audit_print_json(const json_t *o) {
    if (!o || json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII)) return CLI_FAILED;
    putchar('\n');
    return CLI_OK;
}

static const char *text_of(const json_t *o, const char *name) {
    const char *text = json_string_value(json_object_get(o, name));
    return text ? text : "";
}

static int64_t number_of(const json_t *o, const char *group, const char *name) {
    const json_t *in = group ? json_object_get(o, group) : o;
    return json_integer_value(json_object_get(in, name));
}

// ---------------------------------------------------------------- show
struct showing {
    const char *req_id;
    json_t *records; // owned
};

static int collect(void *arg, const json_t *record) {
    struct showing *s = arg;
    if (!strcmp(text_of(record, "req_id"), s->req_id)) json_array_append_new(s->records, json_deep_copy(record));
    return 0;
}

static void print_rules(const json_t *record) {
    const json_t *rules = json_object_get(record, "rules");
    char word[CELL];
    printf(" %s by", text_of(record, "decision"));
    for (size_t i = 0; i < json_array_size(rules); i++) {
        const char *id = json_string_value(json_array_get(rules, i));
        text_escape(word, sizeof word, id ? id : "?");
        printf(" %s", word);
    }
    printf(", policy %.16s, epoch %" PRId64 "\n", text_of(record, "policy_digest"), number_of(record, NULL, "epoch"));
}

static void print_record(const json_t *r) {
    const char *type = text_of(r, "type");
    char a[CELL], b[CELL];
    text_escape(a, sizeof a, text_of(r, "agent"));
    text_escape(b, sizeof b, text_of(r, "model"));
    printf("%8" PRId64 "  %-12s ", number_of(r, NULL, "seq"), type);
    if (!strcmp(type, "intent")) {
        printf("agent %s asks for '%s' (%s)%s%s\n", a, b, text_of(r, "part"),
               *text_of(r, "gateway") ? ", gateway " : "", text_of(r, "gateway"));
    } else if (!strncmp(type, "kv_", 3)) {
        printf("%" PRId64 " bytes, %" PRId64 " rows %s %s\n", number_of(r, NULL, "bytes"), number_of(r, NULL, "upto"),
               type[3] == 's' ? "to" : "from", text_of(r, type[3] == 's' ? "to" : "from"));
    } else if (!strcmp(type, "outcome")) {
        printf("%s: %" PRId64 " + %" PRId64 " tokens (%" PRId64 " cached), %.1f ms in all\n", text_of(r, "finish"),
               number_of(r, "tokens", "in"), number_of(r, "tokens", "out"), number_of(r, "tokens", "cached"),
               (double)number_of(r, "took", "total") / 1e6);
        if (*text_of(r, "prefill") || *text_of(r, "decode"))
            printf("%22s prefill at %s, decode at %s\n", "", text_of(r, "prefill"), text_of(r, "decode"));
        if (json_object_get(r, "decision")) {
            printf("%22s", "");
            print_rules(r);
        }
    } else if (json_object_get(r, "decision"))
        print_rules(r);
    else
        printf("\n");
}

int audit_show(struct invocation *in) {
    struct showing s = {.records = json_array()};
    struct err e = {.code = ERR_NONE};
    int rc = CLI_OK;
    if (in->args.n_words < 2) {
        err_set(&e, ERR_INVALID, "which request? See the answer's id, or `nebulus audit tail`");
        json_decref(s.records);
        return cli_usage(in->command, &e);
    }
    s.req_id = in->args.words[1];
    if (audit_read_all(&in->paths, s.req_id, collect, &s, &e))
        rc = cli_fail(&e);
    else if (!json_array_size(s.records)) {
        err_set(&e, ERR_NOT_FOUND, "this node's audit log has nothing of a request '%.64s'", s.req_id);
        rc = cli_fail(&e);
    } else if (args_has(&in->args, "json"))
        rc = audit_print_json(s.records);
    else
        for (size_t i = 0; i < json_array_size(s.records); i++) print_record(json_array_get(s.records, i));
    json_decref(s.records);
    return rc;
}

// ---------------------------------------------------------------- tail
struct filter {
    const char *agent, *node;
    bool denied;
    int64_t since; // nanoseconds since 1970
    size_t last;
    json_t *kept; // owned
};

static int read_since(const struct invocation *in, int64_t *out, struct err *e) {
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

static bool passes(const struct filter *f, const json_t *r) {
    static const char *const nodes[] = {"prefill", "decode", "from", "to", "gateway"};
    bool at_node = !f->node;
    for (size_t i = 0; !at_node && i < COUNT_OF(nodes); i++) at_node = !strcmp(text_of(r, nodes[i]), f->node);
    return at_node && (!f->agent || !strcmp(text_of(r, "agent"), f->agent)) &&
           (!f->denied || !strcmp(text_of(r, "type"), "deny")) && number_of(r, "t", "wall") >= f->since;
}

static int keep(void *arg, const json_t *record) {
    struct filter *f = arg;
    if (!passes(f, record)) return 0;
    json_array_append_new(f->kept, json_deep_copy(record));
    if (json_array_size(f->kept) > f->last) json_array_remove(f->kept, 0);
    return 0;
}

int audit_tail(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct filter f = {.agent = args_text(&in->args, "agent", NULL),
                       .node = args_text(&in->args, "node", NULL),
                       .denied = args_has(&in->args, "denied"),
                       .last = (size_t)args_int(&in->args, "last", TAIL_USUAL)};
    if (read_since(in, &f.since, &e)) return cli_usage(in->command, &e);
    f.kept = json_array();
    int rc = audit_read_all(&in->paths, NULL, keep, &f, &e) ? cli_fail(&e) : CLI_OK;
    for (size_t i = 0; !rc && i < json_array_size(f.kept); i++) rc = audit_print_json(json_array_get(f.kept, i));
    json_decref(f.kept);
    return rc;
}

// ---------------------------------------------------------------- report
struct row {
    char agent[CELL], model[CELL], prefill[CELL], decode[CELL];
    int64_t requests, in, out, denied;
};

struct report {
    struct row rows[REPORT_ROWS];
    size_t n;
    int64_t since;
    bool full;
};

static int count(void *arg, const json_t *r) {
    struct report *p = arg;
    struct row row = {.requests = 0};
    size_t i = 0;
    if (strcmp(text_of(r, "type"), "outcome") != 0 || strcmp(text_of(r, "part"), "gateway") != 0 ||
        number_of(r, "t", "wall") < p->since)
        return 0;
    text_escape(row.agent, CELL, text_of(r, "agent"));
    text_escape(row.model, CELL, text_of(r, "model"));
    text_escape(row.prefill, CELL, text_of(r, "prefill"));
    text_escape(row.decode, CELL, text_of(r, "decode"));
    for (; i < p->n; i++)
        if (!memcmp(&p->rows[i], &row, offsetof(struct row, requests))) break;
    p->full = p->full || i == REPORT_ROWS;
    if (i == REPORT_ROWS) return 0;
    if (i == p->n) p->rows[p->n++] = row;
    p->rows[i].requests++;
    p->rows[i].in += number_of(r, "tokens", "in");
    p->rows[i].out += number_of(r, "tokens", "out");
    p->rows[i].denied += !strcmp(text_of(r, "finish"), "denied");
    return 0;
}

static int print_json(const struct report *p) {
    json_t *list = json_array();
    for (size_t i = 0; i < p->n; i++) {
        const struct row *r = &p->rows[i];
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I}", "agent", r->agent, "model", r->model,
                                              "prefill", r->prefill, "decode", r->decode, "requests",
                                              (json_int_t)r->requests, "tokens_in", (json_int_t)r->in, "tokens_out",
                                              (json_int_t)r->out, "denied", (json_int_t)r->denied));
    }
    json_t *o = json_pack("{s:i,s:o}", "v", 1, "rows", list);
    int rc = audit_print_json(o);
    json_decref(o);
    return rc;
}

static int print_rows(const struct report *p, const char *format) {
    bool csv = !strcmp(format, "csv");
    const char *head = csv ? "agent,model,prefill,decode,requests,tokens_in,tokens_out,denied\n" : NULL;
    if (csv)
        fputs(head, stdout);
    else
        printf("%-16s %-24s %-34s %-34s %9s %11s %11s %7s\n", "agent", "model", "prefill", "decode", "requests",
               "tokens in", "tokens out", "denied");
    for (size_t i = 0; i < p->n; i++) {
        const struct row *r = &p->rows[i];
        printf(csv ? "\"%s\",\"%s\",\"%s\",\"%s\",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "\n"
                   : "%-16s %-24s %-34s %-34s %9" PRId64 " %11" PRId64 " %11" PRId64 " %7" PRId64 "\n",
               r->agent, r->model, r->prefill, r->decode, r->requests, r->in, r->out, r->denied);
    }
    return CLI_OK;
}

int audit_report(struct invocation *in) {
    const char *format = args_has(&in->args, "json") ? "json" : args_text(&in->args, "format", "text");
    struct err e = {.code = ERR_NONE};
    if (strcmp(format, "text") != 0 && strcmp(format, "json") != 0 && strcmp(format, "csv") != 0) {
        err_param(&e, "format", "--format is text, json or csv");
        return cli_usage(in->command, &e);
    }
    struct report *p = calloc(1, sizeof *p);
    int rc = CLI_FAILED;
    if (p && read_since(in, &p->since, &e))
        rc = cli_usage(in->command, &e);
    else if (p && audit_read_all(&in->paths, "\"outcome\"", count, p, &e))
        rc = cli_fail(&e);
    else if (p)
        rc = !strcmp(format, "json") ? print_json(p) : print_rows(p, format);
    if (p && p->full) fprintf(stderr, "nebulus: only the first %d rows are counted\n", REPORT_ROWS);
    free(p);
    return rc;
}

// nebulus audit report: what was asked for, by agent, model and nodes.
#include "base/text.h"
#include "cli/audit_log.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPORT_ROWS = 4096, CELL = 128 };

struct row {
    char agent[CELL], model[CELL], prefill[CELL], decode[CELL];
    int64_t requests, in, out, denied;
};

struct report {
    struct audit_names names;
    struct row rows[REPORT_ROWS];
    size_t n;
    int64_t since;
    bool full;
};

static int count(void *arg, const json_t *r, const char *dir) {
    struct report *p = arg;
    struct row row = {.requests = 0};
    char plain[ROSTER_NAME];
    size_t i = 0;
    (void)dir;
    if (strcmp(audit_text(r, "type"), "outcome") != 0 || strcmp(audit_text(r, "part"), "gateway") != 0 ||
        audit_number(r, "t", "wall") < p->since)
        return 0;
    text_escape(row.agent, CELL, audit_text(r, "agent"));
    text_escape(row.model, CELL, audit_text(r, "model"));
    snprintf(row.prefill, CELL, "%s", audit_name(&p->names, audit_at(r, "prefill"), plain));
    snprintf(row.decode, CELL, "%s", audit_name(&p->names, audit_at(r, "decode"), plain));
    for (; i < p->n; i++)
        if (!memcmp(&p->rows[i], &row, offsetof(struct row, requests))) break;
    p->full = p->full || i == REPORT_ROWS;
    if (i == REPORT_ROWS) return 0;
    if (i == p->n) p->rows[p->n++] = row;
    p->rows[i].requests++;
    p->rows[i].in += audit_number(r, "tokens", "in");
    p->rows[i].out += audit_number(r, "tokens", "out");
    p->rows[i].denied += !strcmp(audit_text(r, "finish"), "denied");
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

static void print_csv(const struct report *p) {
    puts("agent,model,prefill,decode,requests,tokens_in,tokens_out,denied");
    for (size_t i = 0; i < p->n; i++) {
        const struct row *r = &p->rows[i];
        printf("\"%s\",\"%s\",\"%s\",\"%s\",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "\n", r->agent, r->model,
               r->prefill, r->decode, r->requests, r->in, r->out, r->denied);
    }
}

static int print_table(const struct report *p, struct err *e) {
    static const char *const head[] = {"AGENT",     "MODEL",      "PREFILL ON",  "DECODE ON",
                                       ">REQUESTS", ">TOKENS IN", ">TOKENS OUT", ">DENIED"};
    struct table t;
    int bad = 0;
    table_init(&t, head, COUNT_OF(head));
    for (size_t i = 0; i < p->n && !bad; i++) {
        const struct row *r = &p->rows[i];
        bad = table_cell(&t, e, "%s", r->agent) || table_cell(&t, e, "%s", r->model) ||
              table_cell(&t, e, "%s", r->prefill) || table_cell(&t, e, "%s", r->decode) ||
              table_cell(&t, e, "%" PRId64, r->requests) || table_cell(&t, e, "%" PRId64, r->in) ||
              table_cell(&t, e, "%" PRId64, r->out) || table_cell(&t, e, "%" PRId64, r->denied);
    }
    if (!bad) table_print(&t);
    table_free(&t);
    return bad ? cli_fail(e) : CLI_OK;
}

static int print(const struct report *p, const char *format, struct err *e) {
    if (!strcmp(format, "json")) return print_json(p);
    if (!strcmp(format, "text")) return print_table(p, e);
    print_csv(p);
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
    if (p) audit_names_read(&in->paths, &p->names);
    if (p && audit_since(in, &p->since, &e))
        rc = cli_usage(in->command, &e);
    else if (p && audit_read_all(&in->paths, "\"outcome\"", count, p, &e))
        rc = cli_fail(&e);
    else if (p)
        rc = print(p, format, &e);
    if (p && p->full) fprintf(stderr, "nebulus: only the first %d rows are counted\n", REPORT_ROWS);
    free(p);
    return rc;
}

// nebulus audit export: all records, for other programs. Of each log as far as it verifies; stderr says how far.
#include "audit/logs.h"
#include "audit/verify.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/audit_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { CELL = 1024 };

struct export {
    const char *agent; // NULL: all
    int64_t since;     // nanoseconds since 1970
    bool csv;
    bool whole;      // the log verifies
    uint64_t most;   // records of it that do
    const char *log; // its origin
    uint64_t n;      // that were written
};

// ---------------------------------------------------------------- CSV (RFC 4180)
// A cell that a spreadsheet would take for a formula begins with an apostrophe.
static void cell(const char *text) {
    char safe[CELL];
    text_escape(safe, sizeof safe, text);
    printf("\"%s", *safe && strchr("=+-@", *safe) ? "'" : "");
    for (const char *c = safe; *c; c++) {
        if (*c == '"') putchar('"');
        putchar(*c);
    }
    putchar('"');
}

static void rules_cell(const json_t *r) {
    char text[CELL] = "";
    const json_t *list = json_object_get(r, "rules");
    for (size_t i = 0, at = 0; i < json_array_size(list) && at < sizeof text - 1; i++) {
        const char *one = json_string_value(json_array_get(list, i));
        int n = snprintf(text + at, sizeof text - at, "%s%s", i ? " " : "", one ? one : "?");
        at += n > 0 ? (size_t)n : 0;
    }
    cell(text);
}

static void time_cell(const json_t *r) {
    char text[32] = "";
    time_t t = (time_t)(audit_number(r, "t", "wall") / (int64_t)NS_PER_S);
    struct tm tm;
    if (!gmtime_r(&t, &tm) || !strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm)) text[0] = '\0';
    cell(text);
}

static void number_cell(const json_t *r, const char *group, const char *name) {
    const json_t *v = json_object_get(group ? json_object_get(r, group) : r, name);
    if (json_is_integer(v)) printf("%" PRId64, (int64_t)json_integer_value(v));
}

static const char *const texts[] = {"type",   "part", "req_id",   "agent",         "model", "prefill",
                                    "decode", "from", "decision", "policy_digest", "finish"};

static void print_head(void) {
    printf("log,time,seq,intent");
    for (size_t i = 0; i < COUNT_OF(texts); i++) printf(",%s", texts[i]);
    puts(",rules,error,to,epoch,bytes,tokens_in,tokens_out");
}

static void print_row(const struct export *x, const json_t *r) {
    static const char *const numbers[][2] = {{NULL, "epoch"}, {NULL, "bytes"}, {"tokens", "in"}, {"tokens", "out"}};
    cell(x->log);
    putchar(',');
    time_cell(r);
    putchar(',');
    number_cell(r, NULL, "seq");
    putchar(',');
    number_cell(r, NULL, "intent");
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        putchar(',');
        cell(audit_text(r, texts[i]));
    }
    putchar(',');
    rules_cell(r);
    putchar(',');
    cell(audit_text(json_object_get(r, "error"), "code"));
    putchar(',');
    cell(audit_text(r, "to"));
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        putchar(',');
        number_cell(r, numbers[i][0], numbers[i][1]);
    }
    putchar('\n');
}

// ---------------------------------------------------------------- logs
static int print_json(const struct export *x, const json_t *r) {
    json_t *o = json_pack("{s:s,s:o}", "log", x->log, "record", json_deep_copy(r));
    int rc = audit_print_json(o);
    json_decref(o);
    return rc ? -1 : 0;
}

static int on_record(void *arg, const json_t *r, const char *dir) {
    struct export *x = arg;
    (void)dir;
    if (x->whole && (uint64_t)audit_number(r, NULL, "seq") >= x->most) return 1; // younger than what was verified
    if (audit_number(r, "t", "wall") < x->since || (x->agent && strcmp(audit_text(r, "agent"), x->agent) != 0))
        return 0;
    x->n++;
    if (!x->csv) return print_json(x, r);
    print_row(x, r);
    return 0;
}

static int export_log(struct export *x, const char *dir) {
    struct verified v;
    struct err e = {.code = ERR_NONE};
    x->whole = !verify_log(&audit_files, dir, NULL, NULL, &v, &e);
    x->most = v.records;
    x->log = *v.key.name ? v.key.name : dir;
    const struct err why = e;
    uint64_t before = x->n;
    int rc = audit_read_log(dir, NULL, on_record, x, &e) < 0 ? -1 : 0;
    if (x->whole)
        fprintf(stderr,
                "nebulus: %s: ok, %" PRIu64 " of %" PRIu64 " records, %" PRIu64
                " of all counter-signed by other nodes\n",
                x->log, x->n - before, v.records, v.witnessed);
    else
        fprintf(stderr, "nebulus: %s: NOT ok, %" PRIu64 " records that nothing vouches for: %s\n", x->log,
                x->n - before, why.msg);
    return rc || !x->whole ? -1 : 0;
}

int audit_export(struct invocation *in) {
    const char *format = args_text(&in->args, "format", "jsonl");
    struct export x = {.agent = args_text(&in->args, "agent", NULL), .csv = !strcmp(format, "csv")};
    struct audit_logs logs;
    struct err e = {.code = ERR_NONE};
    int rc = CLI_OK;
    if (!x.csv && strcmp(format, "jsonl") != 0) {
        err_param(&e, "format", "--format is jsonl or csv");
        return cli_usage(in->command, &e);
    }
    if (audit_since(in, &x.since, &e)) return cli_usage(in->command, &e);
    if (audit_logs_find(&in->paths, &logs, &e)) return cli_fail(&e);
    if (x.csv) print_head();
    for (size_t i = 0; i < logs.n; i++)
        if (export_log(&x, logs.dir[i])) rc = CLI_FAILED;
    audit_logs_free(&logs);
    return fflush(stdout) || ferror(stdout) ? CLI_FAILED : rc;
}

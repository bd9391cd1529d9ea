// nebulus audit tail: the latest records, one per line; and what a record says, in words.
#include "base/clock.h"
#include "cli/audit_tell.h"
#include "cli/table.h"
#include "cli/term.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TAIL_USUAL = 20 };

// ---------------------------------------------------------------- what a record says
static void list(const json_t *array, char out[AUDIT_TOLD]) {
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < json_array_size(array) && at < AUDIT_TOLD - 1; i++) {
        const char *one = json_string_value(json_array_get(array, i));
        int n = snprintf(out + at, AUDIT_TOLD - at, "%s%s", i ? ", " : "", one ? one : "?");
        at += n > 0 ? (size_t)n : 0;
    }
    if (!out[0]) snprintf(out, AUDIT_TOLD, "no rule");
}

void audit_tell_rules(const json_t *r, char out[AUDIT_TOLD]) {
    char rules[AUDIT_TOLD];
    list(json_object_get(r, "rules"), rules);
    snprintf(out, AUDIT_TOLD, "%s by %.200s; policy %.16s, epoch %" PRId64, audit_text(r, "decision"), rules,
             audit_text(r, "policy_digest"), audit_number(r, NULL, "epoch"));
}

static void tell_rows(const struct audit_names *names, const json_t *r, bool sent, char out[AUDIT_TOLD]) {
    char size[SIZE_TEXT], plain[ROSTER_NAME];
    int64_t bytes = audit_number(r, NULL, "bytes");
    snprintf(out, AUDIT_TOLD, "%s of KV rows%s%.16s %s %s", term_size(size, bytes > 0 ? (uint64_t)bytes : 0),
             *audit_text(r, "wire") ? " as " : "", audit_text(r, "wire"), sent ? "to" : "from",
             audit_name(names, audit_text(r, sent ? "to" : "from"), plain));
}

// Those that have computed something else of it: it was handed over, moved, or went on after a failure.
static void tell_others(const struct audit_names *names, const json_t *r, char *out, size_t size) {
    const json_t *one;
    char plain[ROSTER_NAME];
    size_t i, n = strlen(out);
    json_array_foreach(json_object_get(r, "computed"), i, one) {
        const char *node = audit_text(one, "node");
        if (!strcmp(node, audit_at(r, "prefill")) || !strcmp(node, audit_at(r, "decode")) || n + 8 > size) continue;
        n += (size_t)snprintf(out + n, size - n, ", also on %s", audit_name(names, node, plain));
    }
}

static void tell_outcome(const struct audit_names *names, const json_t *r, char out[AUDIT_TOLD]) {
    char where[3 * ROSTER_NAME + 48] = "", a[ROSTER_NAME], b[ROSTER_NAME];
    const char *prefill = audit_at(r, "prefill"), *decode = audit_at(r, "decode");
    if (*prefill && !strcmp(prefill, decode))
        snprintf(where, sizeof where, ", on %s", audit_name(names, prefill, a));
    else if (*prefill || *decode)
        snprintf(where, sizeof where, ", read on %s, written on %s", audit_name(names, prefill, a),
                 audit_name(names, decode, b));
    tell_others(names, r, where, sizeof where);
    snprintf(out, AUDIT_TOLD, "%.32s: %" PRId64 " + %" PRId64 " tokens%s", audit_text(r, "finish"),
             audit_number(r, "tokens", "in"), audit_number(r, "tokens", "out"), where);
}

void audit_tell(const struct audit_names *names, const json_t *r, char out[AUDIT_TOLD]) {
    const char *type = audit_text(r, "type"), *gateway = audit_text(r, "gateway");
    char plain[ROSTER_NAME];
    if (!strcmp(type, "intent"))
        snprintf(out, AUDIT_TOLD, "asks%s%s", *gateway ? " at " : "",
                 *gateway ? audit_name(names, gateway, plain) : "");
    else if (!strcmp(type, "outcome"))
        tell_outcome(names, r, out);
    else if (!strncmp(type, "kv_", 3))
        tell_rows(names, r, type[3] == 's', out);
    else if (!strcmp(type, "deny"))
        audit_tell_rules(r, out);
    else if (!strcmp(type, "agent"))
        snprintf(out, AUDIT_TOLD, "was %.32s", audit_text(r, "change"));
    else if (!strcmp(type, "policy"))
        snprintf(out, AUDIT_TOLD, "%.16s is in force%s", audit_text(r, "policy_digest"),
                 json_is_true(json_object_get(r, "builtin")) ? " (the built-in one)" : "");
    else if (!strcmp(type, "reserve"))
        snprintf(out, AUDIT_TOLD, "may take %" PRId64 " tokens of %zu budgets", audit_number(r, NULL, "reserved"),
                 json_array_size(json_object_get(r, "charges")));
    else if (!strcmp(type, "roster"))
        snprintf(out, AUDIT_TOLD, "'%.63s', epoch %" PRId64 ", %" PRId64 " nodes", audit_text(r, "cluster"),
                 audit_number(r, NULL, "epoch"), audit_number(r, NULL, "nodes"));
    else if (!strcmp(type, "gap"))
        snprintf(out, AUDIT_TOLD, "given up: %.160s, record %" PRId64 " on", audit_text(r, "origin"),
                 audit_number(r, NULL, "has"));
    else if (!strcmp(type, "recover") && *audit_text(r, "origin"))
        snprintf(out, AUDIT_TOLD, "%" PRId64 " records of %.160s are back, from %.32s",
                 audit_number(r, NULL, "records"), audit_text(r, "origin"),
                 audit_name(names, audit_text(r, "from"), plain));
    else if (!strcmp(type, "witness"))
        snprintf(out, AUDIT_TOLD, "the log of %.32s has %.16s", audit_name(names, audit_text(r, "node"), plain),
                 audit_text(r, "finding"));
    else
        out[0] = '\0';
}

const char *audit_when(const json_t *r, char out[AUDIT_WHEN]) {
    time_t t = (time_t)(audit_number(r, "t", "wall") / (int64_t)NS_PER_S);
    struct tm tm;
    if (!localtime_r(&t, &tm) || !strftime(out, AUDIT_WHEN, "%Y-%m-%d %H:%M:%S", &tm)) snprintf(out, AUDIT_WHEN, "?");
    return out;
}

// ---------------------------------------------------------------- tail
struct filter {
    struct audit_names names;
    const char *agent, *node;
    bool denied;
    int64_t since; // nanoseconds since 1970
    size_t last;
    json_t *kept; // owned
};

static bool passes(const struct filter *f, const json_t *r) {
    static const char *const nodes[] = {"prefill", "decode", "from", "to", "gateway"};
    bool at_node = !f->node;
    for (size_t i = 0; !at_node && i < COUNT_OF(nodes); i++)
        at_node = audit_is_node(&f->names, audit_text(r, nodes[i]), f->node);
    return at_node && (!f->agent || !strcmp(audit_text(r, "agent"), f->agent)) &&
           (!f->denied || !strcmp(audit_text(r, "type"), "deny")) && audit_number(r, "t", "wall") >= f->since;
}

static int keep(void *arg, const json_t *record, const char *dir) {
    struct filter *f = arg;
    (void)dir;
    if (!passes(f, record)) return 0;
    json_array_append_new(f->kept, json_deep_copy(record));
    if (json_array_size(f->kept) > f->last) json_array_remove(f->kept, 0);
    return 0;
}

static int print_table(const struct filter *f, struct err *e) {
    static const char *const head[] = {"TIME", ">RECORD", "WHAT", "AGENT", "MODEL", "REQUEST", ""};
    char told[AUDIT_TOLD], when[AUDIT_WHEN];
    struct table t;
    int bad = 0;
    table_init(&t, head, COUNT_OF(head));
    for (size_t i = 0; i < json_array_size(f->kept) && !bad; i++) {
        const json_t *r = json_array_get(f->kept, i);
        const char *agent = audit_text(r, "agent"), *model = audit_text(r, "model"), *id = audit_text(r, "req_id");
        audit_tell(&f->names, r, told);
        bad = table_cell(&t, e, "%s", audit_when(r, when)) ||
              table_cell(&t, e, "%" PRId64, audit_number(r, NULL, "seq")) ||
              table_cell(&t, e, "%s", audit_text(r, "type")) || table_cell(&t, e, "%s", *agent ? agent : "-") ||
              table_cell(&t, e, "%s", *model ? model : "-") || table_cell(&t, e, "%s", *id ? id : "-") ||
              table_cell(&t, e, "%s", told);
    }
    if (!bad) table_print(&t);
    table_free(&t);
    return bad ? cli_fail(e) : CLI_OK;
}

int audit_tail(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct filter f = {.agent = args_text(&in->args, "agent", NULL),
                       .node = args_text(&in->args, "node", NULL),
                       .denied = args_has(&in->args, "denied"),
                       .last = (size_t)args_int(&in->args, "last", TAIL_USUAL)};
    if (audit_since(in, &f.since, &e)) return cli_usage(in->command, &e);
    audit_names_read(&in->paths, &f.names);
    f.kept = json_array();
    int rc = audit_read_all(&in->paths, NULL, keep, &f, &e) ? cli_fail(&e) : CLI_OK;
    bool json = args_has(&in->args, "json");
    if (!rc && !json) rc = print_table(&f, &e);
    for (size_t i = 0; !rc && json && i < json_array_size(f.kept); i++)
        rc = audit_print_json(json_array_get(f.kept, i));
    json_decref(f.kept);
    return rc;
}

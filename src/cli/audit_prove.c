// nebulus audit prove: that a record is in a log, or that a log has only grown; for `audit verify`, anywhere.
#include "audit/logs.h"
#include "audit/prove.h"
#include "base/text.h"
#include "cli/audit_log.h"

#include <limits.h>
#include <string.h>

enum { MOST_RECORDS = 1000000000 };

struct asked {
    const char *req_id; // NULL: the record `index`
    long index;
    long from, to; // of growth; from = 0: it is about a record
};

static json_t *prove_in(const struct asked *a, const char *dir, struct err *e) {
    if (a->from) return growth_prove(&audit_files, dir, (uint64_t)a->from, (uint64_t)a->to, e);
    return record_prove(&audit_files, dir, a->req_id, (uint64_t)a->index, e);
}

// A number counts the records of one log: this home's latest. A request may be in any.
static json_t *prove_here(const struct asked *a, const struct paths *p, struct err *e) {
    struct audit_logs logs;
    json_t *o = NULL;
    if (audit_logs_find(p, &logs, e)) return NULL;
    if (!logs.n) err_set(e, ERR_NOT_FOUND, "this home has no audit log yet");
    for (size_t i = logs.n; i > 0 && !o && (a->req_id || i == logs.n); i--) {
        o = prove_in(a, logs.dir[i - 1], e);
        if (!o && e->code != ERR_NOT_FOUND) break;
    }
    audit_logs_free(&logs);
    return o;
}

static int read_asked(const struct invocation *in, struct asked *a, const char **dir, struct err *e) {
    const char *from = args_text(&in->args, "from", NULL);
    const char *const *words = in->args.words + 1;
    size_t n = in->args.n_words - 1;
    *a = (struct asked){.to = args_int(&in->args, "to", 0)};
    if (from && text_parse_long(from, 1, MOST_RECORDS, &a->from))
        return err_param(e, "from", "--from takes a number of records");
    if (a->to && (!from || a->to < a->from))
        return err_param(e, "to", "--to needs --from, and is not smaller than that");
    if (n > (from ? 1 : 2)) return err_set(e, ERR_INVALID, "with --from the only argument is a log's folder");
    if (!from && !n) return err_set(e, ERR_INVALID, "which record? Its number, or the id of a request; or --from N");
    if (!from && text_parse_long(words[0], 0, MOST_RECORDS, &a->index)) a->req_id = words[0];
    *dir = n > (from ? 0 : 1) ? words[n - 1] : NULL;
    return 0;
}

int audit_make_proof(struct invocation *in) {
    struct asked a;
    struct err e = {.code = ERR_NONE};
    const char *dir = NULL;
    if (read_asked(in, &a, &dir, &e)) return cli_usage(in->command, &e);
    json_t *o = dir ? prove_in(&a, dir, &e) : prove_here(&a, &in->paths, &e);
    int rc = o ? audit_print_json(o) : cli_fail(&e);
    json_decref(o);
    return rc;
}

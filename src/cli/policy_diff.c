// nebulus policy diff: whose answers change.
#include "trust/policy_diff.h"
#include "cli/policy.h"
#include "cli/table.h"
#include "cli/term.h"

#include <stdio.h>

struct telling {
    struct table table;
    json_t *list; // NULL: a table
    struct err err;
    int rc;
};

static json_t *change_json(const struct policy_change *c) {
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:s, s:s}", "agent", c->who, "model", c->model, "label",
                     c->label, "when", c->when, "where", c->where, "was", c->was, "is", c->is, "before", c->before,
                     "now", c->now);
}

static void add(void *arg, const struct policy_change *c) {
    struct telling *t = arg;
    if (t->list) {
        json_array_append_new(t->list, change_json(c));
        return;
    }
    t->rc = t->rc || table_cell(&t->table, &t->err, "%s", c->who) || table_cell(&t->table, &t->err, "%s", c->model) ||
            table_cell(&t->table, &t->err, "%s", c->label) || table_cell(&t->table, &t->err, "%s", c->when) ||
            table_cell(&t->table, &t->err, "%s", c->where) ||
            table_cell(&t->table, &t->err, "%s: %s", c->was ? "permitted" : "denied", c->before) ||
            table_cell(&t->table, &t->err, "%s: %s", c->is ? "permitted" : "denied", c->now);
}

static int compare(struct invocation *in, const struct policy *old, const struct policy *now, struct err *e) {
    static const char *const head[] = {"AGENT", "MODEL", "LABEL", "WHEN", "WHERE", "BEFORE", "NOW"};
    struct telling t = {.list = args_has(&in->args, "json") ? json_array() : NULL};
    table_init(&t.table, head, COUNT_OF(head));
    long n = policy_diff(old, now, add, &t, e);
    int rc = n < 0 ? -1 : 0;
    if (t.rc) {
        *e = t.err;
        rc = -1;
    }
    if (!rc && t.list) {
        json_t *o = cli_object();
        if (o) json_object_set(o, "changes", t.list);
        rc = term_print_json(o, e);
    } else if (!rc && n)
        table_print(&t.table);
    else if (!rc)
        term_notice("no decision changes");
    json_decref(t.list);
    table_free(&t.table);
    return rc;
}

int policy_diff_show(struct invocation *in, struct err *e) {
    struct api_client *api = NULL;
    struct policy *old = NULL, *now = policy_of_file(in->args.words[in->args.n_words - 1], e);
    if (now && in->args.n_words == 3)
        old = policy_of_file(in->args.words[1], e);
    else if (now && (api = api_open(in->settings.api, e)))
        old = policy_in_force(api, e);
    int rc = old ? compare(in, old, now, e) : -1;
    api_close(api);
    policy_free(old);
    policy_free(now);
    return rc;
}

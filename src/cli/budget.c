// nebulus budget: what agents have used of what the policy lets them use, here and today.
#include "base/json.h"
#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/table.h"
#include "cli/term.h"

#include <stdio.h>
#include <string.h>

#define BUDGET_PATH "/nebulus/v1/budget"

static const struct option options[] = {OPTION_JSON};

static const char *number(const json_t *o, const char *name, char out[SIZE_TEXT]) {
    const json_t *v = json_object_get(o, name);
    snprintf(out, SIZE_TEXT, "-");
    if (json_is_integer(v)) snprintf(out, SIZE_TEXT, "%lld", (long long)json_integer_value(v));
    return out;
}

static int add_row(struct table *t, const json_t *o, const char *resets, struct err *e) {
    const json_t *tokens = json_object_get(o, "tokens"), *minute = json_object_get(o, "minute"),
                 *running = json_object_get(o, "running");
    const char *who = json_string_value(json_object_get(o, "who")),
               *rule = json_string_value(json_object_get(o, "rule"));
    char a[SIZE_TEXT], b[SIZE_TEXT];
    return table_cell(t, e, "%s", who ? who : "?") || table_cell(t, e, "%s", rule ? rule : "?") ||
                   table_cell(t, e, "%s", number(tokens, "spent", a)) ||
                   table_cell(t, e, "%s", number(tokens, "reserved", a)) ||
                   table_cell(t, e, "%s", number(tokens, "cap", a)) ||
                   table_cell(t, e, "%s", number(tokens, "left", a)) || table_cell(t, e, "%s", resets) ||
                   table_cell(t, e, "%s/%s", number(minute, "requests", a), number(minute, "cap", b)) ||
                   table_cell(t, e, "%s/%s", number(running, "requests", a), number(running, "cap", b))
               ? -1
               : 0;
}

static int print_table(const json_t *answer, struct err *e) {
    static const char *const head[] = {"WHO",   "RULE",      ">SPENT", ">RESERVED", ">CAP",
                                       ">LEFT", "RESETS IN", ">/MIN",  ">RUNNING"};
    const json_t *list = json_object_get(answer, "budgets");
    char resets[SIZE_TEXT];
    struct table t;
    int rc = 0;
    int64_t left = json_integer_value(json_object_get(answer, "resets_s"));
    term_duration(resets, left > 0 ? (uint64_t)left : 0);
    table_init(&t, head, COUNT_OF(head));
    for (size_t i = 0; i < json_array_size(list) && !rc; i++) rc = add_row(&t, json_array_get(list, i), resets, e);
    if (!rc && json_array_size(list)) table_print(&t);
    if (!rc && !json_array_size(list)) term_notice("nothing that a limit of the policy counts was used today");
    table_free(&t);
    return rc;
}

// Paths take names only, which need no escapes.
static int path_of(char *out, size_t size, const struct args *a, struct err *e) {
    static const char fit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-@";
    const char *name = a->n_words ? a->words[0] : NULL;
    int n = name ? snprintf(out, size, BUDGET_PATH "/%s", name) : snprintf(out, size, BUDGET_PATH);
    if (n < (int)size && (!name || (*name && !name[strspn(name, fit)]))) return 0;
    return err_set(e, ERR_NOT_FOUND, "there is no agent '%.64s': `nebulus agent ls` lists them", name ? name : "");
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    char path[256];
    json_t *answer = NULL;
    if (path_of(path, sizeof path, &in->args, &e)) return cli_fail(&e);
    struct api_client *api = api_open(in->settings.api, &e);
    int rc = api ? api_get(api, path, &answer, &e) : -1;
    if (!rc) rc = args_has(&in->args, "json") ? term_print_json(json_incref(answer), &e) : print_table(answer, &e);
    json_decref(answer);
    api_close(api);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_budget = {
    .name = "budget",
    .group = "Authority",
    .arguments = "[AGENT|@GROUP]",
    .summary = "What agents have used today of what the policy lets them use",
    .details =
        "Rules that permit may have limits (see `nebulus policy`): tokens a day, requests a minute, requests at a "
        "time. "
        "A line\nis a rule and whom it counts: an agent with its sub-agents, or - where the rule names it - a group, "
        "of "
        "whose limits\nthis node has its share. RESERVED are tokens that running requests may still take. The day is "
        "this node's.",
    .max_words = 1,
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

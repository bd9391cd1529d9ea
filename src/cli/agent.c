// nebulus agent: who has keys to this node's API.
#include "base/clock.h"
#include "base/json.h"
#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/table.h"
#include "cli/term.h"
#include "cli/when.h"

#include <stdio.h>
#include <string.h>

#define AGENTS_PATH "/nebulus/v1/agents"

static const struct option options[] = {
    {.name = "group",
     .letter = 'g',
     .type = OPTION_TEXT,
     .placeholder = "GROUP",
     .help = "create: put it into this group; may be repeated"},
    {.name = "label",
     .letter = 'l',
     .type = OPTION_TEXT,
     .placeholder = "LABEL",
     .help = "create: of all that it asks, for policies; may be repeated"},
    {.name = "parent",
     .type = OPTION_TEXT,
     .placeholder = "AGENT",
     .help = "create: it may never more than AGENT, and ends with it"},
    {.name = "expires", .type = OPTION_TEXT, .placeholder = "WHEN", .help = "create: 12h, 30d, 8w or 2026-12-31"},
    {.name = "keep", .type = OPTION_FLAG, .help = "rotate: earlier keys hold, too"},
    OPTION_JSON,
};

// ---------------------------------------------------------------- what is shown
static void join_names(char *out, size_t size, const json_t *list) {
    size_t used = 0;
    snprintf(out, size, "-");
    for (size_t i = 0; i < json_array_size(list) && used < size; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? "," : "", name ? name : "?");
    }
}

static const char *text_of(const json_t *o, const char *name, const char *otherwise) {
    const char *text = json_string_value(json_object_get(o, name));
    return text ? text : otherwise;
}

static const char *time_of(const json_t *o, const char *name, char out[WHEN_TEXT]) {
    const json_t *v = json_object_get(o, name);
    return json_is_integer(v) ? when_text(out, json_integer_value(v)) : "-";
}

static int add_row(struct table *t, const json_t *o, struct err *e) {
    char groups[TABLE_CELL], labels[TABLE_CELL], expires[WHEN_TEXT];
    join_names(groups, sizeof groups, json_object_get(o, "groups"));
    join_names(labels, sizeof labels, json_object_get(o, "labels"));
    return table_cell(t, e, "%s", text_of(o, "name", "?")) || table_cell(t, e, "%s", text_of(o, "state", "?")) ||
                   table_cell(t, e, "%s", groups) || table_cell(t, e, "%s", labels) ||
                   table_cell(t, e, "%s", text_of(o, "parent", "-")) ||
                   table_cell(t, e, "%zu", json_array_size(json_object_get(o, "keys"))) ||
                   table_cell(t, e, "%s", time_of(o, "expires", expires)) ||
                   table_cell(t, e, "%s", text_of(o, "id", "?"))
               ? -1
               : 0;
}

static int print_table(const json_t *list, struct err *e) {
    static const char *const head[] = {"NAME", "STATE", "GROUPS", "LABELS", "PARENT", ">KEYS", "EXPIRES", "ID"};
    struct table t;
    int rc = 0;
    table_init(&t, head, COUNT_OF(head));
    for (size_t i = 0; i < json_array_size(list) && !rc; i++) rc = add_row(&t, json_array_get(list, i), e);
    if (!rc && json_array_size(list)) table_print(&t);
    if (!rc && !json_array_size(list))
        term_notice("nobody has a key: without one, only the owner may ask, from this machine");
    table_free(&t);
    return rc;
}

static int print_one(const json_t *o, struct err *e) {
    size_t i;
    json_t *key;
    char when[WHEN_TEXT];
    json_t *list = json_pack("[O]", o);
    int rc = list ? print_table(list, e) : err_set(e, ERR_INTERNAL, "out of memory");
    json_decref(list);
    json_array_foreach(json_object_get(o, "keys"), i, key) {
        if (!rc) printf("\nkey %s of %s", text_of(key, "id", "?"), time_of(key, "created", when));
    }
    if (i) printf("\n");
    return rc;
}

// ---------------------------------------------------------------- what is asked
static int create(struct api_client *api, const struct args *a, const char *name, json_t **out, struct err *e) {
    const char *expires = args_text(a, "expires", NULL);
    int64_t when = 0;
    if (expires && when_parse(expires, (int64_t)(clock_wall_ns() / NS_PER_S), &when, e)) return -1;
    json_t *body = json_pack("{s:s, s:o, s:o, s:s*}", "name", name, "groups", cli_given(a, "group"), "labels",
                             cli_given(a, "label"), "parent", args_text(a, "parent", NULL));
    if (body && expires) json_object_set_new(body, "expires", json_integer((json_int_t)when));
    int rc = body ? api_post(api, AGENTS_PATH, body, out, e) : err_set(e, ERR_INTERNAL, "out of memory");
    json_decref(body);
    return rc;
}

// Paths take names only, which need no escapes.
static int path_of(char *out, size_t size, const char *name, const char *what, struct err *e) {
    static const char fit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (!*name || name[strspn(name, fit)] || snprintf(out, size, AGENTS_PATH "/%s%s", name, what) >= (int)size)
        return err_set(e, ERR_NOT_FOUND, "there is no agent '%.64s': `nebulus agent ls` lists them", name);
    return 0;
}

static int change(struct api_client *api, const struct args *a, const char *name, const char *what, json_t **out,
                  struct err *e) {
    char path[256];
    if (path_of(path, sizeof path, name, what, e)) return -1;
    json_t *body = json_pack("{s:b}", "keep", args_has(a, "keep"));
    int rc = body ? api_post(api, path, body, out, e) : err_set(e, ERR_INTERNAL, "out of memory");
    json_decref(body);
    return rc;
}

static int print_key(const json_t *answer) {
    const json_t *agent = json_object_get(answer, "agent");
    printf("%s\n", text_of(answer, "key", ""));
    term_notice("this is the key of '%s'; it is shown once and kept nowhere: nebulus keeps only its hash",
                text_of(agent, "name", "?"));
    return 0;
}

static int ask(struct api_client *api, const struct args *a, json_t **out, struct err *e) {
    const char *verb = a->words[0], *name = a->n_words > 1 ? a->words[1] : "";
    char path[256];
    if (!strcmp(verb, "create")) return create(api, a, name, out, e);
    if (!strcmp(verb, "ls")) return api_get(api, AGENTS_PATH, out, e);
    if (!strcmp(verb, "show")) return path_of(path, sizeof path, name, "", e) || api_get(api, path, out, e) ? -1 : 0;
    return change(api, a, name, !strcmp(verb, "rotate") ? "/rotate" : "/revoke", out, e);
}

static int print(const struct args *a, const json_t *answer, struct err *e) {
    const json_t *agent = json_object_get(answer, "agent");
    if (args_has(a, "json")) return term_print_json(json_deep_copy(answer), e);
    if (json_object_get(answer, "key")) return print_key(answer);
    if (!agent) return print_table(json_object_get(answer, "agents"), e);
    if (!strcmp(a->words[0], "show")) return print_one(agent, e);
    term_notice("'%s' has no keys any more, nor have its sub-agents", text_of(agent, "name", "?"));
    return 0;
}

// Which options go with which verb.
static int check_words(const struct args *a, struct err *e) {
    static const char *const verbs[] = {"create", "rotate", "revoke", "show", "ls"};
    static const char *const of_create[] = {"group", "label", "parent", "expires"};
    const char *verb = a->words[0];
    size_t i = 0;
    while (i < COUNT_OF(verbs) && strcmp(verbs[i], verb) != 0) i++;
    if (i == COUNT_OF(verbs))
        return err_param(e, "agent", "'agent %.40s' is not known: try create, ls, show, rotate or revoke", verb);
    if ((a->n_words == 1) != !strcmp(verb, "ls"))
        return err_param(e, "agent", "`agent %s` takes %s", verb, strcmp(verb, "ls") ? "one agent's name" : "no name");
    for (i = 0; i < COUNT_OF(of_create); i++)
        if (args_has(a, of_create[i]) && strcmp(verb, "create") != 0)
            return err_param(e, of_create[i], "--%s is for `agent create`", of_create[i]);
    if (args_has(a, "keep") && strcmp(verb, "rotate") != 0) return err_param(e, "keep", "--keep is for `agent rotate`");
    return 0;
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    json_t *answer = NULL;
    if (check_words(&in->args, &e)) return cli_usage(in->command, &e);
    struct api_client *api = api_open(in->settings.api, &e);
    int rc = api ? ask(api, &in->args, &answer, &e) : -1;
    if (!rc) rc = print(&in->args, answer, &e);
    json_decref(answer);
    api_close(api);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_agent = {
    .name = "agent",
    .group = "Authority",
    .arguments = "create|ls|show|rotate|revoke [NAME]",
    .summary = "Give programs keys of their own, and take them away",
    .details =
        "create NAME prints a key, once. Clients send it as `Authorization: Bearer KEY` or `x-api-key: KEY`; what it "
        "may run\nwhere is for the policy to say (see `nebulus policy`), by the agent's name, its groups and labels. "
        "rotate NAME prints\nanother key and ends the earlier ones; revoke NAME ends the agent and its sub-agents. A "
        "name is never used again.\nKeys hold at the node that made them. `rotate owner` makes a key for yourself, for "
        "clients that insist on one.",
    .min_words = 1,
    .max_words = 2,
    .completes = COMPLETES_WORDS,
    .words = "create|ls|show|rotate|revoke",
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

// nebulus ls: what is in the model store.
#include "base/json.h"
#include "cli/command.h"
#include "cli/table.h"
#include "cli/term.h"
#include "serve/store.h"

#include <stdio.h>
#include <time.h>

static const struct option options[] = {
    {.name = "quiet", .letter = 'q', .type = OPTION_FLAG, .help = "print the names only"},
    OPTION_JSON,
};

static int print_json(const struct store_model *m, size_t n, struct err *e) {
    json_t *all = cli_object(), *list = json_array();
    int bad = !all || !list;
    for (size_t i = 0; i < n && !bad; i++) bad = json_array_append_new(list, store_model_json(&m[i]));
    if (!bad) bad = json_object_set(all, "models", list);
    json_decref(list);
    if (!bad) return term_print_json(all, e);
    json_decref(all);
    return err_set(e, ERR_INTERNAL, "out of memory");
}

static const char *described(const struct store_model *m) {
    const char *text = "";
    struct err ignored;
    if (!m->info || json_get_string(m->info, "description", &text, &ignored)) text = "";
    return text;
}

static int add_row(struct table *t, const struct store_model *m, bool links, struct err *e) {
    char size[SIZE_TEXT], day[32] = "?";
    time_t at = (time_t)m->imported_at;
    struct tm tm;
    if (localtime_r(&at, &tm)) strftime(day, sizeof day, "%Y-%m-%d %H:%M", &tm);
    return table_cell(t, e, "%s", m->name) ||
                   table_cell(t, e, "%s", m->missing ? "missing" : term_size(size, (uint64_t)m->bytes)) ||
                   table_cell(t, e, "%s", day) || table_cell(t, e, "%s", described(m)) ||
                   (links && table_cell(t, e, "%s", m->target))
               ? -1
               : 0;
}

static int print_table(const struct store_model *m, size_t n, struct err *e) {
    static const char *const head[] = {"NAME", ">SIZE", "ADDED", "MODEL", "LINK TO"};
    struct table t;
    int rc = 0;
    bool links = false;
    for (size_t i = 0; i < n; i++) links |= m[i].target[0] != 0;
    table_init(&t, head, links ? COUNT_OF(head) : COUNT_OF(head) - 1);
    for (size_t i = 0; i < n && !rc; i++) rc = add_row(&t, &m[i], links, e);
    if (!rc && n)
        table_print(&t);
    else if (!rc)
        term_notice("there are no models yet: `nebulus import FILE.gguf` adds one");
    table_free(&t);
    return rc;
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct store store;
    struct store_model *models = NULL;
    size_t n = 0;
    int rc = store_init(&store, &in->paths, &e) || store_list(&store, &models, &n, &e) ? -1 : 0;
    if (!rc && args_has(&in->args, "quiet"))
        for (size_t i = 0; i < n; i++) printf("%s\n", models[i].name);
    else if (!rc)
        rc = args_has(&in->args, "json") ? print_json(models, n, &e) : print_table(models, n, &e);
    store_list_free(models, n);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_ls = {
    .name = "ls",
    .alias = "list",
    .group = "Models",
    .arguments = "",
    .summary = "List the stored models",
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

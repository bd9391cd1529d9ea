// nebulus import: a GGUF file into the model store.
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/term.h"
#include "serve/store.h"

static const struct option options[] = {
    {.name = "name",
     .letter = 'n',
     .type = OPTION_TEXT,
     .placeholder = "NAME",
     .help = "call it NAME instead of the file's own name"},
    {.name = "link",
     .letter = 'l',
     .type = OPTION_FLAG,
     .help = "refer to the file where it is, instead of copying it"},
    {.name = "force", .letter = 'f', .type = OPTION_FLAG, .help = "replace a model of that name"},
    OPTION_JSON,
};

static int on_progress(void *arg, int64_t done, int64_t total) {
    progress_update(arg, total > 0 ? (double)done / (double)total : 0, total > 0 ? (uint64_t)total : 0);
    return interrupt_pending();
}

static int report(const struct store *s, const char *name, bool json, struct err *e) {
    struct store_model m;
    char size[SIZE_TEXT];
    if (store_show(s, name, &m, e)) return -1;
    int rc = 0;
    if (json) {
        json_t *all = store_model_json(&m);
        if (all) json_object_set_new(all, "v", json_integer(1));
        rc = term_print_json(all, e);
    } else
        term_notice("imported %s (%s, SHA-256 %.64s)", name, term_size(size, (uint64_t)m.bytes), m.sha256);
    store_model_free(&m);
    return rc;
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct store store;
    struct progress bar;
    char name[LIMIT_MODEL_NAME + 1] = "";
    struct store_import how = {
        .file = in->args.words[0],
        .name = args_text(&in->args, "name", NULL),
        .link = args_has(&in->args, "link"),
        .force = args_has(&in->args, "force"),
        .progress = on_progress,
        .arg = &bar,
    };
    int rc = store_init(&store, &in->paths, &e) || (!how.name && store_name_of(how.file, name, &e)) ? -1 : 0;
    progress_init(&bar, how.name ? how.name : name, "importing");
    if (!rc) rc = store_import(&store, &how, name, &e);
    progress_finish(&bar, NULL);
    if (!rc) rc = report(&store, name, args_has(&in->args, "json"), &e);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_import = {
    .name = "import",
    .group = "Models",
    .arguments = "FILE",
    .summary = "Add a .gguf file to the store",
    .min_words = 1,
    .max_words = 1,
    .completes = COMPLETES_FILES,
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

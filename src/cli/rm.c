// nebulus rm: models out of the store.
#include "base/json.h"
#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/term.h"
#include "serve/store.h"

#include <string.h>

static const struct option options[] = {
    {.name = "force", .letter = 'f', .type = OPTION_FLAG, .help = "also one that a daemon has loaded"},
    OPTION_JSON,
};

// The running daemon's models, or NULL where none answers.
static json_t *loaded_models(const char *address) {
    struct err ignored;
    json_t *status = NULL, *models = NULL;
    struct api_client *api = api_open(address, &ignored);
    if (api && !api_get(api, "/nebulus/v1/status", &status, &ignored))
        models = json_incref(json_object_get(status, "models"));
    json_decref(status);
    api_close(api);
    return models;
}

static bool is_loaded(const json_t *models, const char *name) {
    for (size_t i = 0; i < json_array_size(models); i++) {
        const char *one = json_string_value(json_object_get(json_array_get(models, i), "name"));
        if (one && !strcmp(one, name)) return true;
    }
    return false;
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct store store;
    json_t *removed = json_array(), *loaded = NULL, *all = NULL;
    int rc = removed ? store_init(&store, &in->paths, &e) : err_set(&e, ERR_INTERNAL, "out of memory");
    if (!rc && !args_has(&in->args, "force")) loaded = loaded_models(in->settings.api);
    for (size_t i = 0; i < in->args.n_words && !rc; i++) {
        const char *name = in->args.words[i];
        if (is_loaded(loaded, name))
            rc = err_set(&e, ERR_BUSY, "%s is loaded: `nebulus stop %s` first, or --force", name, name);
        else
            rc = store_remove(&store, name, &e);
        if (!rc) json_array_append_new(removed, json_string(name));
        if (!rc && !args_has(&in->args, "json")) term_notice("removed %s", name);
    }
    if (!rc && args_has(&in->args, "json")) {
        if ((all = cli_object())) json_object_set(all, "removed", removed);
        rc = term_print_json(all, &e);
    }
    json_decref(removed);
    json_decref(loaded);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_rm = {
    .name = "rm",
    .group = "Models",
    .arguments = "MODEL...",
    .summary = "Remove models from the store",
    .details = "Where the model is a link, the file that it leads to stays.",
    .min_words = 1,
    .max_words = ARGS_MAX,
    .completes = COMPLETES_MODELS,
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

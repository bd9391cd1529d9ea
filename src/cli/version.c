// nebulus version.
#include "base/json.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/engine_info.h"
#include "cli/term.h"

#include <stdio.h>

static const struct option options[] = {
    {.name = "verbose",
     .letter = 'v',
     .type = OPTION_FLAG,
     .help = "also libllama's version and devices (loads the backends)"},
    OPTION_JSON,
};

static int print_json(json_t *engine, struct err *e) {
    json_t *all = cli_object();
    if (all) json_object_set_new(all, "version", json_string(NEBULUS_VERSION));
    if (all && engine) json_object_set(all, "engine", engine);
    return term_print_json(all, e);
}

static int print_text(const json_t *engine, struct err *e) {
    const char *llama = "?", *from = "?";
    char safe[ESCAPED_MAX];
    printf("nebulus %s\n", NEBULUS_VERSION);
    if (!engine) return 0;
    if (json_get_string(engine, "llama", &llama, e) || json_get_string(engine, "from", &from, e)) return -1;
    text_escape(safe, sizeof safe, llama);
    printf("libllama %s", safe);
    text_escape(safe, sizeof safe, from);
    printf(" (%s)\n", safe);
    return 0;
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    bool verbose = args_has(&in->args, "verbose");
    json_t *engine = verbose ? engine_info_get(&e) : NULL;
    int rc = verbose && !engine ? -1 : 0;
    if (!rc && args_has(&in->args, "json"))
        rc = print_json(engine, &e);
    else if (!rc)
        rc = print_text(engine, &e);
    json_decref(engine);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_version = {
    .name = "version",
    .group = "Mend",
    .arguments = "",
    .summary = "Show the version",
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_UNUSED,
    .run = run,
};

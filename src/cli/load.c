// nebulus load: a model into memory, before it is asked for.
#include "cli/command.h"
#include "cli/residency.h"
#include "cli/term.h"

static int print_event(void *arg, const json_t *event, struct err *e) {
    json_t *copy = json_copy((json_t *)(uintptr_t)event); // shallow; jansson's own signature is not const
    (void)arg;
    if (copy) json_object_set_new(copy, "v", json_integer(1));
    return term_print_json(copy, e);
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct loading l;
    bool json = args_has(&in->args, "json");
    struct api_client *api = NULL;
    int rc = loading_init(&l, &in->paths, in->args.words[0], &e);
    if (!rc) rc = (api = api_open(in->settings.api, &e)) ? 0 : -1;
    if (!rc) rc = loading_run(&l, api, json ? print_event : NULL, NULL, &e);
    if (!rc && !json && !l.waited) term_notice("%s is loaded already", l.name);
    loading_free(&l);
    api_close(api);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_load = {
    .name = "load",
    .group = "Daemon",
    ON_ONE_MODEL,
    .summary = "Load a model into the running daemon",
    .details = "MODEL is a stored model's name or the path of a .gguf file. --json prints one object per step.",
    .run = run,
};

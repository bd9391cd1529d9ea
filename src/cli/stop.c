// nebulus stop: a model out of memory.
#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/term.h"

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    const char *name = in->args.words[0];
    json_t *body = json_pack("{s:s}", "model", name), *answer = NULL;
    struct api_client *api = body ? api_open(in->settings.api, &e) : NULL;
    int rc = -1;
    if (!body)
        err_set(&e, ERR_INVALID, "the model's name is not valid UTF-8");
    else if (api)
        rc = api_post(api, "/nebulus/v1/stop", body, &answer, &e);
    if (!rc && args_has(&in->args, "json"))
        rc = term_print_json(json_incref(answer), &e);
    else if (!rc)
        term_notice("stopped %s", name);
    json_decref(answer);
    json_decref(body);
    api_close(api);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_stop = {
    .name = "stop",
    .group = "Daemon",
    ON_ONE_MODEL,
    .summary = "Unload a model; its requests end",
    .run = run,
};

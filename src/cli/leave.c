// nebulus leave: this node forgets its cluster.
#include "cli/command.h"
#include "cli/own_daemon.h"
#include "cli/term.h"

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct own_daemon own = {.pid = 0};
    struct api_client *api = NULL;
    json_t *body = json_object(), *answer = NULL;
    int rc = body ? own_daemon_reach(&own, &in->settings, &api, &e) : err_set(&e, ERR_INTERNAL, "out of memory");
    if (!rc) rc = api_post(api, "/nebulus/v1/cluster/leave", body, &answer, &e);
    const char *name = json_string_value(json_object_get(answer, "left"));
    if (!rc && args_has(&in->args, "json"))
        rc = term_print_json(json_incref(answer), &e);
    else if (!rc)
        term_notice("this node has left cluster '%s'", name ? name : "?");
    json_decref(answer);
    json_decref(body);
    api_close(api);
    own_daemon_stop(&own);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_leave = {
    .name = "leave",
    .group = "Cluster",
    .arguments = "",
    .summary = "Leave the cluster",
    .details = "The other nodes are told as far as they can be reached; the admin's next change of the cluster drops "
               "this node from\n"
               "its list.",
    .options = json_option,
    .n_options = COUNT_OF(json_option),
    .settings = SETTINGS_API,
    .run = run,
};

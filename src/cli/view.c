#include "cli/view.h"
#include "cli/api_client.h"
#include "cli/term.h"

int view_run(struct invocation *in, const char *path, int (*print)(const json_t *answer, struct err *e)) {
    struct err e = {.code = ERR_NONE};
    json_t *answer = NULL;
    struct api_client *api = api_open(in->settings.api, &e);
    int rc = api ? api_get(api, path, &answer, &e) : -1;
    if (!rc) rc = args_has(&in->args, "json") ? term_print_json(json_incref(answer), &e) : print(answer, &e);
    json_decref(answer);
    api_close(api);
    return rc ? cli_fail(&e) : CLI_OK;
}

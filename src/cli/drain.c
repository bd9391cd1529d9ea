// nebulus drain: takes the running jobs of this daemon off a node.
#include "base/json.h"
#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/term.h"

#include <string.h>

enum { POLL_MS = 100 };

static const struct option options[] = {{.name = "to",
                                         .type = OPTION_TEXT,
                                         .placeholder = "NODE",
                                         .help = "where the jobs go on; else where their model is"},
                                        OPTION_JSON};

struct drained {
    char node[64], why[512];
    int64_t moved, left, refused;
};

// Orders the moves of what can be moved now, and adds up.
static int ask(struct api_client *api, const json_t *body, struct drained *d, struct err *e) {
    json_t *answer = NULL;
    const char *node = "?", *why = "";
    int64_t moved = 0;
    int rc = api_post(api, "/nebulus/v1/drain", body, &answer, e) || json_get_string(answer, "node", &node, e) ||
                     json_get_string(answer, "why", &why, e) ||
                     json_get_int(answer, "moved", 0, INT32_MAX, &moved, e) ||
                     json_get_int(answer, "left", 0, INT32_MAX, &d->left, e) ||
                     json_get_int(answer, "refused", 0, INT32_MAX, &d->refused, e)
                 ? -1
                 : 0;
    d->moved += moved;
    snprintf(d->node, sizeof d->node, "%s", node);
    snprintf(d->why, sizeof d->why, "%s", why);
    json_decref(answer);
    return rc;
}

static int drain(struct api_client *api, const json_t *body, struct drained *d, struct err *e) {
    bool told = false;
    while (!ask(api, body, d, e)) {
        if (d->refused)
            return err_set(e, ERR_BUSY, "%lld of %lld jobs stay on '%s': %s", (long long)d->refused, (long long)d->left,
                           d->node, d->why);
        if (!d->left) return 0;
        if (!told) term_notice("%lld jobs leave '%s' ...", (long long)d->left, d->node);
        told = true;
        if (interrupt_sleep(POLL_MS)) return err_set(e, ERR_CANCELLED, "interrupted: what has moved stays there");
    }
    return -1;
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct drained d = {.node = ""};
    json_t *body = json_pack("{s:s, s:s}", "node", in->args.n_words ? in->args.words[0] : "", "to",
                             args_text(&in->args, "to", ""));
    struct api_client *api = body ? api_open(in->settings.api, &e) : NULL;
    if (!body) err_set(&e, ERR_INVALID, "names of nodes are UTF-8 text");
    int rc = api ? drain(api, body, &d, &e) : -1;
    if (!rc && args_has(&in->args, "json")) {
        json_t *o = cli_object();
        if (o) json_object_set_new(o, "node", json_string(d.node));
        if (o) json_object_set_new(o, "moved", json_integer(d.moved));
        rc = term_print_json(o, &e);
    } else if (!rc && d.moved)
        term_notice("'%s' has no job of this daemon any more: %lld moved", d.node, (long long)d.moved);
    else if (!rc)
        term_notice("'%s' has no job of this daemon", d.node);
    json_decref(body);
    api_close(api);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_drain = {
    .name = "drain",
    .group = "Cluster",
    .arguments = "[NODE]",
    .summary = "Move the running jobs off a node",
    .details = "Every answer that this daemon's clients get from NODE (without it: this node) goes on at another node "
               "with the same\n"
               "model, at the next token; the clients notice nothing. Jobs of other daemons stay, and new ones still "
               "go where they are\n"
               "asked to. Returns once no job is left on NODE.",
    .max_words = 1,
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

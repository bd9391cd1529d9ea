// nebulus revoke: puts a node out of the cluster.
#include "base/clock.h"
#include "cli/root_key.h"
#include "cli/term.h"

#include <stdio.h>
#include <string.h>

static const struct option options[] = {OPTION_PASSPHRASE, OPTION_JSON};

struct revoking {
    const char *asked;
    char id[IDENTITY_ID], name[ROSTER_NAME], self[IDENTITY_ID];
};

static int revoke(void *arg, struct roster *next, struct err *e) {
    struct revoking *v = arg;
    const struct roster_node *n = roster_find(next, v->asked);
    if (!n)
        return err_set(e, ERR_NOT_FOUND, "cluster '%s' has no node '%.64s': `nebulus nodes` lists them", next->cluster,
                       v->asked);
    if (!strcmp(n->id, v->self))
        return err_set(e, ERR_INVALID, "this is '%s' itself: `nebulus leave` takes it out", n->name);
    snprintf(v->id, sizeof v->id, "%s", n->id);
    snprintf(v->name, sizeof v->name, "%s", n->name);
    roster_revoke(next, v->id, (int64_t)(clock_wall_ns() / NS_PER_S));
    return 0;
}

static int find_self(struct api_client *api, char id[IDENTITY_ID], struct err *e) {
    json_t *answer = NULL;
    size_t i;
    json_t *node;
    if (api_get(api, "/nebulus/v1/nodes", &answer, e)) return -1;
    json_array_foreach(json_object_get(answer, "nodes"), i, node) {
        const char *state = json_string_value(json_object_get(node, "state")),
                   *own = json_string_value(json_object_get(node, "id"));
        if (state && own && !strcmp(state, "self")) snprintf(id, IDENTITY_ID, "%s", own);
    }
    json_decref(answer);
    return 0;
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct revoking v = {.asked = in->args.words[0]};
    struct api_client *api = api_open(in->settings.api, &e);
    EVP_PKEY *root = NULL;
    int64_t epoch = 0;
    int rc = api && !find_self(api, v.self, &e) && (root = root_key_unlock(in, &e))
                 ? root_change(api, root, revoke, &v, &epoch, &e)
                 : -1;
    if (!rc && args_has(&in->args, "json")) {
        json_t *o = cli_object();
        if (o) json_object_set_new(o, "revoked", json_pack("{s:s, s:s}", "id", v.id, "name", v.name));
        if (o) json_object_set_new(o, "epoch", json_integer(epoch));
        rc = term_print_json(o, &e);
    } else if (!rc)
        term_notice("'%s' (%.8s) is revoked from epoch %lld on: every node that hears of it drops it at once", v.name,
                    v.id, (long long)epoch);
    EVP_PKEY_free(root);
    api_close(api);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_revoke = {
    .name = "revoke",
    .group = "Cluster",
    .arguments = "NODE",
    .summary = "Put a node out of the cluster",
    .details = "NODE is a name or an id. Needs the cluster's key, so run it where `nebulus cluster init` was run.",
    .min_words = 1,
    .max_words = 1,
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

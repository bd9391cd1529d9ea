// nebulus cluster init: begins a cluster with this node as its first member.
#include "base/json.h"
#include "cli/own_daemon.h"
#include "cli/policy.h"
#include "cli/root_key.h"
#include "cli/term.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct option options[] = {
    {.name = "address",
     .letter = 'a',
     .type = OPTION_TEXT,
     .placeholder = "HOST:PORT",
     .help = "where the other nodes reach this one (default: its first address)"},
    OPTION_PASSPHRASE,
    {.name = "no-passphrase", .type = OPTION_FLAG, .help = "keep the cluster's key unencrypted"},
    OPTION_JSON,
};

// This node as it would stand in a roster; fails where it belongs to a cluster.
static int ask_self(struct api_client *api, const char *address, struct roster_node *self, struct err *e) {
    json_t *nodes = NULL, *answer = NULL, *body = json_pack("{s:s}", "address", address);
    int rc =
        body ? api_get(api, "/nebulus/v1/nodes", &nodes, e) : err_set(e, ERR_INVALID, "--address is not valid UTF-8");
    const char *name = json_string_value(json_object_get(json_object_get(nodes, "cluster"), "name"));
    if (!rc && name)
        rc = err_set(e, ERR_INVALID, "this node belongs to cluster '%.63s' already: `nebulus leave` comes first", name);
    if (!rc) rc = api_post(api, "/nebulus/v1/cluster/self", body, &answer, e);
    if (!rc) rc = roster_node_read(json_object_get(answer, "node"), self, e);
    json_decref(answer);
    json_decref(nodes);
    json_decref(body);
    return rc;
}

// The policy of this node's home becomes the cluster's.
static int carry_policy(struct api_client *api, struct roster *r, struct err *e) {
    json_t *answer = NULL;
    if (api_get(api, "/nebulus/v1/policy", &answer, e)) return -1;
    const char *from = json_string_value(json_object_get(answer, "from"));
    bool own = from && !strcmp(from, "home");
    json_decref(answer);
    return !own || (r->policy = policy_in_force(api, e)) ? 0 : -1;
}

static struct roster *first_roster(struct api_client *api, const char *cluster, const struct roster_node *self,
                                   EVP_PKEY *root, struct err *e) {
    struct roster *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    snprintf(r->cluster, sizeof r->cluster, "%s", cluster);
    r->epoch = 1;
    if (!roster_add(r, self, e) && !carry_policy(api, r, e) && !roster_sign(r, root, e)) return r;
    roster_free(r);
    return NULL;
}

static int tell(const struct invocation *in, const struct roster *r, struct err *e) {
    char path[PATH_SIZE];
    if (root_key_path(&in->paths, path, e)) return -1;
    if (args_has(&in->args, "json")) {
        json_t *o = cli_object();
        if (o) json_object_set_new(o, "cluster", json_string(r->cluster));
        if (o) json_object_set_new(o, "node", roster_node_json(&r->nodes[0]));
        if (o) json_object_set_new(o, "key", json_string(path));
        return term_print_json(o, e);
    }
    printf("cluster '%s' has begun; this node is '%s' at %s\n", r->cluster, r->nodes[0].name,
           *r->nodes[0].address ? r->nodes[0].address : "no address");
    term_notice("its key is %s: keep a copy of it, since without it no node can be invited or revoked", path);
    term_notice("next: `nebulus invite` here, then `nebulus join TOKEN` on another machine");
    return 0;
}

static int begin(const struct invocation *in, struct api_client *api, const char *name, struct err *e) {
    struct roster_node self;
    char path[PATH_SIZE];
    json_t *body = NULL, *answer = NULL;
    if (ask_self(api, args_text(&in->args, "address", ""), &self, e) || root_key_path(&in->paths, path, e)) return -1;
    if (!access(path, F_OK))
        return err_set(e, ERR_BUSY, "%s is the key of a cluster already: move it away to begin another one", path);
    EVP_PKEY *root = root_key_make(in, e);
    struct roster *r = root ? first_roster(api, name, &self, root, e) : NULL;
    int rc = -1;
    if (r) {
        body = json_pack("{s:o}", "roster", roster_document(r));
        rc = body ? api_post(api, "/nebulus/v1/cluster/found", body, &answer, e)
                  : err_set(e, ERR_INTERNAL, "out of memory");
    }
    if (root && rc && unlink(path)) term_notice("note: %s is of no use, but cannot be removed", path);
    if (!rc) rc = tell(in, r, e);
    roster_free(r);
    EVP_PKEY_free(root);
    json_decref(answer);
    json_decref(body);
    return rc;
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct own_daemon own = {.pid = 0};
    struct api_client *api = NULL;
    const char *name = in->args.n_words > 1 ? in->args.words[1] : "home";
    if (strcmp(in->args.words[0], "init") != 0 || !roster_is_name(name)) {
        err_set(&e, ERR_INVALID,
                strcmp(in->args.words[0], "init") != 0 ? "`nebulus cluster` takes init [NAME]"
                                                       : "a cluster's name has letters, digits, '.', '_' and '-'");
        return cli_usage(in->command, &e);
    }
    int rc = own_daemon_reach(&own, &in->settings, &api, &e) || begin(in, api, name, &e) ? -1 : 0;
    api_close(api);
    own_daemon_stop(&own);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_cluster = {
    .name = "cluster",
    .group = "Cluster",
    .arguments = "init [NAME]",
    .summary = "Begin a cluster, with this node as its first",
    .details = "Makes the cluster's key, which signs the list of its nodes; only the command line ever holds it. The "
               "passphrase that\nencrypts it is asked for. NAME is `home` by default.",
    .min_words = 1,
    .max_words = 2,
    .completes = COMPLETES_WORDS,
    .words = "init",
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

// nebulus invite: lets another machine join, and signs it in when it has come.
#include "base/json.h"
#include "cli/root_key.h"
#include "cli/term.h"

#include <stdio.h>
#include <string.h>

static const struct option options[] = {
    {.name = "name",
     .letter = 'n',
     .type = OPTION_TEXT,
     .placeholder = "NAME",
     .help = "call the new node NAME, whatever it calls itself"},
    {.name = "address",
     .letter = 'a',
     .type = OPTION_TEXT,
     .placeholder = "HOST:PORT",
     .help = "where the new node reaches this one; may be repeated (default: all its addresses)"},
    OPTION_PASSPHRASE,
    OPTION_JSON,
};

struct inviting {
    const struct invocation *in;
    EVP_PKEY *root;
    bool json, done;
};

static int add_node(void *arg, struct roster *next, struct err *e) { return roster_add(next, arg, e); }

// A machine has proven that it knows the token: its key becomes a member's.
static int sign_in(const struct inviting *v, const json_t *event, struct err *e) {
    struct roster_node node;
    struct api_client *api = NULL; // beside the one whose stream is being read
    if (roster_node_read(json_object_get(event, "node"), &node, e)) return -1;
    if (!(api = api_open(v->in->settings.api, e))) return -1;
    int rc = root_change(api, v->root, add_node, &node, NULL, e);
    api_close(api);
    return rc;
}

static void show_open(const json_t *event) {
    const char *token = json_string_value(json_object_get(event, "token"));
    printf("%s\n", token ? token : "");
    fflush(stdout); // a script may wait for the token
    term_notice("run `nebulus join TOKEN` on the other machine within %lld minutes; ^C withdraws the invitation",
                (long long)json_integer_value(json_object_get(event, "expires_s")) / 60);
}

static void show_joined(const json_t *event) {
    const json_t *node = json_object_get(event, "node");
    const char *name = json_string_value(json_object_get(node, "name")),
               *id = json_string_value(json_object_get(node, "id"));
    const char *address = json_string_value(json_object_get(node, "address"));
    bool confirmed = json_is_true(json_object_get(event, "confirmed"));
    term_notice("'%s' (%.8s) has joined%s%s%s", name ? name : "?", id ? id : "?", address && *address ? ", at " : "",
                address ? address : "",
                confirmed ? "" : ", but has not confirmed it: if it says otherwise, invite it again");
}

static int print_event(const json_t *event, struct err *e) { return term_print_json(json_deep_copy(event), e); }

static int on_event(void *arg, const json_t *event, struct err *e) {
    struct inviting *v = arg;
    const char *state = "", *message = "";
    if (json_get_string(event, "state", &state, e) || json_get_string(event, "message", &message, e)) return -1;
    if (v->json && print_event(event, e)) return -1;
    if (!strcmp(state, "open") && !v->json) show_open(event);
    if (!strcmp(state, "refused") && !v->json) term_notice("a machine was not let in: %s", message);
    if (!strcmp(state, "joined") && !v->json) show_joined(event);
    if (!strcmp(state, "joined")) v->done = true;
    return !strcmp(state, "proven") ? sign_in(v, event, e) : 0;
}

static json_t *make_body(const struct args *a) {
    json_t *addresses = json_array(), *body = json_pack("{s:o}", "addresses", addresses);
    const char *name = args_text(a, "name", NULL);
    int bad = !body || (name && json_object_set_new(body, "name", json_string(name)));
    for (size_t i = 0; i < a->n_given && !bad; i++)
        if (a->given[i].option && !strcmp(a->given[i].option->name, "address"))
            bad = json_array_append_new(addresses, json_string(a->given[i].value));
    if (!bad) return body;
    json_decref(body);
    return NULL;
}

static int invite(struct inviting *v, struct api_client *api, struct err *e) {
    struct roster *r = root_fetch(api, v->root, NULL, e); // before anything is promised
    if (!r) return -1;
    roster_free(r);
    json_t *body = make_body(&v->in->args);
    if (!body) return err_set(e, ERR_INVALID, "the name or an address is not valid UTF-8");
    int rc = api_stream(api, "/nebulus/v1/cluster/invite", body, on_event, v, e);
    json_decref(body);
    if (!rc && !v->done) rc = err_set(e, ERR_UNREACHABLE, "the daemon went away before anyone joined: see its log");
    return rc;
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct inviting v = {.in = in, .json = args_has(&in->args, "json")};
    struct api_client *api = api_open(in->settings.api, &e);
    int rc = api && (v.root = root_key_unlock(in, &e)) ? invite(&v, api, &e) : -1;
    EVP_PKEY_free(v.root);
    api_close(api);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_invite = {
    .name = "invite",
    .group = "Cluster",
    .arguments = "",
    .summary = "Print a token with which one other machine may join",
    .details =
        "Waits until a machine has used the token, for 15 minutes, and signs it in: this needs the cluster's key, "
        "so run it\nwhere `nebulus cluster init` was run. ^C withdraws the invitation.",
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

// nebulus join: makes this node a member of a cluster.
#include "base/json.h"
#include "cli/interrupt.h"
#include "cli/own_daemon.h"
#include "cli/root_key.h"
#include "cli/term.h"
#include "trust/pairing.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct option options[] = {
    {.name = "name",
     .letter = 'n',
     .type = OPTION_TEXT,
     .placeholder = "NAME",
     .help = "this node's name (default: the setting, or the host's)"},
    {.name = "address",
     .letter = 'a',
     .type = OPTION_TEXT,
     .placeholder = "HOST:PORT",
     .help = "where the other nodes reach this one (default: its address towards the inviter)"},
    {.name = "role",
     .letter = 'r',
     .type = OPTION_TEXT,
     .placeholder = "ROLE",
     .help = "what this node is best at: auto, prime (reading prompts) or edge (writing answers)"},
    OPTION_JSON,
};

static int read_token(char out[PAIRING_TOKEN], struct err *e) {
    size_t n = 0;
    while (!memchr(out, '\n', n)) {
        if (n + 1 == PAIRING_TOKEN) return err_set(e, ERR_INVALID, "what stdin brings is too long for a token");
        ssize_t got = read(STDIN_FILENO, out + n, PAIRING_TOKEN - 1 - n);
        if (interrupt_pending()) return err_set(e, ERR_CANCELLED, "interrupted");
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_errno(e, "cannot read stdin");
        if (!got) break;
        n += (size_t)got;
    }
    out[n] = 0;
    out[strcspn(out, "\r\n")] = 0;
    return 0;
}

static json_t *make_body(const struct args *a, const char *token) {
    const char *name = args_text(a, "name", NULL), *address = args_text(a, "address", NULL),
               *role = args_text(a, "role", NULL);
    json_t *body = json_pack("{s:s}", "token", token);
    int bad = !body || (name && json_object_set_new(body, "name", json_string(name))) ||
              (address && json_object_set_new(body, "address", json_string(address))) ||
              (role && json_object_set_new(body, "role", json_string(role)));
    if (!bad) return body;
    json_decref(body);
    return NULL;
}

static int show(const struct invocation *in, json_t *answer, bool lasting, struct err *e) {
    const char *cluster = "?", *name = "?", *address = "";
    int64_t nodes = 0;
    if (args_has(&in->args, "json")) return term_print_json(json_incref(answer), e);
    if (json_get_string(answer, "cluster", &cluster, e) || json_get_string(answer, "name", &name, e) ||
        json_get_string(answer, "address", &address, e) || json_get_int(answer, "nodes", 0, ROSTER_NODES, &nodes, e))
        return -1;
    term_notice("this node is '%s' of cluster '%s' now, one of %lld%s%s", name, cluster, (long long)nodes,
                *address ? "; the others reach it at " : "", address);
    if (!lasting) term_notice("it takes part while `nebulus serve` runs");
    return 0;
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct own_daemon own = {.pid = 0};
    struct api_client *api = NULL;
    struct pairing_token checked;
    char token[PAIRING_TOKEN] = "";
    const char *given = in->args.words[0];
    json_t *body = NULL, *answer = NULL;
    int rc = !strcmp(given, "-") ? read_token(token, &e) : 0;
    if (!rc && strcmp(given, "-") != 0) snprintf(token, sizeof token, "%s", given);
    if (!rc) rc = pairing_decode(token, &checked, &e); // a damaged one needs no daemon to be told
    OPENSSL_cleanse(&checked, sizeof checked);
    if (!rc && !(body = make_body(&in->args, token)))
        rc = err_set(&e, ERR_INVALID, "the name, address or role is not valid UTF-8");
    if (!rc) rc = own_daemon_reach(&own, &in->settings, &api, &e);
    if (!rc) rc = api_post(api, "/nebulus/v1/cluster/join", body, &answer, &e);
    if (!rc) rc = show(in, answer, !own.pid, &e);
    OPENSSL_cleanse(token, sizeof token);
    json_decref(answer);
    json_decref(body);
    api_close(api);
    own_daemon_stop(&own);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_join = {
    .name = "join",
    .group = "Cluster",
    .arguments = "TOKEN",
    .summary = "Make this node a member of a cluster",
    .details = "TOKEN is what `nebulus invite` printed on another machine; - reads it from stdin.",
    .min_words = 1,
    .max_words = 1,
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

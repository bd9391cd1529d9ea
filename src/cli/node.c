// nebulus node set: what the roster says of a node beside its keys: its role and its labels.
#include "base/json.h"
#include "cli/root_key.h"
#include "cli/term.h"

#include <stdio.h>
#include <string.h>

static const struct option options[] = {
    {.name = "role", .letter = 'r', .type = OPTION_TEXT, .placeholder = "ROLE", .help = "auto, prime or edge"},
    {.name = "label",
     .letter = 'l',
     .type = OPTION_TEXT,
     .placeholder = "LABEL",
     .help = "give it this label; may be repeated"},
    {.name = "unlabel", .type = OPTION_TEXT, .placeholder = "LABEL", .help = "take this label away; may be repeated"},
    OPTION_PASSPHRASE,
    OPTION_JSON,
};

struct setting_node {
    const struct args *args;
    struct roster_node now; // as it stands in the roster that was signed
};

static int put_label(struct roster_node *n, const char *label, struct err *e) {
    if (!roster_is_name(label))
        return err_param(e, "label", "'%.64s' is no label: use letters, digits, '.', '_' and '-'", label);
    for (size_t i = 0; i < n->n_labels; i++)
        if (!strcmp(n->labels[i], label)) return 0;
    if (n->n_labels == ROSTER_LABELS)
        return err_set(e, ERR_LIMIT, "'%s' has %d labels already: --unlabel takes one away", n->name, ROSTER_LABELS);
    snprintf(n->labels[n->n_labels++], ROSTER_NAME, "%s", label);
    return 0;
}

static int take_label(struct roster_node *n, const char *label, struct err *e) {
    for (size_t i = 0; i < n->n_labels; i++) {
        if (strcmp(n->labels[i], label) != 0) continue;
        memmove(n->labels[i], n->labels[i + 1], (n->n_labels - i - 1) * sizeof *n->labels);
        memset(n->labels[--n->n_labels], 0, sizeof *n->labels);
        return 0;
    }
    return err_set(e, ERR_NOT_FOUND, "'%s' has no label '%.64s': `nebulus nodes` shows them", n->name, label);
}

// In the order in which they were given.
static int apply(const struct args *a, struct roster_node *n, struct err *e) {
    for (size_t i = 0; i < a->n_given; i++) {
        const char *name = a->given[i].option ? a->given[i].option->name : "", *value = a->given[i].value;
        if (!strcmp(name, "role") && !roster_is_role(value))
            return err_param(e, "role", "'%.40s' is no role: use auto, prime or edge", value);
        if (!strcmp(name, "role")) snprintf(n->role, sizeof n->role, "%s", value);
        if (!strcmp(name, "label") && put_label(n, value, e)) return -1;
        if (!strcmp(name, "unlabel") && take_label(n, value, e)) return -1;
    }
    return 0;
}

static int set(void *arg, struct roster *next, struct err *e) {
    struct setting_node *v = arg;
    const char *asked = v->args->words[1];
    const struct roster_node *n = roster_find(next, asked);
    if (!n)
        return err_set(e, ERR_NOT_FOUND, "cluster '%s' has no node '%.64s': `nebulus nodes` lists them", next->cluster,
                       asked);
    v->now = *n;
    return apply(v->args, &v->now, e) || roster_add(next, &v->now, e) ? -1 : 0;
}

static int show(const struct setting_node *v, int64_t epoch, struct err *e) {
    const struct roster_node *n = &v->now;
    if (args_has(v->args, "json")) {
        json_t *o = cli_object();
        if (o) json_object_set_new(o, "node", roster_node_json(n));
        if (o) json_object_set_new(o, "epoch", json_integer(epoch));
        return term_print_json(o, e);
    }
    char labels[ESCAPED_MAX] = "";
    for (size_t i = 0, used = 0; i < n->n_labels && used < sizeof labels; i++)
        used += (size_t)snprintf(labels + used, sizeof labels - used, "%s%s", i ? ", " : "; labels ", n->labels[i]);
    term_notice("'%s' (%.8s) is of role %s from epoch %lld on%s", n->name, n->id, n->role, (long long)epoch, labels);
    return 0;
}

static int check_words(const struct args *a, struct err *e) {
    if (strcmp(a->words[0], "set") != 0)
        return err_param(e, "node", "'node %.40s' is not known: try `node set`", a->words[0]);
    if (args_has(a, "role") || args_has(a, "label") || args_has(a, "unlabel")) return 0;
    return err_param(e, "node", "nothing is to be set: give --role, --label or --unlabel");
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct setting_node v = {.args = &in->args};
    EVP_PKEY *root = NULL;
    int64_t epoch = 0;
    if (check_words(&in->args, &e)) return cli_usage(in->command, &e);
    struct api_client *api = api_open(in->settings.api, &e);
    int rc = api && (root = root_key_unlock(in, &e)) ? root_change(api, root, set, &v, &epoch, &e) : -1;
    if (!rc) rc = show(&v, epoch, &e);
    EVP_PKEY_free(root);
    api_close(api);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_node = {
    .name = "node",
    .group = "Cluster",
    .arguments = "set NODE",
    .summary = "Set a node's role and labels",
    .details =
        "NODE is a name or an id. The planner prefers a prime node for reading prompts and an edge node for writing "
        "answers;\nlabels are what policies call nodes by. Needs the cluster's key, so run it where `nebulus "
        "cluster init` was run.",
    .min_words = 2,
    .max_words = 2,
    .completes = COMPLETES_WORDS,
    .words = "set",
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

// nebulus can-i: what an agent may do, by the policy in force or by a file.
#include "base/json.h"
#include "cli/policy.h"
#include "cli/table.h"
#include "cli/term.h"
#include "trust/policy_survey.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option options[] = {
    {.name = "node", .type = OPTION_TEXT, .placeholder = "NODE", .help = "only there (of kv: from there)"},
    {.name = "to", .type = OPTION_TEXT, .placeholder = "NODE", .help = "of kv: to there"},
    {.name = "phase",
     .type = OPTION_TEXT,
     .placeholder = "PHASE",
     .help = "prefill, decode or kv (default: a whole job)"},
    {.name = "label", .type = OPTION_TEXT, .placeholder = "LABEL", .help = "of the request; may be repeated"},
    {.name = "group", .type = OPTION_TEXT, .placeholder = "GROUP", .help = "of the agent; may be repeated"},
    {.name = "node-label",
     .type = OPTION_TEXT,
     .placeholder = "LABEL",
     .help = "of the node, with --policy; may be repeated"},
    {.name = "when", .type = OPTION_TEXT, .placeholder = "\"Mon 09:30\"", .help = "instead of now"},
    {.name = "policy", .type = OPTION_TEXT, .placeholder = "FILE", .help = "by this document, without a daemon"},
    {.name = "explain", .type = OPTION_FLAG, .help = "show every decision and its rules"},
    OPTION_JSON,
};

static json_t *question(const struct args *a) {
    json_t *o =
        json_pack("{s:s, s:s, s:o, s:s*, s:s*, s:s*, s:s*}", "agent", a->words[0], "model", a->words[1], "labels",
                  cli_given(a, "label"), "phase", args_text(a, "phase", NULL), "node", args_text(a, "node", NULL), "to",
                  args_text(a, "to", NULL), "when", args_text(a, "when", NULL));
    json_t *groups = cli_given(a, "group");
    if (o && json_array_size(groups)) json_object_set(o, "groups", groups); // else those that the daemon knows
    json_decref(groups);
    return o;
}

// The nodes that a question names; without any, one that nothing is known of.
static json_t *ask_file(const struct args *a, const json_t *body, struct err *e) {
    struct policy_asked q;
    struct policy *p = policy_of_file(args_text(a, "policy", ""), e);
    json_t *labels = cli_given(a, "node-label"), *answer = NULL;
    const char *names[POLICY_ITEMS];
    size_t n = 0;
    for (; n < POLICY_ITEMS && n < json_array_size(labels); n++)
        names[n] = json_string_value(json_array_get(labels, n));
    if (p && !policy_asked_read(body, &q, e)) {
        const char *node = q.survey.node ? q.survey.node : "any", *to = q.survey.to ? q.survey.to : "another";
        const struct policy_node nodes[] = {{NULL, node, {names, n}}, {NULL, to, {names, n}}};
        q.survey.nodes = nodes;
        q.survey.n = q.survey.phase == POLICY_KV ? 2 : 1;
        if (!(answer = policy_survey(p, &q.survey))) err_set(e, ERR_INTERNAL, "out of memory");
    }
    json_decref(labels);
    policy_free(p);
    return answer;
}

static json_t *ask_daemon(struct invocation *in, const json_t *body, struct err *e) {
    json_t *answer = NULL;
    struct api_client *api = api_open(in->settings.api, e);
    if (api && api_post(api, "/nebulus/v1/can-i", body, &answer, e)) answer = NULL;
    api_close(api);
    return answer;
}

// ---------------------------------------------------------------- telling
static void join_rules(const json_t *decision, struct buf *out) {
    const json_t *rule;
    size_t i;
    buf_clear(out);
    json_array_foreach(json_object_get(decision, "rules"), i, rule)
        buf_printf(out, "%s%s", i ? ", " : "", json_string_value(rule));
    if (!i) buf_puts(out, "no rule permits it");
}

static int explain(const json_t *answer, struct err *e) {
    static const char *const head[] = {"PHASE", "NODE", "TO", "", "RULES", "LIMITS"};
    const json_t *d;
    struct table t;
    struct buf rules;
    size_t i;
    int rc = 0;
    table_init(&t, head, COUNT_OF(head));
    buf_init(&rules, TABLE_CELL);
    json_array_foreach(json_object_get(answer, "decisions"), i, d) {
        const json_t *src = json_object_get(d, "src"), *limits = json_object_get(d, "limits");
        const char *phase = json_string_value(json_object_get(d, "phase")),
                   *to = json_string_value(json_object_get(d, "dst"));
        const char *node = json_string_value(src ? src : json_object_get(d, "node"));
        char *text = json_object_size(limits) ? json_text(limits) : NULL;
        join_rules(d, &rules);
        rc = rc || table_cell(&t, e, "%s", phase ? phase : "?") || table_cell(&t, e, "%s", node ? node : "?") ||
             table_cell(&t, e, "%s", to ? to : "-") ||
             table_cell(&t, e, json_is_true(json_object_get(d, "allow")) ? "permitted" : "denied") ||
             table_cell(&t, e, "%s", buf_str(&rules)) || table_cell(&t, e, "%s", text ? text : "-");
        free(text);
    }
    if (!rc) table_print(&t);
    table_free(&t);
    buf_free(&rules);
    return rc ? -1 : 0;
}

// One line: the answer, and the rules of all decisions that agree with it.
static void tell(const json_t *answer, bool allow) {
    const json_t *d, *rule;
    json_t *seen = json_object();
    const char *id;
    json_t *unused;
    size_t i, k, n = 0;
    json_array_foreach(json_object_get(answer, "decisions"), i, d) {
        if (json_is_true(json_object_get(d, "allow")) != allow) continue;
        json_array_foreach(json_object_get(d, "rules"), k, rule)
            json_object_set_new(seen, json_string_value(rule), json_true());
    }
    printf("%s", allow ? "yes" : "no");
    json_object_foreach(seen, id, unused) printf("%s%s", n++ ? ", " : ": ", id);
    printf("%s\n", n || allow ? "" : ": no rule permits it");
    json_decref(seen);
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    json_t *body = question(&in->args), *answer = NULL;
    if (!body)
        err_set(&e, ERR_INVALID, "names are UTF-8 text");
    else
        answer = args_has(&in->args, "policy") ? ask_file(&in->args, body, &e) : ask_daemon(in, body, &e);
    bool allow = json_is_true(json_object_get(answer, "allow"));
    int rc = answer ? 0 : -1;
    if (answer && args_has(&in->args, "json")) {
        json_object_set_new(answer, "v", json_integer(1));
        rc = term_print_json(json_incref(answer), &e);
    } else if (answer) {
        tell(answer, allow);
        if (args_has(&in->args, "explain")) rc = explain(answer, &e);
    }
    json_decref(body);
    json_decref(answer);
    if (rc) return cli_fail(&e);
    return allow ? CLI_OK : CLI_DENIED;
}

const struct command command_can_i = {
    .name = "can-i",
    .group = "Authority",
    .arguments = "AGENT MODEL",
    .summary = "Ask whether an agent may run a model, and by which rules",
    .details = "Without --phase: a whole job, of which one node may read the prompt and another one write the answer. "
               "Exit code 0: yes,\n4: no. With --policy, --node is a node that has the labels of --node-label.",
    .min_words = 2,
    .max_words = 2,
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

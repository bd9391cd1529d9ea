// nebulus policy: who may run what where.
#include "cli/policy.h"
#include "base/bytes.h"
#include "base/json.h"
#include "cli/root_key.h"
#include "cli/table.h"
#include "cli/term.h"
#include "trust/policy_tests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct option options[] = {OPTION_PASSPHRASE, OPTION_JSON};

// Where to begin from. JSON has no comments: notes are members that mean nothing.
static const char first_policy[] =
    "{\n"
    "  \"v\": 1,\n"
    "  \"note\": \"What no rule permits is denied, and forbid wins. Rules are in no order. Lists take names with * and "
    "?, @ for a group of agents or a label of nodes, and ! to exclude. Edit, then: nebulus policy test FILE, nebulus "
    "policy diff FILE, nebulus policy apply FILE\",\n"
    "  \"rules\": [\n"
    "    {\n"
    "      \"id\": \"owner-everywhere\",\n"
    "      \"note\": \"Without it the owner may compute on the machine at which he asks, and nowhere else\",\n"
    "      \"effect\": \"permit\",\n"
    "      \"agents\": [\"owner\"]\n"
    "    },\n"
    "    {\n"
    "      \"id\": \"research\",\n"
    "      \"note\": \"What a member of the group may do, when, and how much; phases are prefill, decode and kv\",\n"
    "      \"effect\": \"permit\",\n"
    "      \"agents\": [\"@research\"],\n"
    "      \"models\": [\"*\"],\n"
    "      \"phases\": [\"prefill\", \"decode\", \"kv\"],\n"
    "      \"nodes\": [\"*\"],\n"
    "      \"hours\": \"Mon-Fri 08:00-20:00\",\n"
    "      \"limits\": {\"tokens_day\": 200000, \"rpm\": 30, \"concurrent\": 2}\n"
    "    },\n"
    "    {\n"
    "      \"id\": \"private-stays-home\",\n"
    "      \"note\": \"What is labelled private is computed on nodes with the label home, and nowhere else (nebulus "
    "node set NODE --label home)\",\n"
    "      \"effect\": \"forbid\",\n"
    "      \"labels\": [\"private\"],\n"
    "      \"nodes\": [\"!@home\"]\n"
    "    }\n"
    "  ],\n"
    "  \"tests\": [\n"
    "    {\n"
    "      \"note\": \"Tests must pass before the policy is applied\",\n"
    "      \"expect\": \"permit\", \"rules\": [\"research\"],\n"
    "      \"agent\": \"ann\", \"groups\": [\"research\"], \"model\": \"llama\", \"phase\": \"prefill\",\n"
    "      \"node\": {\"name\": \"prime\"}, \"when\": \"Mon 09:30\"\n"
    "    },\n"
    "    {\n"
    "      \"expect\": \"deny\", \"rules\": [\"private-stays-home\"],\n"
    "      \"agent\": \"owner\", \"labels\": [\"private\"], \"model\": \"llama\", \"phase\": \"kv\",\n"
    "      \"src\": {\"name\": \"prime\", \"labels\": [\"home\"]}, \"dst\": {\"name\": \"edge\"}, \"when\": \"Mon "
    "09:30\"\n"
    "    }\n"
    "  ]\n"
    "}\n";

struct policy *policy_of_file(const char *path, struct err *e) {
    char *text;
    size_t n;
    struct err why;
    if (file_read(path, POLICY_BYTES, &text, &n, e)) return NULL;
    struct policy *p = policy_read(text, n, &why);
    if (!p) err_set(e, why.code, "%.200s: %.300s", path, why.msg);
    free(text);
    return p;
}

struct policy *policy_in_force(struct api_client *api, struct err *e) {
    json_t *answer = NULL;
    struct policy *p = NULL;
    if (api_get(api, "/nebulus/v1/policy", &answer, e)) return NULL;
    const char *from = json_string_value(json_object_get(answer, "from"));
    char *text = json_text(json_object_get(answer, "document"));
    if (from && !strcmp(from, "builtin"))
        p = policy_builtin(e);
    else if (text)
        p = policy_read(text, strlen(text), e);
    else
        err_set(e, ERR_INTERNAL, "the daemon told no policy");
    free(text);
    json_decref(answer);
    return p;
}

static size_t count_tests(const struct policy *p) {
    return json_array_size(json_object_get(policy_document(p), "tests"));
}

static size_t count_rules(const struct policy *p) {
    return json_array_size(json_object_get(policy_document(p), "rules"));
}

static void digest_text(const struct policy *p, char out[2 * DIGEST_BYTES + 1]) {
    hex_encode(policy_digest(p), DIGEST_BYTES, out);
}

static json_t *brief_json(const struct policy *p) {
    json_t *o = cli_object();
    if (o) json_object_set_new(o, "policy", json_hex(policy_digest(p), DIGEST_BYTES));
    if (o) json_object_set_new(o, "rules", json_integer((json_int_t)count_rules(p)));
    if (o) json_object_set_new(o, "tests", json_integer((json_int_t)count_tests(p)));
    return o;
}

// ---------------------------------------------------------------- init, check, test
static int init(struct invocation *in, struct err *e) {
    const char *path = in->args.n_words > 1 ? in->args.words[1] : "policy.json";
    if (!strcmp(path, "-")) return fputs(first_policy, stdout) < 0 ? err_errno(e, "cannot write to stdout") : 0;
    if (!access(path, F_OK)) return err_set(e, ERR_BUSY, "%s is there already: name another file", path);
    if (file_write(path, first_policy, strlen(first_policy), e)) return -1;
    term_notice("%s is written; next: edit it, then `nebulus policy test %s` and `nebulus policy apply %s`", path, path,
                path);
    return 0;
}

static int check(struct invocation *in, struct err *e) {
    char digest[2 * DIGEST_BYTES + 1];
    struct policy *p = policy_of_file(in->args.words[1], e);
    if (!p) return -1;
    int rc = 0;
    digest_text(p, digest);
    if (args_has(&in->args, "json"))
        rc = term_print_json(brief_json(p), e);
    else
        printf("policy %.16s: %zu rules, %zu tests\n", digest, count_rules(p), count_tests(p));
    policy_free(p);
    return rc;
}

struct testing {
    bool json;
    json_t *list;
};

static void show_test(void *arg, size_t number, bool passed, const char *what) {
    struct testing *t = arg;
    if (t->json)
        json_array_append_new(t->list, json_pack("{s:b, s:s}", "passed", passed, "what", what));
    else
        printf("%s tests[%zu]: %s\n", passed ? "ok    " : "FAILED", number, what);
}

static int test(struct invocation *in, struct err *e) {
    struct testing t = {.json = args_has(&in->args, "json"), .list = json_array()};
    size_t failed = 0;
    struct policy *p = policy_of_file(in->args.words[1], e);
    int rc = p ? 0 : -1;
    if (p) policy_tests_run(p, show_test, &t, &failed);
    if (p && t.json) {
        json_t *o = brief_json(p);
        if (o) json_object_set(o, "results", t.list);
        rc = term_print_json(o, e);
    }
    if (failed) rc = err_set(e, ERR_INVALID, "%zu of %zu tests fail", failed, count_tests(p));
    json_decref(t.list);
    policy_free(p);
    return rc;
}

// ---------------------------------------------------------------- show
// A list of a rule as one cell.
static void cell_of(const json_t *rule, const char *name, struct buf *out) {
    const json_t *v = json_object_get(rule, name), *one;
    size_t i;
    buf_clear(out);
    json_array_foreach(v, i, one) buf_printf(out, "%s%s", i ? " " : "", json_string_value(one));
    if (json_is_string(v)) buf_puts(out, json_string_value(v));
    if (!v) buf_puts(out, "-");
}

static int add_rule(struct table *t, const json_t *rule, struct err *e) {
    static const char *const columns[] = {"id",    "effect", "agents", "models", "phases",
                                          "nodes", "src",    "dst",    "labels", "hours"};
    struct buf cell;
    int rc = 0;
    buf_init(&cell, TABLE_CELL);
    for (size_t i = 0; i < COUNT_OF(columns) && !rc; i++) {
        cell_of(rule, columns[i], &cell);
        rc = table_cell(t, e, "%s", buf_str(&cell));
    }
    const json_t *limits = json_object_get(rule, "limits");
    char *text = limits ? json_text(limits) : NULL;
    if (!rc) rc = table_cell(t, e, "%s", text ? text : "-");
    free(text);
    buf_free(&cell);
    return rc;
}

static int show_rules(const json_t *answer, struct err *e) {
    static const char *const head[] = {"RULE", "EFFECT", "AGENTS", "MODELS", "PHASES", "NODES",
                                       "SRC",  "DST",    "LABELS", "HOURS",  "LIMITS"};
    const json_t *rule, *rules = json_object_get(json_object_get(answer, "document"), "rules");
    struct table t;
    size_t i;
    int rc = 0;
    table_init(&t, head, COUNT_OF(head));
    json_array_foreach(rules, i, rule) if (!rc) rc = add_rule(&t, rule, e);
    if (!rc && i) table_print(&t);
    table_free(&t);
    return rc;
}

static int show(struct invocation *in, struct err *e) {
    const char *from = "", *digest = "", *trouble = NULL;
    json_t *answer = NULL;
    struct api_client *api = api_open(in->settings.api, e);
    int rc = !api || api_get(api, "/nebulus/v1/policy", &answer, e) || json_get_string(answer, "from", &from, e) ||
                     json_get_string(answer, "digest", &digest, e) || json_get_string(answer, "trouble", &trouble, e)
                 ? -1
                 : 0;
    if (!rc && args_has(&in->args, "json"))
        rc = term_print_json(json_incref(answer), e);
    else if (!rc) {
        bool builtin = !strcmp(from, "builtin");
        if (trouble) term_notice("the policy of this home cannot be read, so that nothing is permitted: %s", trouble);
        if (builtin)
            term_notice("no policy is in force: the owner may run everything, nobody else anything");
        else
            printf("policy %.16s of this %s\n", digest, from);
        rc = builtin ? 0 : show_rules(answer, e);
    }
    json_decref(answer);
    api_close(api);
    return rc;
}

// ---------------------------------------------------------------- apply
static int set_policy(void *arg, struct roster *next, struct err *e) {
    policy_free(next->policy);
    return (next->policy = policy_copy(arg, e)) ? 0 : -1;
}

// Signed by the cluster's root, where this node belongs to one.
static int hand_over(struct invocation *in, struct api_client *api, struct policy *p, int64_t *epoch, struct err *e) {
    json_t *nodes = NULL, *body = NULL, *answer = NULL;
    size_t n;
    int rc = api_get(api, "/nebulus/v1/nodes", &nodes, e);
    if (!rc && json_is_object(json_object_get(nodes, "cluster"))) {
        EVP_PKEY *root = root_key_unlock(in, e);
        rc = root ? root_change(api, root, set_policy, p, epoch, e) : -1;
        EVP_PKEY_free(root);
    } else if (!rc) {
        body = json_pack("{s:s}", "policy", policy_text(p, &n));
        rc = body ? api_post(api, "/nebulus/v1/policy", body, &answer, e) : err_set(e, ERR_INTERNAL, "out of memory");
    }
    json_decref(answer);
    json_decref(body);
    json_decref(nodes);
    return rc;
}

static int tell_applied(const struct invocation *in, const struct policy *p, int64_t epoch, struct err *e) {
    char digest[2 * DIGEST_BYTES + 1];
    digest_text(p, digest);
    if (args_has(&in->args, "json")) {
        json_t *o = brief_json(p);
        if (o) json_object_set_new(o, "epoch", epoch ? json_integer(epoch) : json_null());
        return term_print_json(o, e);
    }
    if (epoch)
        term_notice("policy %.16s is in force from epoch %lld on, on every node that hears of it", digest,
                    (long long)epoch);
    else
        term_notice("policy %.16s is in force on this node", digest);
    return 0;
}

static int apply(struct invocation *in, struct err *e) {
    int64_t epoch = 0;
    struct api_client *api = NULL;
    struct policy *p = policy_of_file(in->args.words[1], e);
    int rc = p && !policy_tests_pass(p, e) && (api = api_open(in->settings.api, e)) &&
                     !hand_over(in, api, p, &epoch, e) && !tell_applied(in, p, epoch, e)
                 ? 0
                 : -1;
    api_close(api);
    policy_free(p);
    return rc;
}

// ---------------------------------------------------------------- the command
static const struct verb {
    const char *name;
    size_t min_words, max_words; // with the verb
    int (*run)(struct invocation *in, struct err *e);
} verbs[] = {{"init", 1, 2, init}, {"check", 2, 2, check}, {"test", 2, 2, test}, {"diff", 2, 3, policy_diff_show},
             {"show", 1, 1, show}, {"apply", 2, 2, apply}};

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    for (size_t i = 0; i < COUNT_OF(verbs); i++) {
        const struct verb *v = &verbs[i];
        if (strcmp(in->args.words[0], v->name) != 0) continue;
        if (in->args.n_words >= v->min_words && in->args.n_words <= v->max_words)
            return v->run(in, &e) ? cli_fail(&e) : CLI_OK;
        err_set(&e, ERR_INVALID, "`nebulus policy %s` %s", v->name,
                v->max_words > 1 ? "needs a file" : "takes no file");
        return cli_usage(in->command, &e);
    }
    err_set(&e, ERR_INVALID, "`nebulus policy` takes init, check, test, diff, show and apply");
    return cli_usage(in->command, &e);
}

const struct command command_policy = {
    .name = "policy",
    .group = "Authority",
    .arguments = "WHAT [FILE...]",
    .summary = "Say who may run what where",
    .details =
        "init [FILE] writes a document to begin from, with notes; check and test read FILE and run the tests that "
        "it brings\nalong. diff [OLD] NEW asks both (without OLD: what is in force) everything that they speak "
        "of, and tells whose\nanswers change. show tells what is in force. apply puts FILE in force: on all "
        "nodes of the cluster, signed by\nits key, or on this one where it belongs to none.",
    .min_words = 1,
    .max_words = 3,
    .completes = COMPLETES_WORDS,
    .words = "init|check|test|diff|show|apply",
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

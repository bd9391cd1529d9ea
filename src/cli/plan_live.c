#include "cli/plan_live.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/table.h"
#include "cli/term.h"

#include <stdio.h>
#include <unistd.h>

#define PLAN_PATH "/nebulus/v1/plan"

enum { PROMPT_TOKENS = 8192, ANSWER_TOKENS = 128, REASON_BYTES = 1024 };
static const double MOST_MS = 1e15;

struct live_plan {
    const char *mode, *reads, *writes, *reason;
    double ttft_ms, transfer_ms, exposed_ms, decode_ms, total_ms;
};

static int read_plan(const json_t *v, struct live_plan *p, struct err *e) {
    *p = (struct live_plan){.mode = "", .reads = "", .writes = "", .reason = ""};
    if (!json_is_object(v)) return err_set(e, ERR_INVALID, "the daemon's answer holds a plan that is none");
    return json_get_string(v, "mode", &p->mode, e) || json_get_string(v, "prefill", &p->reads, e) ||
                   json_get_string(v, "decode", &p->writes, e) || json_get_string(v, "reason", &p->reason, e) ||
                   json_get_real(v, "ttft_ms", 0, MOST_MS, &p->ttft_ms, e) ||
                   json_get_real(v, "transfer_ms", 0, MOST_MS, &p->transfer_ms, e) ||
                   json_get_real(v, "exposed_ms", 0, MOST_MS, &p->exposed_ms, e) ||
                   json_get_real(v, "decode_ms", 0, MOST_MS, &p->decode_ms, e) ||
                   json_get_real(v, "total_ms", 0, MOST_MS, &p->total_ms, e)
               ? -1
               : 0;
}

static int add_row(struct table *t, const json_t *v, struct err *e) {
    struct live_plan p;
    if (read_plan(v, &p, e)) return -1;
    return table_cell(t, e, "%s", p.mode) || table_cell(t, e, "%s", p.reads) || table_cell(t, e, "%s", p.writes) ||
                   table_cell(t, e, "%.1f ms", p.ttft_ms) || table_cell(t, e, "%.1f ms", p.transfer_ms) ||
                   table_cell(t, e, "%.1f ms", p.exposed_ms) || table_cell(t, e, "%.1f ms", p.decode_ms) ||
                   table_cell(t, e, "%.1f ms", p.total_ms)
               ? -1
               : 0;
}

static int print_live(const json_t *plans, struct err *e) {
    static const char *const head[] = {"PLAN",      "PREFILL ON", "DECODE ON", ">TTFT",
                                       ">TRANSFER", ">EXPOSED",   ">DECODE",   ">TOTAL"};
    struct table t;
    int rc = 0;
    table_init(&t, head, COUNT_OF(head));
    for (size_t i = 0; i < json_array_size(plans) && !rc; i++) rc = add_row(&t, json_array_get(plans, i), e);
    if (!rc) table_print(&t);
    table_free(&t);
    return rc;
}

static int print_reasons(FILE *out, const json_t *plans, struct err *e) {
    char mode[64], why[REASON_BYTES];
    struct live_plan p;
    for (size_t i = 0; i < json_array_size(plans); i++) {
        if (read_plan(json_array_get(plans, i), &p, e)) return -1;
        text_escape(mode, sizeof mode, p.mode);
        text_escape(why, sizeof why, p.reason);
        fprintf(out, "%zu. %s, %.1f ms: %s\n", i + 1, mode, p.total_ms, why);
    }
    return 0;
}

// Nodes that take no part in a phase, and why.
static void print_hindered(const json_t *nodes) {
    static const char *const phases[] = {"reads", "writes"};
    char name[256], why[REASON_BYTES];
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);
        const char *who = json_string_value(json_object_get(node, "name"));
        text_escape(name, sizeof name, who ? who : "?");
        for (size_t k = 0; k < COUNT_OF(phases); k++) {
            const char *text = json_string_value(json_object_get(node, phases[k]));
            if (!text) continue;
            text_escape(why, sizeof why, text);
            printf("%s %s nothing: it %s\n", name, phases[k], why);
        }
    }
}

static int print_answer(const struct args *a, const json_t *answer, struct err *e) {
    json_t *plans = NULL, *nodes = NULL;
    double prompt = 0, gen = 0;
    if (json_get_array(answer, "plans", &plans, e) || json_get_array(answer, "nodes", &nodes, e) ||
        json_get_real(answer, "prompt_tokens", 0, MOST_MS, &prompt, e) ||
        json_get_real(answer, "completion_tokens", 0, MOST_MS, &gen, e))
        return -1;
    printf("prompt %.0f, answer %.0f tokens, on the nodes as they are now\n\n", prompt, gen);
    if (print_live(plans, e)) return -1;
    print_hindered(nodes);
    if (!args_has(a, "explain")) return 0;
    printf("\n");
    return print_reasons(stdout, plans, e);
}

int plan_live_run(struct invocation *in) {
    const struct args *a = &in->args;
    struct err e = {.code = ERR_NONE};
    json_t *answer = NULL;
    json_t *question = json_pack("{s:s, s:I, s:I}", "model", a->words[0], "prompt_tokens",
                                 (json_int_t)args_int(a, "prompt", PROMPT_TOKENS), "max_tokens",
                                 (json_int_t)args_int(a, "gen", ANSWER_TOKENS));
    struct api_client *api = api_open(in->settings.api, &e);
    int rc = api ? api_post(api, PLAN_PATH, question, &answer, &e) : -1;
    if (!rc) rc = args_has(a, "json") ? term_print_json(json_incref(answer), &e) : print_answer(a, answer, &e);
    if (rc && e.code == ERR_UNREACHABLE)
        err_set(&e, ERR_UNREACHABLE,
                "no daemon answers at %s to plan for its nodes: start one (`nebulus serve`), or name machines with "
                "--device",
                in->settings.api);
    json_decref(question);
    json_decref(answer);
    api_close(api);
    return rc ? cli_fail(&e) : CLI_OK;
}

int plan_live_explain(struct api_client *api, const json_t *question, struct err *e) {
    json_t *answer = NULL, *plans = NULL;
    int rc = api_post(api, PLAN_PATH, question, &answer, e) || json_get_array(answer, "plans", &plans, e) ? -1 : 0;
    fprintf(stderr, "%s", term_style(STDERR_FILENO, STYLE_DIM));
    if (!rc) rc = print_reasons(stderr, plans, e);
    fprintf(stderr, "%s", term_style(STDERR_FILENO, STYLE_END));
    json_decref(answer);
    return rc;
}

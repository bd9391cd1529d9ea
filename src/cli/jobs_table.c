#include "cli/jobs_table.h"
#include "base/json.h"
#include "cli/table.h"
#include "cli/term.h"

struct running {
    const char *id, *agent, *model, *prefill, *decode, *phase, *gateway;
    int64_t prompt, tokens;
    double tokens_s, age_s;
};

static int read_running(const json_t *o, struct running *r, struct err *e) {
    *r = (struct running){
        .id = "?", .agent = "?", .model = "?", .prefill = "?", .decode = "?", .phase = "?", .gateway = "?"};
    return json_get_string(o, "id", &r->id, e) || json_get_string(o, "agent", &r->agent, e) ||
                   json_get_string(o, "model", &r->model, e) || json_get_string(o, "prefill", &r->prefill, e) ||
                   json_get_string(o, "decode", &r->decode, e) || json_get_string(o, "phase", &r->phase, e) ||
                   json_get_string(o, "gateway", &r->gateway, e) ||
                   json_get_int(o, "prompt_tokens", 0, INT64_MAX, &r->prompt, e) ||
                   json_get_int(o, "completion_tokens", 0, INT64_MAX, &r->tokens, e) ||
                   json_get_real(o, "tokens_s", 0, 1e12, &r->tokens_s, e) ||
                   json_get_real(o, "age_s", 0, 1e12, &r->age_s, e)
               ? -1
               : 0;
}

static int add_job(struct table *t, const struct running *r, struct err *e) {
    char speed[32] = "-", age[SIZE_TEXT], prompt[SIZE_TEXT] = "-";
    if (r->tokens_s > 0) snprintf(speed, sizeof speed, "%.3g", r->tokens_s);
    if (r->prompt) term_count(prompt, (uint64_t)r->prompt);
    return table_cell(t, e, "%.16s", r->id) || table_cell(t, e, "%s", r->agent) || table_cell(t, e, "%s", r->model) ||
                   table_cell(t, e, "%s", r->prefill) || table_cell(t, e, "%s", r->decode) ||
                   table_cell(t, e, "%s", r->phase) || table_cell(t, e, "%s", prompt) ||
                   table_cell(t, e, "%lld", (long long)r->tokens) || table_cell(t, e, "%s", speed) ||
                   table_cell(t, e, "%s", term_duration(age, (uint64_t)r->age_s))
               ? -1
               : 0;
}

static int add_order(struct table *t, const struct running *r, struct err *e) {
    char prompt[SIZE_TEXT] = "-";
    if (r->prompt) term_count(prompt, (uint64_t)r->prompt);
    return table_cell(t, e, "%s", r->gateway) || table_cell(t, e, "%s", r->model) || table_cell(t, e, "%s", r->phase) ||
                   table_cell(t, e, "%s", prompt) || table_cell(t, e, "%lld", (long long)r->tokens)
               ? -1
               : 0;
}

static int write_list(const json_t *list, const char *const *head, size_t columns,
                      int (*add)(struct table *, const struct running *, struct err *), FILE *out, struct err *e) {
    struct table t;
    struct running r;
    int rc = 0;
    if (!json_array_size(list)) return 0;
    table_init(&t, head, columns);
    for (size_t i = 0; i < json_array_size(list) && !rc; i++)
        rc = read_running(json_array_get(list, i), &r, e) ? -1 : add(&t, &r, e);
    fprintf(out, "\n");
    if (!rc) table_write(&t, out);
    table_free(&t);
    return rc;
}

int jobs_table_write(const json_t *answer, FILE *out, struct err *e) {
    static const char *const jobs_head[] = {"JOB",   "AGENT",   "MODEL",   "PREFILL",   "DECODE",
                                            "PHASE", ">PROMPT", ">TOKENS", ">TOKENS/S", ">AGE"};
    static const char *const orders_head[] = {"FOR", "MODEL", "PHASE HERE", ">PROMPT", ">TOKENS"};
    json_t *jobs = NULL, *orders = NULL;
    if (json_get_array(answer, "jobs", &jobs, e) || json_get_array(answer, "orders", &orders, e)) return -1;
    return write_list(jobs, jobs_head, COUNT_OF(jobs_head), add_job, out, e) ||
                   write_list(orders, orders_head, COUNT_OF(orders_head), add_order, out, e)
               ? -1
               : 0;
}

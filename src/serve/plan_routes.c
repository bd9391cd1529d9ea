#include "serve/plan_routes.h"
#include "base/json.h"
#include "serve/authority.h"
#include "serve/planning.h"

#include <stdlib.h>

enum { PLANS_SHOWN = 16, REASON_BYTES = 1024 };

struct asked {
    char model[LIMIT_MODEL_NAME + 1];
    double prompt, generate;
};

// The whole name; a model that is nowhere fails as a request for it would, but nothing is loaded.
static int name_model(const struct call *c, const json_t *body, struct asked *a, struct err *e) {
    const char *name = "";
    if (json_get_string(body, "model", &name, e)) return -1;
    const struct model *here = models_find(c->s->models, name);
    if (!*name) here = models_next(c->s->models, NULL);
    if (!*name && (!here || models_next(c->s->models, here)))
        return err_param(e, "model", "'model' is missing: name one");
    snprintf(a->model, sizeof a->model, "%s", here ? here->name : name);
    return 0;
}

static int read_question(const struct call *c, struct asked *a, struct err *e) {
    int64_t tokens = 0, bytes = 0, most = -1;
    json_t *body = call_body(c, e);
    int rc = !body || name_model(c, body, a, e) || json_get_int(body, "prompt_tokens", 1, INT32_MAX, &tokens, e) ||
             json_get_int(body, "prompt_bytes", 1, INT32_MAX, &bytes, e) ||
             json_get_int(body, "max_tokens", 1, INT32_MAX, &most, e);
    json_decref(body);
    if (rc) return -1;
    if (!tokens == !bytes)
        return err_param(e, "prompt_tokens", "say how long the prompt is: 'prompt_tokens' or 'prompt_bytes'");
    a->prompt = tokens ? (double)tokens : planning_bytes_to_tokens(c->s, a->model, (double)bytes);
    a->generate = planning_answer_tokens(c->s, a->model, most, tokens > 0);
    return 0;
}

static json_t *ranked_json(const struct planning *p, const struct plan *plan, const struct plan *best) {
    struct buf why;
    json_t *o = NULL;
    buf_init(&why, REASON_BYTES);
    if (!plan_explain(&p->input, plan, best, &why))
        o = json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:s}", "mode", plan_mode_name(plan->mode),
                      "prefill", p->names[plan->prefill], "decode", p->names[plan->decode], "ttft_ms",
                      plan->ttft_s * 1e3, "prefill_ms", plan->prefill_s * 1e3, "transfer_ms", plan->transfer_s * 1e3,
                      "exposed_ms", plan->exposed_s * 1e3, "decode_ms", plan->decode_s * 1e3, "total_ms",
                      plan->total_s * 1e3, "reason", buf_str(&why));
    buf_free(&why);
    return o;
}

static json_t *phase_json(const struct planning *p, size_t node, bool decode) {
    char why[160];
    return plan_hindrance(&p->input, node, decode, why, sizeof why) ? json_string(why) : json_true();
}

static json_t *answer_json(const struct planning *p, const struct asked *a, const struct plan *plans, size_t n) {
    json_t *list = json_array(), *nodes = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, ranked_json(p, &plans[i], &plans[0]));
    for (size_t i = 0; i < p->input.n; i++)
        json_array_append_new(nodes, json_pack("{s:s, s:o, s:o}", "name", p->names[i], "reads", phase_json(p, i, false),
                                               "writes", phase_json(p, i, true)));
    return json_pack("{s:i, s:s, s:f, s:f, s:o, s:o}", "v", 1, "model", a->model, "prompt_tokens", a->prompt,
                     "completion_tokens", a->generate, "plans", list, "nodes", nodes);
}

void plan_show(const struct call *c) {
    struct err why = {.code = ERR_NONE};
    struct asked a;
    struct plan plans[PLANS_SHOWN];
    struct planning *p = NULL;
    size_t n = 0;
    if (!read_question(c, &a, &why)) {
        const struct policy_subject who = authority_owner(c->s);
        const struct planning_question q = {
            .model = a.model, .wire = "", .who = &who, .prompt = a.prompt, .generate = a.generate};
        p = planning_new(c->s, &q, &why);
        n = p ? plan_rank(&p->input, plans, PLANS_SHOWN, &why) : 0;
    }
    if (n)
        call_answer(c, answer_json(p, &a, plans, n));
    else
        call_fail(c, &why);
    free(p);
}

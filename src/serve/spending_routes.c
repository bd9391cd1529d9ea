#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "serve/gate.h"
#include "serve/spending_internal.h"

#include <string.h>

static json_t *number_json(int64_t n) { return n == BUDGET_NO_CAP ? json_null() : json_integer((json_int_t)n); }

static json_t *left_json(int64_t cap, int64_t used) {
    return cap == BUDGET_NO_CAP ? json_null() : json_integer((json_int_t)(cap > used ? cap - used : 0));
}

static json_t *state_json(const struct budget_state *a) {
    const struct budget_cap *cap = &a->cap;
    return json_pack("{s:s, s:s, s:{s:I, s:I, s:o, s:o}, s:{s:I, s:o}, s:{s:I, s:o}}", "who", cap->who, "rule",
                     cap->rule, "tokens", "spent", (json_int_t)a->settled, "reserved", (json_int_t)a->reserved, "cap",
                     number_json(cap->tokens_day), "left", left_json(cap->tokens_day, a->settled + a->reserved),
                     "minute", "requests", (json_int_t)a->minute, "cap", number_json(cap->rpm), "running", "requests",
                     (json_int_t)a->running, "cap", number_json(cap->concurrent));
}

static bool concerns(const struct agent *g, const char *who) {
    if (!strcmp(g->name, who)) return true;
    for (size_t i = 0; who[0] == '@' && i < g->n_groups; i++)
        if (!strcmp(g->groups[i], who + 1)) return true;
    return false;
}

// of: whose accounts, NULL = all; name: those of that name.
static void show(const struct call *c, const struct agent *of, const char *name) {
    const struct policy *policy = authority_policy(c->s);
    json_t *list = json_array();
    struct spending_day day;
    struct budget_now now = spending_now(&day);
    struct budget_state a;
    struct policy_limits limits;
    for (size_t i = 0; !budget_state(c->s->spending->budget, i, now, &a); i++) {
        bool group = a.cap.who[0] == '@';
        if ((of && !concerns(of, a.cap.who)) || (!of && name && strcmp(name, a.cap.who) != 0)) continue;
        if (policy_rule_limits(policy, a.cap.rule, &limits)) continue; // a rule that is not in force any more
        struct budget_cap cap = spending_cap(c->s, a.cap.rule, a.cap.who + group, group, &limits);
        budget_look(c->s->spending->budget, &cap, now, &a);
        json_array_append_new(list, state_json(&a));
    }
    call_answer(c, json_pack("{s:i, s:I, s:I, s:o}", "v", 1, "resets", (json_int_t)day.ends, "resets_s",
                             (json_int_t)(day.ends - (int64_t)(clock_wall_ns() / NS_PER_S)), "budgets", list));
}

void spending_show(const struct call *c) { show(c, caller_is_owner(c->who) ? NULL : c->who->agent, NULL); }

void spending_show_one(const struct call *c) {
    const char *name = strrchr(http_path(c->x), '/') + 1;
    const struct agent *g = agents_find(c->s->agents, name);
    struct err why = {.code = ERR_NONE};
    char shown[2 * AGENT_NAME];
    if (caller_is_owner(c->who) ? g || !strcmp(name, POLICY_OWNER_AGENT) || name[0] == '@' : g && g == c->who->agent) {
        show(c, g, name);
        return;
    }
    text_escape(shown, sizeof shown, name);
    err_set(&why, ERR_NOT_FOUND, "there is no agent '%s' whose budget could be shown: `nebulus agent ls` lists them",
            shown);
    call_fail(c, &why);
}

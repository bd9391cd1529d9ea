// What the files of spending share: spending.c (requests), spending_recall.c (the past), spending_routes.c. Threads:
// the event-loop thread only.
#pragma once

#include "serve/cluster.h"
#include "serve/node.h"
#include "serve/spending.h"
#include "trust/budget.h"
#include "trust/policy_caps.h"

struct spending {
    struct budget *budget;
};

struct spending_day { // of local time
    int64_t number;
    int64_t begins, ends; // seconds since 1970
};
enum { SPENDING_DATE = 16 };
const char *spending_date(int64_t number, char out[SPENDING_DATE]); // "2026-12-31"
struct spending_day spending_day(int64_t wall_s);
struct budget_now spending_now(struct spending_day *day);

// This node's share of what a rule lets an agent, or a group, use.
struct budget_cap spending_cap(const struct serve *s, const char *rule, const char *who, bool group,
                               const struct policy_limits *l);

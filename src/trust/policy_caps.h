// Whom the limits of a decision count. A rule that names an agent as a member of a group ("@g") limits the members of
// that group together; one that names it otherwise, or names nobody, limits each agent by itself, and an agent's
// sub-agents with it: what they use counts for each of the lineage whom the rule concerns. Pure. Threads: any.
#pragma once

#include "trust/policy.h"

struct policy_cap {
    const char *rule; // its id; borrowed from the policy
    const char *who;  // agent or group; borrowed from the subject
    bool group;
    struct policy_limits limits; // 0 = none
};

// Of a decision that allows, by the view of the same subject. Each pair of rule and whom it counts once. Returns how
// many there are, also where that is more than max.
size_t policy_caps(const struct policy_view *v, const struct policy_subject *who, const struct policy_decision *d,
                   struct policy_cap *out, size_t max);

bool policy_limits_tokens(const struct policy *p); // whether any rule does
// The limits of one rule by its id; -1: there is none, or it limits nothing.
int policy_rule_limits(const struct policy *p, const char *rule, struct policy_limits *out) MUST_USE;

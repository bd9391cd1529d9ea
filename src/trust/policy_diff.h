// What a change of the policy changes: both are asked everything that either speaks of. The world that they are asked
// about has every agent, group, model, node and label of their rules (of a pattern: one name that it fits), one of each
// kind that no rule names, the members of several groups that tests name, and each moment at which a rule's hours begin
// or end. What only a combination of patterns would tell apart is not in it. Pure functions. Threads: any; one at a
// time.
#pragma once

#include "trust/policy.h"

enum { POLICY_CELL = 256 };

struct policy_change { // each a list of names, or "any": whatever it is
    char who[POLICY_CELL], model[POLICY_CELL], label[POLICY_CELL], when[POLICY_CELL];
    char where[POLICY_CELL];                  // "prefill on NODE; kv from NODE to NODE"
    bool was, is;                             // allowed
    char before[POLICY_IDS], now[POLICY_IDS]; // the rules, as policy_decision_text says them; limits after them
};

// Calls `each` for every change; those that differ in one thing only are told as one. A moment stands for the time
// until the next one. Returns how many there are, or -1: ERR_LIMIT, where the two policies speak of more than can be
// asked.
typedef void (*policy_change_event)(void *arg, const struct policy_change *c);
long policy_diff(const struct policy *old, const struct policy *now, policy_change_event each, void *arg,
                 struct err *e) MUST_USE;

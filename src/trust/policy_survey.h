// A subject's question about several nodes at once, as `can-i` asks it. Pure functions. Threads: any.
#pragma once

#include "trust/policy.h"

struct policy_survey {
    const struct policy_subject *who;
    const struct policy_node *nodes; // all there are
    size_t n;
    const char *node, *to; // names or ids: only this one (of kv: from here, to there); NULL: any
    int phase;             // -1: a whole job
};

// A question as it comes in JSON: {"agent", "groups", "labels", "model", "phase", "node", "to", "when"}. Without
// "phase" it is about a whole job; groups and labels are none where they are not there. Borrows from the JSON; `nodes`
// and the gateway are the caller's to fill in. Not to be copied: it points into itself.
struct policy_asked {
    struct policy_survey survey;
    struct policy_subject who;
    struct policy_agent agent;
    const char *groups[POLICY_ITEMS], *labels[POLICY_ITEMS];
};
int policy_asked_read(const json_t *o, struct policy_asked *out, struct err *e) MUST_USE;

// {"allow", "policy", "decisions":[{"phase", "node" | "src" and "dst", "allow", "rules", "limits"}]}. Allowed is a
// phase where a decision allows it; a whole job, where some node may read its prompt and the same or another one write
// its answer and have its rows. NULL: out of memory.
json_t *policy_survey(const struct policy *p, const struct policy_survey *q);

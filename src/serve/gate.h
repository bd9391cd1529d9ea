// Who calls, and what each may call: every request passes here (serve/routes.c) before anything looks at it.
// - With a key (`Authorization: Bearer neb_..` or `x-api-key: neb_..`) it is that key's agent. Any other key, two
//   that differ, and a header that comes twice are refused with one answer for all reasons.
// - Without one it is the owner, where the connection comes from this machine; from elsewhere it is refused likewise.
// Labels of a request are the agent's and those of the header `x-nebulus-label: a, b`; a header takes none away. No
// other header says anything about who calls.
#pragma once

#include "serve/call.h"
#include "trust/agents.h"

enum gate_access { GATE_OWNER, GATE_AGENTS, GATE_OPEN }; // who may call a route

enum { GATE_LABELS = 2 * AGENT_LABELS };

// One who calls. Valid as long as the store of agents.
struct caller {
    const struct agent *agent;   // NULL: the owner, without a key
    const struct agent_key *key; // NULL likewise
    size_t n_labels;
    char labels[GATE_LABELS][AGENT_NAME]; // the agent's, then those of the header that it has not
};

struct gate_asked { // what a request says; NULL: nothing
    const char *authorization, *api_key;
    const char *peer; // "127.0.0.1:51234"
};

// 0, or -1 where nobody is to be let in. `agents` may be NULL: there are none.
int gate_identify(const struct agents *agents, const struct gate_asked *asked, int64_t now,
                  struct caller *out) MUST_USE;
// Adds the header's labels. ERR_INVALID (param: the header).
int gate_label(struct caller *who, const char *header, struct err *e) MUST_USE;

bool gate_admits(const struct caller *who, enum gate_access access);
bool caller_is_owner(const struct caller *who);
const char *caller_name(const struct caller *who); // "owner", or the agent's
const char *caller_id(const struct caller *who);   // "owner", or the agent's; for logs

// The caller as policies see it, its model yet to be set. It is asked by its own labels and by those of its request,
// and its ancestors by theirs, so that no label of a request can permit what is not permitted without it. Not to be
// copied: it points into itself, and borrows from the caller.
struct gate_subject {
    struct policy_subject subject;
    struct policy_agent lineage[POLICY_LINEAGE];
    const char *groups[POLICY_LINEAGE][AGENT_GROUPS], *labels[POLICY_LINEAGE][AGENT_LABELS], *asked[GATE_LABELS];
};
void gate_subject(const struct serve *s, const struct caller *who, struct gate_subject *out);

// ---- for routes.c
// Identifies, and answers where the call goes no further: 401, the same for every reason, 403, or 400 for labels.
// Returns 0 where it may go on.
int gate_pass(const struct call *c, enum gate_access access, struct caller *out) MUST_USE;

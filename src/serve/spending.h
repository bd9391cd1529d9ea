// What agents use of what the policy lets them use, on this node: the accounts of trust/budget.h, by the rules that
// permitted a job. A request's flow:
//     spend_begin (reserved: the prompt and the most that may be answered) -> spend_read (what it is really) ->
//     spend_settle, spend_free
// - Counted are tokens of the prompt, also those that were kept, and of the answer, once, however often and wherever
//   they were computed; of a request that failed before its prompt was read, nothing.
// - A day is one of this node's local time. What was spent is found again at the start in the audit logs, where each
//   reservation is a record: what a crash has cut off counts with all that was reserved.
// - What a rule lets a group use together is divided among the roster's nodes, since each may be the gateway of its
//   members. Keys hold at one node only, so that an agent's own budget is spent there alone.
// Threads: the event-loop thread only.
#pragma once

#include "base/paths.h"
#include "serve/authority.h"

struct evidence;
struct record;
struct spending;
struct spend; // of one request

struct spending *spending_new(struct err *e) MUST_USE;
void spending_free(struct spending *p); // NULL is fine
// What the audit logs know of today. Blocks, reads them. A log that cannot be read is no failure: nothing is computed
// then anyway.
void spending_recall(struct serve *s, const struct paths *p);

bool spending_counts_tokens(const struct serve *s); // some rule limits them: it matters how long a prompt is

struct spend_wish {
    const struct authority_look *look; // at `who`, for whom `decision` has permitted the job
    const struct policy_subject *who;
    const struct policy_decision *decision;
    struct record *record;
    int64_t prompt; // tokens, or the most that it can be
    int64_t room;   // of the context; 0 = not known
    int64_t answer; // max_tokens; -1 = as many as there is room for: becomes what the budget has room for
};
// *out is NULL where no limit concerns the request. ERR_RATE or ERR_BUDGET: a limit stands against it, and the answer
// has its `retry-after` header already.
int spend_begin(const struct call *c, struct spend_wish *w, struct spend **out, struct err *e) MUST_USE;
// How long the prompt is, and how many tokens may follow (0 = not told). ERR_BUDGET: it is longer than it seemed, and
// the budget has no room for that. NULL is fine.
int spend_read(struct spend *p, int32_t prompt, int32_t answer, struct err *e) MUST_USE;
// Settles it: `answer` tokens were told. `left`: the client has, while the prompt may have been read. Returns what it
// was charged. Later calls change nothing.
int64_t spend_settle(struct spend *p, int64_t answer, bool left);
json_t *spend_charged_json(const struct spend *p); // what it was charged, once settled
void spend_free(struct spend *p);                  // settled, or NULL
// The headers x-ratelimit-{limit,remaining,reset}-{requests,tokens}: those of its accounts with the least left.
void spend_tell(const struct spend *p, struct http_exchange *x);

void spending_show(const struct call *c);     // GET /nebulus/v1/budget: the owner sees all, agents their own
void spending_show_one(const struct call *c); // GET /nebulus/v1/budget/AGENT

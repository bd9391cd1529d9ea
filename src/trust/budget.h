// Budgets: what agents have used of what a policy's limits let them use - tokens a day, requests a minute, requests at
// a time. An account is a pair of a rule and of whom it counts (an agent, or "@group": its members together). What a
// request may take at most is reserved in all accounts that it concerns before any work, or in none; what it took is
// settled after it. Of each account, after every call that succeeded,
//     settled + reserved <= the cap of that call
// - A day is one of the caller's: a change of its number begins anew. A request counts on the day on which it was
//   reserved. A number that goes back by one begins nothing: clocks are corrected around midnight.
// - Requests a minute are a sliding window of whole seconds: no 60 seconds see more than `rpm`. One may have to wait up
//   to a second longer than needed.
// Pure: no clock, no files. Threads: one at a time.
#pragma once

#include "trust/agents.h"

#define BUDGET_NO_CAP INT64_MAX

enum {
    BUDGET_WHO = AGENT_NAME + 1, // bytes of an agent's name, or of "@group", with the NUL
    BUDGET_CAPS = 32,            // accounts that one request concerns
    BUDGET_ACCOUNTS = 4096,
    BUDGET_WINDOW_S = 60,
};

struct budget_now {
    int64_t second; // >= 0, never goes back
    int64_t day;
};

// What may be used: 0 is nothing, BUDGET_NO_CAP anything.
struct budget_cap {
    char rule[POLICY_ID], who[BUDGET_WHO];
    int64_t tokens_day, rpm, concurrent;
};

struct budget;
struct budget_account;
struct budget *budget_new(struct err *e) MUST_USE;
void budget_free(struct budget *b); // NULL is fine; no hold may be left

// A request's reservation. Zeroed, it holds nothing. Not to be copied while it holds something.
struct budget_hold {
    size_t n;
    struct budget_account *of[BUDGET_CAPS];
    uint64_t turn[BUDGET_CAPS]; // of the account's day
    int64_t tokens;
};

enum budget_kind { BUDGET_TOKENS, BUDGET_RPM, BUDGET_CONCURRENT, BUDGET_KINDS };

struct budget_refusal {
    enum budget_kind kind;
    size_t cap;       // which of those that were asked for
    int64_t used;     // settled + reserved tokens; requests
    int64_t reserved; // of those, tokens of running requests, which may give some back
    int64_t wait_s;   // of BUDGET_RPM: until there is room; else 0
};

// 0: held, to be given back with budget_settle. -1: nothing has changed; *why says what stood against it first, tokens
// before the rate before the number of running requests. n <= BUDGET_CAPS; two caps never name the same account.
// Where BUDGET_ACCOUNTS is full of accounts in use, ERR_LIMIT; else ERR_NONE.
int budget_reserve(struct budget *b, const struct budget_cap *caps, size_t n, struct budget_now now, int64_t tokens,
                   struct budget_hold *hold, struct budget_refusal *why, struct err *e) MUST_USE;
// Another number of tokens for a request that is held: fewer always, more where they fit under the same caps (-1: they
// do not, and nothing has changed).
int budget_change(struct budget_hold *hold, int64_t tokens) MUST_USE;
// The end of a request, which took so many tokens; more than are held count as those. Nothing is held afterwards.
void budget_settle(struct budget_hold *hold, int64_t tokens);

// What is known of the past, after a restart: tokens used, and a request at that second. Without a cap.
int budget_recall(struct budget *b, const char *rule, const char *who, struct budget_now then, int64_t tokens,
                  struct err *e) MUST_USE;

// How an account stands.
struct budget_state {
    struct budget_cap cap; // as of the latest request
    int64_t settled, reserved, running, minute;
    int64_t free_s; // until another request is within rpm; 0: now
};
// The n-th account that has been used today, or whose requests run: 0, or -1 where there are no more.
int budget_state(const struct budget *b, size_t n, struct budget_now now, struct budget_state *out) MUST_USE;
// That of a cap, which need not have been used. Its cap is this one.
void budget_look(const struct budget *b, const struct budget_cap *cap, struct budget_now now, struct budget_state *out);
int64_t budget_reserved(const struct budget *b); // tokens, of each request once

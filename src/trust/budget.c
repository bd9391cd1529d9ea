#include "trust/budget.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECONDS = BUDGET_WINDOW_S + 1 }; // two requests within 60 seconds are at most 60 numbers of seconds apart

struct budget_account {
    struct budget *budget;
    struct budget_cap cap; // of the latest request
    int64_t day, settled, reserved, running;
    uint64_t turn;           // grows with each new day
    int64_t latest;          // second of the latest request
    uint32_t count[SECONDS]; // of requests, by second % SECONDS; of those within SECONDS of the latest
};

struct budget {
    size_t n;
    struct budget_account *accounts[BUDGET_ACCOUNTS];
    int64_t reserved;
};

struct budget *budget_new(struct err *e) {
    struct budget *b = calloc(1, sizeof *b);
    if (!b) err_set(e, ERR_INTERNAL, "out of memory");
    return b;
}

void budget_free(struct budget *b) {
    for (size_t i = 0; b && i < b->n; i++) free(b->accounts[i]);
    free(b);
}

// ---------------------------------------------------------------- days and minutes
static bool is_new_day(const struct budget_account *a, struct budget_now now) {
    return now.day > a->day || now.day < a->day - 1;
}

static void roll(struct budget_account *a, struct budget_now now) {
    if (!is_new_day(a, now)) return;
    a->day = now.day;
    a->settled = a->reserved = 0;
    a->turn++;
}

// Requests in the minute before `second`, which is not before the latest one; *free_s: until they are less than cap.
static int64_t in_minute(const struct budget_account *a, int64_t second, int64_t cap, int64_t *free_s) {
    int64_t sum = 0, left;
    for (int64_t s = second - BUDGET_WINDOW_S; s <= a->latest; s++)
        if (s >= 0 && s > a->latest - SECONDS) sum += a->count[s % SECONDS];
    left = sum;
    *free_s = 0;
    for (int64_t s = second - BUDGET_WINDOW_S; left >= cap && s <= a->latest; s++) {
        if (s >= 0 && s > a->latest - SECONDS) left -= a->count[s % SECONDS];
        ++*free_s;
    }
    return sum;
}

static void count_request(struct budget_account *a, int64_t second) {
    if (second <= a->latest - SECONDS) return;
    for (int64_t s = a->latest + 1; s <= second && s <= a->latest + SECONDS; s++) a->count[s % SECONDS] = 0;
    if (second > a->latest + SECONDS) memset(a->count, 0, sizeof a->count);
    if (second > a->latest) a->latest = second;
    a->count[second % SECONDS]++;
}

// ---------------------------------------------------------------- accounts
static struct budget_account *find(const struct budget *b, const char *rule, const char *who) {
    for (size_t i = 0; i < b->n; i++)
        if (!strcmp(b->accounts[i]->cap.who, who) && !strcmp(b->accounts[i]->cap.rule, rule)) return b->accounts[i];
    return NULL;
}

static bool is_idle(const struct budget_account *a, struct budget_now now) {
    return !a->running && now.second > a->latest + SECONDS && is_new_day(a, now);
}

static void drop_idle(struct budget *b, struct budget_now now) {
    size_t kept = 0;
    for (size_t i = 0; i < b->n; i++)
        if (is_idle(b->accounts[i], now))
            free(b->accounts[i]);
        else
            b->accounts[kept++] = b->accounts[i];
    b->n = kept;
}

static struct budget_account *get(struct budget *b, const char *rule, const char *who, struct budget_now now,
                                  struct err *e) {
    struct budget_account *a = find(b, rule, who);
    if (a) return a;
    if (b->n == BUDGET_ACCOUNTS) drop_idle(b, now);
    if (b->n == BUDGET_ACCOUNTS) {
        err_set(e, ERR_LIMIT, "more than %d budgets are in use today: the policy limits too many agents apart",
                BUDGET_ACCOUNTS);
        return NULL;
    }
    if (!(a = calloc(1, sizeof *a))) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *a = (struct budget_account){.budget = b, .day = now.day, .latest = -1};
    snprintf(a->cap.rule, sizeof a->cap.rule, "%s", rule);
    snprintf(a->cap.who, sizeof a->cap.who, "%s", who);
    a->cap.tokens_day = a->cap.rpm = a->cap.concurrent = BUDGET_NO_CAP;
    return b->accounts[b->n++] = a;
}

// ---------------------------------------------------------------- requests
static bool fits(int64_t used, int64_t more, int64_t cap) { return used <= cap && more <= cap - used; }

// Of one kind. An account without a limit of tokens still counts them: one may be made.
static bool refuses(const struct budget_account *a, const struct budget_cap *cap, enum budget_kind kind, int64_t second,
                    int64_t tokens, struct budget_refusal *why) {
    *why = (struct budget_refusal){.kind = kind};
    switch (kind) {
    case BUDGET_TOKENS:
        why->used = a->settled + a->reserved;
        why->reserved = a->reserved;
        return !fits(why->used, tokens, cap->tokens_day);
    case BUDGET_RPM: why->used = in_minute(a, second, cap->rpm, &why->wait_s); return why->used >= cap->rpm;
    case BUDGET_CONCURRENT: why->used = a->running; return why->used >= cap->concurrent;
    case BUDGET_KINDS: break;
    }
    return false;
}

int budget_reserve(struct budget *b, const struct budget_cap *caps, size_t n, struct budget_now now, int64_t tokens,
                   struct budget_hold *hold, struct budget_refusal *why, struct err *e) {
    struct budget_account *of[BUDGET_CAPS];
    assert(n <= BUDGET_CAPS && tokens >= 0 && tokens < BUDGET_NO_CAP / 2);
    if (e) e->code = ERR_NONE;
    for (size_t i = 0; i < n; i++) {
        if (!(of[i] = get(b, caps[i].rule, caps[i].who, now, e))) return -1;
        roll(of[i], now);
        of[i]->cap = caps[i];
    }
    for (int kind = 0; kind < BUDGET_KINDS; kind++)
        for (size_t i = 0; i < n; i++)
            if (refuses(of[i], &caps[i], (enum budget_kind)kind, now.second, tokens, why)) {
                why->cap = i;
                return -1;
            }
    *hold = (struct budget_hold){.n = n, .tokens = tokens};
    for (size_t i = 0; i < n; i++) {
        hold->of[i] = of[i];
        hold->turn[i] = of[i]->turn;
        of[i]->reserved += tokens;
        of[i]->running++;
        count_request(of[i], now.second);
    }
    if (n) b->reserved += tokens;
    return 0;
}

static bool is_of_today(const struct budget_hold *h, size_t i) { return h->of[i]->turn == h->turn[i]; }

int budget_change(struct budget_hold *h, int64_t tokens) {
    int64_t more = tokens - h->tokens;
    for (size_t i = 0; i < h->n && more > 0; i++) {
        const struct budget_account *a = h->of[i];
        if (is_of_today(h, i) && !fits(a->settled + a->reserved, more, a->cap.tokens_day)) return -1;
    }
    for (size_t i = 0; i < h->n; i++)
        if (is_of_today(h, i)) h->of[i]->reserved += more;
    if (h->n) h->of[0]->budget->reserved += more;
    h->tokens = tokens;
    return 0;
}

void budget_settle(struct budget_hold *h, int64_t tokens) {
    int64_t took = tokens < h->tokens ? tokens : h->tokens;
    if (h->n) h->of[0]->budget->reserved -= h->tokens;
    for (size_t i = 0; i < h->n; i++) {
        struct budget_account *a = h->of[i];
        a->running--;
        if (!is_of_today(h, i)) continue;
        a->reserved -= h->tokens;
        a->settled += took;
    }
    *h = (struct budget_hold){.n = 0};
}

int budget_recall(struct budget *b, const char *rule, const char *who, struct budget_now then, int64_t tokens,
                  struct err *e) {
    struct budget_account *a = get(b, rule, who, then, e);
    if (!a) return -1;
    roll(a, then);
    a->settled += tokens;
    count_request(a, then.second);
    return 0;
}

// ---------------------------------------------------------------- how they stand
static void look(const struct budget_account *a, struct budget_now now, struct budget_state *out) {
    int64_t second = now.second > a->latest ? now.second : a->latest;
    bool old = is_new_day(a, now);
    out->settled = old ? 0 : a->settled;
    out->reserved = old ? 0 : a->reserved;
    out->running = a->running;
    out->minute = in_minute(a, second, out->cap.rpm, &out->free_s);
}

int budget_state(const struct budget *b, size_t n, struct budget_now now, struct budget_state *out) {
    for (size_t i = 0; i < b->n; i++) {
        if (is_idle(b->accounts[i], now) || n--) continue;
        out->cap = b->accounts[i]->cap;
        look(b->accounts[i], now, out);
        return 0;
    }
    return -1;
}

void budget_look(const struct budget *b, const struct budget_cap *cap, struct budget_now now,
                 struct budget_state *out) {
    const struct budget_account *a = find(b, cap->rule, cap->who);
    *out = (struct budget_state){.cap = *cap};
    if (a) look(a, now, out);
}

int64_t budget_reserved(const struct budget *b) { return b->reserved; }

#include "serve/spending.h"
#include "base/clock.h"
#include "base/json.h"
#include "serve/evidence.h"
#include "serve/gate.h"
#include "serve/spending_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_TOKENS = INT32_MAX, CLOCK_OFFSET_S = 3600, DAY_S = 24 * 3600 };

struct spend {
    struct serve *s;
    struct record *record; // borrowed: it ends after this
    struct budget_hold hold;
    int64_t prompt, answer; // tokens; answer: at most, -1 = not known
    int64_t charged;        // -1 = it is not settled
    int64_t day;            // on which it counts
    bool begun;
    size_t n;
    struct budget_cap caps[];
};

struct spending *spending_new(struct err *e) {
    struct spending *p = calloc(1, sizeof *p);
    if (p && (p->budget = budget_new(e))) return p;
    if (!p) err_set(e, ERR_INTERNAL, "out of memory");
    free(p);
    return NULL;
}

void spending_free(struct spending *p) {
    if (!p) return;
    budget_free(p->budget);
    free(p);
}

// ---------------------------------------------------------------- time
static int64_t midnight(const struct tm *day, int later) {
    struct tm at = {.tm_year = day->tm_year, .tm_mon = day->tm_mon, .tm_mday = day->tm_mday + later, .tm_isdst = -1};
    return (int64_t)mktime(&at);
}

struct spending_day spending_day(int64_t wall_s) {
    time_t now = (time_t)wall_s;
    struct tm local;
    if (!localtime_r(&now, &local)) return (struct spending_day){.number = 0};
    struct tm date = {.tm_year = local.tm_year, .tm_mon = local.tm_mon, .tm_mday = local.tm_mday};
    return (struct spending_day){
        .number = (int64_t)timegm(&date) / DAY_S, .begins = midnight(&local, 0), .ends = midnight(&local, 1)};
}

const char *spending_date(int64_t number, char out[SPENDING_DATE]) {
    time_t noon = (time_t)(number * DAY_S + DAY_S / 2);
    struct tm date;
    out[0] = '\0';
    if (gmtime_r(&noon, &date) && !strftime(out, SPENDING_DATE, "%Y-%m-%d", &date)) out[0] = '\0';
    return out;
}

struct budget_now spending_now(struct spending_day *day) {
    *day = spending_day((int64_t)(clock_wall_ns() / NS_PER_S));
    return (struct budget_now){.second = (int64_t)(clock_mono_ns() / NS_PER_S) + CLOCK_OFFSET_S, .day = day->number};
}

// ---------------------------------------------------------------- what may be used here
// All shares of a limit are the limit: what cannot be divided goes to the first nodes, one each.
static int64_t share(int64_t limit, bool group, int64_t nodes, int64_t rank) {
    if (!limit) return BUDGET_NO_CAP;
    return group ? limit / nodes + (rank < limit % nodes) : limit;
}

struct budget_cap spending_cap(const struct serve *s, const char *rule, const char *who, bool group,
                               const struct policy_limits *l) {
    const struct roster *r = cluster_roster(s->cluster);
    int64_t nodes = r && r->n_nodes ? (int64_t)r->n_nodes : 1, rank = 0;
    struct budget_cap cap;
    for (size_t i = 0; r && i < r->n_nodes; i++) rank += strcmp(r->nodes[i].id, node_self(s)) < 0;
    snprintf(cap.rule, sizeof cap.rule, "%s", rule);
    snprintf(cap.who, sizeof cap.who, "%s%s", group ? "@" : "", who);
    cap.tokens_day = share(l->tokens_day, group, nodes, rank);
    cap.rpm = share(l->rpm, group, nodes, rank);
    cap.concurrent = share(l->concurrent, group, nodes, rank);
    return cap;
}

bool spending_counts_tokens(const struct serve *s) { return policy_limits_tokens(authority_policy(s)); }

static struct spend *spend_new(struct serve *s, const struct spend_wish *w, struct err *e) {
    struct policy_cap of[BUDGET_CAPS];
    size_t n = policy_caps(&w->look->view, w->who, w->decision, of, BUDGET_CAPS);
    if (n > BUDGET_CAPS) {
        err_set(e, ERR_LIMIT, "more than %d limits of the policy concern this request", BUDGET_CAPS);
        return NULL;
    }
    struct spend *p = n ? calloc(1, sizeof *p + n * sizeof *p->caps) : NULL;
    if (n && !p) err_set(e, ERR_INTERNAL, "out of memory");
    if (!p) return NULL;
    *p = (struct spend){.s = s, .record = w->record, .n = n, .prompt = w->prompt, .answer = w->answer, .charged = -1};
    for (size_t i = 0; i < n; i++) p->caps[i] = spending_cap(s, of[i].rule, of[i].who, of[i].group, &of[i].limits);
    return p;
}

// ---------------------------------------------------------------- how it stands
struct left {                                           // the least of all accounts
    int64_t tokens, tokens_cap, requests, requests_cap; // BUDGET_NO_CAP: no limit
    int64_t wait_s;                                     // until all requests of the minute are new again
};

static struct left left_of(const struct spend *p, struct budget_now now) {
    struct left l = {BUDGET_NO_CAP, BUDGET_NO_CAP, BUDGET_NO_CAP, BUDGET_NO_CAP, 0};
    for (size_t i = 0; i < p->n; i++) {
        const struct budget_cap *cap = &p->caps[i];
        struct budget_state a;
        budget_look(p->s->spending->budget, cap, now, &a);
        int64_t used = a.settled + a.reserved, tokens = cap->tokens_day > used ? cap->tokens_day - used : 0;
        int64_t requests = cap->rpm > a.minute ? cap->rpm - a.minute : 0;
        if (cap->tokens_day != BUDGET_NO_CAP && tokens < l.tokens) {
            l.tokens = tokens;
            l.tokens_cap = cap->tokens_day;
        }
        if (cap->rpm != BUDGET_NO_CAP && requests < l.requests) {
            l.requests = requests;
            l.requests_cap = cap->rpm;
            l.wait_s = a.free_s;
        }
    }
    return l;
}

static void add_number(struct http_exchange *x, const char *name, int64_t n, const char *unit) {
    char text[32];
    snprintf(text, sizeof text, "%lld%s", (long long)n, unit);
    http_add_header(x, name, text);
}

void spend_tell(const struct spend *p, struct http_exchange *x) {
    struct spending_day day;
    if (!p) return;
    struct budget_now now = spending_now(&day);
    struct left l = left_of(p, now);
    if (l.requests_cap != BUDGET_NO_CAP) {
        add_number(x, "x-ratelimit-limit-requests", l.requests_cap, "");
        add_number(x, "x-ratelimit-remaining-requests", l.requests, "");
        add_number(x, "x-ratelimit-reset-requests", l.wait_s, "s");
    }
    if (l.tokens_cap != BUDGET_NO_CAP) {
        add_number(x, "x-ratelimit-limit-tokens", l.tokens_cap, "");
        add_number(x, "x-ratelimit-remaining-tokens", l.tokens, "");
        add_number(x, "x-ratelimit-reset-tokens", day.ends - (int64_t)(clock_wall_ns() / NS_PER_S), "s");
    }
}

// ---------------------------------------------------------------- a request
static void record_hold(const struct spend *p) {
    json_t *list = json_array();
    char date[SPENDING_DATE];
    for (size_t i = 0; i < p->n; i++)
        json_array_append_new(list, json_pack("{s:s, s:s}", "rule", p->caps[i].rule, "who", p->caps[i].who));
    evidence_note(p->record, ENTRY_RESERVE,
                  json_pack("{s:I, s:s, s:o}", "reserved", (json_int_t)p->hold.tokens, "day",
                            spending_date(p->day, date), "charges", list));
    p->s->metrics.tokens_reserved = budget_reserved(p->s->spending->budget);
}

static int refuse(const struct call *c, const struct spend *p, const struct budget_refusal *r, int64_t tokens,
                  const struct spending_day *day, struct err *e) {
    const struct budget_cap *cap = &p->caps[r->cap];
    int64_t wall = (int64_t)(clock_wall_ns() / NS_PER_S);
    bool later = r->kind != BUDGET_TOKENS || r->used - r->reserved + tokens <= cap->tokens_day; // it may be given back
    int64_t wait = !later ? day->ends - wall : r->wait_s > 0 ? r->wait_s : 1;
    c->s->metrics.budget_refused[r->kind]++;
    add_number(c->x, "retry-after", wait, "");
    if (r->kind == BUDGET_RPM)
        return err_set(e, ERR_RATE, "rule %s lets %s ask %lld times a minute: try again in %lld s", cap->rule, cap->who,
                       (long long)cap->rpm, (long long)wait);
    if (r->kind == BUDGET_CONCURRENT)
        return err_set(e, ERR_RATE, "rule %s lets %s have %lld requests at a time: try again when one has ended",
                       cap->rule, cap->who, (long long)cap->concurrent);
    return err_set(e, later ? ERR_RATE : ERR_BUDGET,
                   "this takes up to %lld tokens, and rule %s lets %s use %lld today, of which %lld are spent%s: %s",
                   (long long)tokens, cap->rule, cap->who, (long long)cap->tokens_day,
                   (long long)(r->used - r->reserved), r->used == r->reserved || !later ? "" : " or being used",
                   later ? "try again when running requests have ended" : "ask for less (max_tokens), or tomorrow");
}

// The most that may be answered, where the client leaves it open: what budget and context have room for, and at least
// one token, for which there may be none.
static int64_t answer_of(const struct spend *p, const struct spend_wish *w, struct budget_now now) {
    int64_t room = w->room > w->prompt ? w->room - w->prompt : w->room ? 1 : MOST_TOKENS;
    if (w->answer >= 0) return w->answer < room ? w->answer : room;
    struct left l = left_of(p, now);
    if (l.tokens == BUDGET_NO_CAP) return w->room ? room : -1;
    int64_t rest = l.tokens > w->prompt ? l.tokens - w->prompt : 1;
    return rest < room ? rest : room;
}

int spend_begin(const struct call *c, struct spend_wish *w, struct spend **out, struct err *e) {
    struct err why = {.code = ERR_NONE};
    struct budget_refusal refusal;
    struct spending_day day;
    struct budget_now now = spending_now(&day);
    struct spend *p = spend_new(c->s, w, &why);
    *out = NULL;
    if (!p && why.code && e) *e = why;
    if (!p) return why.code ? -1 : 0;
    w->answer = p->answer = answer_of(p, w, now);
    int64_t tokens = p->prompt + (p->answer > 0 ? p->answer : 0);
    if (!budget_reserve(c->s->spending->budget, p->caps, p->n, now, tokens, &p->hold, &refusal, &why)) {
        *out = p;
        p->day = now.day;
        record_hold(p);
        return 0;
    }
    if (why.code && e)
        *e = why;
    else
        refuse(c, p, &refusal, tokens, &day, e);
    spend_tell(p, c->x);
    free(p);
    return -1;
}

int spend_read(struct spend *p, int32_t prompt, int32_t answer, struct err *e) {
    int64_t before = p ? p->hold.tokens : 0;
    if (!p || p->begun) return 0;
    p->begun = true;
    p->prompt = prompt > 0 ? prompt : 0;
    if (answer > 0 && (p->answer < 0 || answer < p->answer)) p->answer = answer;
    if (budget_change(&p->hold, p->prompt + (p->answer > 0 ? p->answer : 0)))
        return err_set(e, ERR_BUDGET,
                       "the prompt is longer than it seemed, and this agent's budget has no room for it");
    if (p->hold.tokens != before) record_hold(p);
    return 0;
}

int64_t spend_settle(struct spend *p, int64_t answer, bool left) {
    struct metrics *m = &p->s->metrics;
    int64_t took = (p->begun || left ? p->prompt : 0) + answer;
    if (p->charged >= 0) return p->charged;
    p->charged = took < p->hold.tokens ? took : p->hold.tokens;
    budget_settle(&p->hold, p->charged);
    m->tokens_charged += (uint64_t)p->charged;
    m->tokens_reserved = budget_reserved(p->s->spending->budget);
    return p->charged;
}

json_t *spend_charged_json(const struct spend *p) { return json_integer((json_int_t)p->charged); }

void spend_free(struct spend *p) {
    if (p && p->charged < 0) spend_settle(p, 0, false);
    free(p);
}

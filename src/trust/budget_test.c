#include "trust/budget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct budget *all;
static struct err why;
static struct budget_refusal refusal;

static int setup(void **state) {
    (void)state;
    all = budget_new(&why);
    return all ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    budget_free(all);
    return 0;
}

static struct budget_cap cap_of(const char *rule, const char *who, int64_t tokens, int64_t rpm, int64_t concurrent) {
    struct budget_cap c = {.tokens_day = tokens, .rpm = rpm, .concurrent = concurrent};
    snprintf(c.rule, sizeof c.rule, "%s", rule);
    snprintf(c.who, sizeof c.who, "%s", who);
    return c;
}

static struct budget_state state_of(const struct budget_cap *c, int64_t second, int64_t day) {
    struct budget_state s;
    budget_look(all, c, (struct budget_now){second, day}, &s);
    return s;
}

static int reserve(const struct budget_cap *c, size_t n, int64_t second, int64_t day, int64_t tokens,
                   struct budget_hold *h) {
    return budget_reserve(all, c, n, (struct budget_now){second, day}, tokens, h, &refusal, &why);
}

static void test_tokens(void **state) {
    const struct budget_cap c = cap_of("r", "ann", 100, BUDGET_NO_CAP, BUDGET_NO_CAP);
    struct budget_hold a, b, x;
    (void)state;
    assert_int_equal(reserve(&c, 1, 0, 7, 60, &a), 0);
    assert_int_equal(reserve(&c, 1, 0, 7, 41, &x), -1);
    assert_int_equal(refusal.kind, BUDGET_TOKENS);
    assert_int_equal(refusal.used, 60);
    assert_int_equal(refusal.reserved, 60);
    assert_int_equal(reserve(&c, 1, 0, 7, 40, &b), 0);
    assert_int_equal(budget_change(&b, 41), -1);
    assert_int_equal(budget_change(&a, 50), 0);
    assert_int_equal(budget_change(&b, 50), 0);
    assert_int_equal(budget_reserved(all), 100);
    budget_settle(&a, 20);
    budget_settle(&b, 500); // never more than was reserved
    assert_int_equal(state_of(&c, 0, 7).settled, 70);
    assert_int_equal(state_of(&c, 0, 7).reserved, 0);
    assert_int_equal(budget_reserved(all), 0);
    budget_settle(&a, 5); // holds nothing any more
    assert_int_equal(state_of(&c, 0, 7).settled, 70);
}

static void test_all_or_nothing(void **state) {
    const struct budget_cap c[] = {cap_of("r", "ann", 100, 10, 10), cap_of("r", "@g", 50, 10, 10)};
    struct budget_hold h;
    (void)state;
    assert_int_equal(reserve(c, 2, 0, 7, 60, &h), -1);
    assert_int_equal(refusal.cap, 1);
    assert_int_equal(state_of(&c[0], 0, 7).reserved, 0);
    assert_int_equal(state_of(&c[0], 0, 7).running, 0);
    assert_int_equal(state_of(&c[0], 0, 7).minute, 0);
    assert_int_equal(reserve(c, 2, 0, 7, 50, &h), 0);
    budget_settle(&h, 50);
    assert_int_equal(reserve(c, 2, 0, 7, 1, &h), -1);
    assert_int_equal(reserve(c, 1, 0, 7, 50, &h), 0);
    budget_settle(&h, 0);
}

static void test_a_day_ends(void **state) {
    const struct budget_cap c = cap_of("r", "ann", 100, BUDGET_NO_CAP, BUDGET_NO_CAP);
    struct budget_hold old, h;
    (void)state;
    assert_int_equal(reserve(&c, 1, 0, 7, 90, &old), 0);
    assert_int_equal(reserve(&c, 1, 10, 8, 100, &h), 0); // what runs since yesterday is yesterday's
    assert_int_equal(budget_change(&old, 95), 0);
    budget_settle(&old, 95);
    assert_int_equal(state_of(&c, 10, 8).settled, 0);
    assert_int_equal(state_of(&c, 10, 8).reserved, 100);
    budget_settle(&h, 100);
    assert_int_equal(reserve(&c, 1, 11, 7, 1, &h), -1); // a clock that is put back over midnight gives nothing back
    assert_int_equal(state_of(&c, 11, 9).settled, 0);
}

static void test_a_minute(void **state) {
    const struct budget_cap c = cap_of("r", "ann", BUDGET_NO_CAP, 2, BUDGET_NO_CAP);
    struct budget_hold h;
    (void)state;
    assert_int_equal(reserve(&c, 1, 100, 7, 1, &h), 0);
    budget_settle(&h, 1);
    assert_int_equal(reserve(&c, 1, 130, 7, 1, &h), 0);
    budget_settle(&h, 1);
    assert_int_equal(reserve(&c, 1, 131, 7, 1, &h), -1);
    assert_int_equal(refusal.kind, BUDGET_RPM);
    assert_int_equal(refusal.wait_s, 30);
    assert_int_equal(reserve(&c, 1, 160, 7, 1, &h), -1);
    assert_int_equal(refusal.wait_s, 1);
    assert_int_equal(reserve(&c, 1, 161, 7, 1, &h), 0);
    budget_settle(&h, 1);
    assert_int_equal(state_of(&c, 161, 7).minute, 2);
    assert_int_equal(state_of(&c, 5000, 7).minute, 0);
}

static void test_at_a_time(void **state) {
    const struct budget_cap c = cap_of("r", "ann", BUDGET_NO_CAP, BUDGET_NO_CAP, 1),
                            never = cap_of("r", "bob", BUDGET_NO_CAP, BUDGET_NO_CAP, 0);
    struct budget_hold h, x;
    (void)state;
    assert_int_equal(reserve(&c, 1, 0, 7, 1, &h), 0);
    assert_int_equal(reserve(&c, 1, 0, 8, 1, &x), -1); // also at midnight
    assert_int_equal(refusal.kind, BUDGET_CONCURRENT);
    budget_settle(&h, 1);
    assert_int_equal(reserve(&c, 1, 0, 8, 1, &h), 0);
    budget_settle(&h, 1);
    assert_int_equal(reserve(&never, 1, 0, 8, 1, &h), -1);
}

static void test_the_past(void **state) {
    const struct budget_cap c = cap_of("r", "ann", 100, 2, 1);
    struct budget_state s;
    struct budget_hold h;
    (void)state;
    assert_int_equal(budget_recall(all, "r", "ann", (struct budget_now){40, 7}, 30, &why), 0);
    assert_int_equal(budget_recall(all, "r", "ann", (struct budget_now){20, 7}, 50, &why), 0); // in any order
    assert_int_equal(state_of(&c, 50, 7).settled, 80);
    assert_int_equal(state_of(&c, 50, 7).minute, 2);
    assert_int_equal(reserve(&c, 1, 50, 7, 21, &h), -1);
    assert_int_equal(reserve(&c, 1, 50, 7, 20, &h), -1);
    assert_int_equal(refusal.kind, BUDGET_RPM);
    assert_int_equal(reserve(&c, 1, 81, 7, 20, &h), 0);
    assert_int_equal(budget_state(all, 0, (struct budget_now){81, 7}, &s), 0);
    assert_string_equal(s.cap.who, "ann");
    assert_int_equal(budget_state(all, 1, (struct budget_now){81, 7}, &s), -1);
    budget_settle(&h, 20);
    assert_int_equal(budget_state(all, 0, (struct budget_now){500, 8}, &s), -1); // idle since yesterday
}

static void test_many_accounts(void **state) {
    struct budget_hold h;
    char who[32];
    (void)state;
    for (int i = 0; i < BUDGET_ACCOUNTS; i++) {
        snprintf(who, sizeof who, "a%d", i);
        assert_int_equal(budget_recall(all, "r", who, (struct budget_now){0, 7}, 1, &why), 0);
    }
    const struct budget_cap c = cap_of("r", "one-more", 9, 9, 9);
    assert_int_equal(reserve(&c, 1, 5, 7, 1, &h), -1);
    assert_int_equal(why.code, ERR_LIMIT);
    assert_int_equal(reserve(&c, 1, 500, 8, 1, &h), 0); // those of yesterday have made room
    budget_settle(&h, 1);
}

// ---------------------------------------------------------------- any interleaving (G6)
static uint64_t dice_state;
static int64_t dice(int64_t n) { // splitmix64
    uint64_t z = dice_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (int64_t)((z ^ z >> 31) % (uint64_t)n);
}

enum { ACCOUNTS = 3, RUNNING = 12, STEPS = 60, WORLDS = 5000 };

struct world { // what must be true, kept apart
    struct budget_cap caps[ACCOUNTS];
    struct budget_hold holds[RUNNING];
    int64_t held[RUNNING], day_of[RUNNING];
    unsigned of[RUNNING]; // accounts, as bits; 0: not running
    int64_t spent[ACCOUNTS], asked[ACCOUNTS][STEPS];
    int n_asked[ACCOUNTS];
    int64_t second, day;
};

static void check(const struct world *w) {
    for (int a = 0; a < ACCOUNTS; a++) {
        struct budget_state s = state_of(&w->caps[a], w->second, w->day);
        int64_t reserved = 0, running = 0, recent = 0;
        for (int i = 0; i < RUNNING; i++) {
            if (!(w->of[i] >> a & 1)) continue;
            running++;
            if (w->day_of[i] == w->day) reserved += w->held[i];
        }
        for (int i = 0; i < w->n_asked[a]; i++) recent += w->asked[a][i] >= w->second - BUDGET_WINDOW_S;
        assert_int_equal(s.settled, w->spent[a]);
        assert_int_equal(s.reserved, reserved);
        assert_int_equal(s.running, running);
        assert_int_equal(s.minute, recent);
        assert_true(s.settled + s.reserved <= w->caps[a].tokens_day);
        assert_true(running <= w->caps[a].concurrent && recent <= w->caps[a].rpm);
    }
}

static bool should_fit(const struct world *w, unsigned of, int64_t tokens) {
    for (int a = 0; a < ACCOUNTS; a++) {
        struct budget_state s = state_of(&w->caps[a], w->second, w->day);
        if (of >> a & 1 && (s.settled + s.reserved + tokens > w->caps[a].tokens_day ||
                            s.running + 1 > w->caps[a].concurrent || s.minute + 1 > w->caps[a].rpm))
            return false;
    }
    return true;
}

static void begin(struct world *w, int i) {
    struct budget_cap caps[ACCOUNTS];
    unsigned of = 1 + (unsigned)dice((1 << ACCOUNTS) - 1);
    int64_t tokens = dice(60);
    size_t n = 0;
    for (int a = 0; a < ACCOUNTS; a++)
        if (of >> a & 1) caps[n++] = w->caps[a];
    bool fits = should_fit(w, of, tokens);
    assert_int_equal(reserve(caps, n, w->second, w->day, tokens, &w->holds[i]), fits ? 0 : -1);
    if (!fits) return;
    w->of[i] = of;
    w->held[i] = tokens;
    w->day_of[i] = w->day;
    for (int a = 0; a < ACCOUNTS; a++)
        if (of >> a & 1) w->asked[a][w->n_asked[a]++] = w->second;
}

static void end(struct world *w, int i) {
    int64_t took = dice(80);
    budget_settle(&w->holds[i], took);
    for (int a = 0; a < ACCOUNTS; a++)
        if (w->of[i] >> a & 1 && w->day_of[i] == w->day) w->spent[a] += took < w->held[i] ? took : w->held[i];
    w->of[i] = 0;
}

static void step(struct world *w) {
    int i = (int)dice(RUNNING);
    int64_t tokens = dice(80);
    if (!dice(8)) w->second += dice(40);
    if (!dice(40)) {
        w->day++;
        memset(w->spent, 0, sizeof w->spent);
    }
    if (!w->of[i])
        begin(w, i);
    else if (dice(3))
        end(w, i);
    else if (!budget_change(&w->holds[i], tokens))
        w->held[i] = tokens;
}

static void test_any_interleaving(void **state) {
    (void)state;
    for (int n = 0; n < WORLDS; n++) {
        struct world w = {.second = dice(100), .day = 7};
        for (int a = 0; a < ACCOUNTS; a++) {
            char who[16];
            snprintf(who, sizeof who, "w%d", a);
            w.caps[a] = cap_of("r", who, 50 + dice(300), 1 + dice(20), 1 + dice(6));
        }
        for (int i = 0; i < STEPS; i++) {
            step(&w);
            check(&w);
        }
        for (int i = 0; i < RUNNING; i++)
            if (w.of[i]) end(&w, i);
        check(&w);
        assert_int_equal(budget_reserved(all), 0);
        budget_free(all);
        all = budget_new(&why);
        assert_non_null(all);
    }
}

int main(void) {
    dice_state = 5;
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_tokens),        T(test_all_or_nothing),  T(test_a_day_ends),
                                       T(test_a_minute),      T(test_at_a_time),       T(test_the_past),
                                       T(test_many_accounts), T(test_any_interleaving)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

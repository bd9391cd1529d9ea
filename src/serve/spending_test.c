// What requests reserve and are charged, and what is found of it in a log. What clients see of it, budget_test.py asks
// real daemons.
#include "audit/entry.h"
#include "audit/walk.h"
#include "base/clock.h"
#include "base/folder_fixture.h"
#include "serve/serve.h"
#include "serve/spending_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char document[] = "{\"v\":1,\"rules\":["
                               "{\"id\":\"day\",\"effect\":\"permit\",\"limits\":{\"tokens_day\":1000}},"
                               "{\"id\":\"rate\",\"effect\":\"permit\",\"models\":[\"fast\"],\"limits\":{\"rpm\":9}},"
                               "{\"id\":\"none\",\"effect\":\"permit\",\"agents\":[\"!owner\"],\"models\":[\"x\"]}]}";

static struct serve s; // no cluster, no log
static struct paths paths;
static struct err why;

static void keep(const char *text) {
    struct policy *p = policy_read(text, strlen(text), &why);
    assert_non_null(p);
    assert_int_equal(authority_keep(&s, p, &why), 0);
}

static int setup(void **state) {
    (void)state;
    memset(&s, 0, sizeof s);
    snprintf(paths.state, sizeof paths.state, "/tmp/nebulus-spending-XXXXXX");
    assert_non_null(mkdtemp(paths.state));
    assert_non_null(s.authority = authority_new(&paths, &why));
    assert_non_null(s.spending = spending_new(&why));
    keep(document);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    spending_free(s.spending);
    authority_free(s.authority);
    return folder_remove(paths.state);
}

static struct budget_state state_of(const char *rule) {
    const struct policy_limits limits = {.tokens_day = 1000};
    struct spending_day day;
    struct budget_cap cap = spending_cap(&s, rule, POLICY_OWNER_AGENT, false, &limits);
    struct budget_state a;
    budget_look(s.spending->budget, &cap, spending_now(&day), &a);
    return a;
}

// The owner's request; *answer becomes what it may answer.
static struct spend *begin(const char *model, int64_t prompt, int64_t room, int64_t *answer) {
    struct call c = {.s = &s};
    struct policy_subject who = authority_owner(&s);
    struct authority_look look;
    struct policy_decision d;
    struct spend_wish w = {
        .look = &look, .who = &who, .decision = &d, .prompt = prompt, .room = room, .answer = *answer};
    struct spend *p = NULL;
    who.model = model;
    authority_look(&s, &who, &look);
    authority_decide(&look, POLICY_DECODE, "", &d);
    assert_true(d.allow);
    assert_int_equal(spend_begin(&c, &w, &p, &why), 0);
    *answer = w.answer;
    return p;
}

static void test_what_is_reserved(void **state) {
    int64_t answer = 100;
    struct spend *p = begin("m", 50, 0, &answer);
    (void)state;
    assert_int_equal(state_of("day").reserved, 150);
    assert_int_equal(spend_read(p, 40, 90, &why), 0); // shorter than it seemed, and the context has room for less
    assert_int_equal(state_of("day").reserved, 130);
    assert_int_equal(spend_read(p, 9999, 0, &why), 0); // only the first time
    assert_int_equal(s.metrics.tokens_reserved, 130);
    assert_int_equal(spend_settle(p, 7, false), 47);
    assert_int_equal(spend_settle(p, 50, true), 47);
    spend_free(p);
    assert_int_equal(state_of("day").settled, 47);
    assert_int_equal(state_of("day").reserved, 0);
    assert_int_equal(state_of("day").running, 0);
}

static void test_an_answer_is_as_long_as_there_is_room(void **state) {
    int64_t by_budget = -1, by_context = -1, rest = -1, given = 500, without = -1;
    struct spend *context = begin("m", 50, 200, &by_context), *asked = begin("m", 50, 200, &given);
    (void)state;
    assert_int_equal(by_context, 150);
    assert_int_equal(given, 150);
    spend_free(asked);
    struct spend *budget = begin("m", 50, 0, &by_budget);
    assert_int_equal(by_budget, 750);
    assert_int_equal(spend_read(budget, 50, 700, &why), 0);
    struct spend *last = begin("m", 20, 4096, &rest);
    assert_int_equal(rest, 30);
    spend_free(last);
    spend_free(budget);
    spend_free(context);
    assert_int_equal(s.metrics.tokens_charged, 50); // the prompt that was read
    keep("{\"v\":1,\"rules\":[{\"id\":\"rate\",\"effect\":\"permit\",\"limits\":{\"rpm\":9}}]}");
    struct spend *rate = begin("m", 50, 0, &without); // no limit of tokens: they are counted all the same
    assert_int_equal(without, -1);
    assert_int_equal(spend_read(rate, 50, 4000, &why), 0);
    assert_int_equal(spend_settle(rate, 3000, false), 3050);
    spend_free(rate);
}

static void test_a_prompt_that_is_longer_than_it_seemed(void **state) {
    int64_t answer = 900;
    struct spend *p = begin("m", 50, 0, &answer);
    (void)state;
    assert_int_equal(spend_read(p, 101, 900, &why), -1);
    assert_int_equal(why.code, ERR_BUDGET);
    assert_int_equal(spend_settle(p, 0, false), 101); // it may have been read
    spend_free(p);
    assert_int_equal(state_of("day").settled, 101);
}

static void test_who_leaves(void **state) {
    int64_t answer = 10;
    struct spend *left = begin("m", 50, 0, &answer), *failed = begin("m", 60, 0, &answer);
    (void)state;
    assert_int_equal(spend_settle(left, 0, true), 50);
    assert_int_equal(spend_settle(failed, 0, false), 0);
    spend_free(left);
    spend_free(failed);
}

static void test_no_limit(void **state) {
    int64_t answer = 5;
    (void)state;
    assert_true(spending_counts_tokens(&s));
    keep("{\"v\":1,\"rules\":[{\"id\":\"all\",\"effect\":\"permit\"}]}");
    assert_null(begin("m", 5, 0, &answer));
    assert_false(spending_counts_tokens(&s));
}

// ---------------------------------------------------------------- the past
static FILE *log_file;
static uint64_t records;

static void put(enum entry_type type, int64_t intent, const char *rest) {
    struct record_begin begin_of = {
        .seq = records++, .type = type, .intent = intent < 0 ? RECORD_ALONE : (uint64_t)intent};
    char begin_text[RECORD_BEGIN], text[1024];
    uint8_t head[ENTRY_HEAD];
    size_t n;
    record_begin_write(&begin_of, begin_text, &n);
    int len = snprintf(text, sizeof text, "%.*s%s", (int)n, begin_text, rest);
    entry_head(type, text, (size_t)len, head);
    assert_int_equal(fwrite(head, 1, sizeof head, log_file), sizeof head);
    assert_int_equal(fwrite(text, 1, (size_t)len, log_file), (size_t)len);
}

static void put_reserve(int64_t intent, int tokens, int days_ago, const char *charges) {
    char text[512], date[SPENDING_DATE];
    struct spending_day today;
    struct budget_now now = spending_now(&today);
    snprintf(text, sizeof text, "\"reserved\":%d,\"day\":\"%s\",\"charges\":%s,\"t\":{\"wall\":%lld}}", tokens,
             spending_date(now.day - days_ago, date), charges, (long long)clock_wall_ns());
    put(ENTRY_RESERVE, intent, text);
}

#define DAY "[{\"rule\":\"day\",\"who\":\"owner\"}]"

static void test_the_past(void **state) {
    static const char *const folders[] = {"audit", "audit/000001-00000000"};
    char path[PATH_SIZE + 32];
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", paths.state, folders[i]);
        assert_int_equal(path_make_dir(path, &why), 0);
    }
    snprintf(path, sizeof path, "%s/%s/" AUDIT_LOG, paths.state, folders[1]);
    assert_non_null(log_file = fopen(path, "w"));
    records = 0;
    for (int i = 0; i < 6; i++) put(ENTRY_INTENT, -1, "\"agent\":\"owner\"}");
    put_reserve(0, 100, 0, DAY);
    put_reserve(0, 40, 0, DAY); // in place of the 100
    put_reserve(1, 50, 0, DAY);
    put_reserve(2, 300, 1, DAY); // yesterday's, whenever it ends
    put_reserve(3, 20, 0, "[{\"rule\":5},{\"rule\":\"day\",\"who\":\"owner\"}]");
    put_reserve(4, 5, 0, DAY);
    put(ENTRY_OUTCOME, 0, "\"charged\":30,\"finish\":\"stop\"}");
    put(ENTRY_OUTCOME, 1, "\"finish\":\"abort\"}"); // all of it
    put(ENTRY_OUTCOME, 2, "\"charged\":200,\"finish\":\"stop\"}");
    put(ENTRY_OUTCOME, 3, "\"charged\":999,\"finish\":\"stop\"}"); // more than there was
    put(ENTRY_OUTCOME, 5, "\"finish\":\"stop\"}");
    assert_int_equal(fwrite("torn", 1, 4, log_file), 4); // 4 has no outcome
    assert_int_equal(fclose(log_file), 0);
    spending_recall(&s, &paths);
    assert_int_equal(state_of("day").settled, 30 + 50 + 20 + 5);
    assert_int_equal(state_of("day").minute, 4);
    assert_int_equal(state_of("day").running, 0);
}

static void test_days(void **state) {
    char date[SPENDING_DATE];
    struct spending_day a = spending_day(1798761599), b = spending_day(1798761599 + 24 * 3600);
    (void)state;
    assert_int_equal(b.number, a.number + 1); // over a new year, too
    assert_true(a.begins <= 1798761599 && 1798761599 < a.ends);
    assert_int_equal(a.ends, b.begins);
    assert_string_equal(spending_date(0, date), "1970-01-01");
    assert_string_equal(spending_date(20818, date), "2026-12-31");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_reserved, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_answer_is_as_long_as_there_is_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_prompt_that_is_longer_than_it_seemed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_past, setup, teardown),
        cmocka_unit_test(test_days)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

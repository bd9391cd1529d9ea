#include "base/json.h"
#include "trust/policy_subject.h"
#include "trust/policy_survey.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// Reading on prime, writing on edge, rows only from prime to edge; nothing private.
static const char rules[] =
    "{\"v\":1,\"rules\":["
    "{\"id\":\"r\",\"effect\":\"permit\",\"agents\":[\"ann\",\"@g\"],\"phases\":[\"prefill\"],\"nodes\":[\"prime\"]},"
    "{\"id\":\"w\",\"effect\":\"permit\",\"agents\":[\"ann\",\"@g\"],\"phases\":[\"decode\"],\"nodes\":[\"@small\"]},"
    "{\"id\":\"k\",\"effect\":\"permit\",\"phases\":[\"kv\"],\"src\":[\"prime\"],\"dst\":[\"edge\"]},"
    "{\"id\":\"p\",\"effect\":\"forbid\",\"phases\":[\"kv\"],\"labels\":[\"private\"]}]}";
static const char *const small[] = {"small"}, *const none[1];
static const struct policy_node nodes[] = {{"id1", "prime", {none, 0}}, {"id2", "edge", {small, 1}}};

static json_t *ask(const char *question, struct err *e) {
    struct policy_asked q;
    struct policy *p = policy_read(rules, strlen(rules), e);
    json_t *o = json_parse(question, strlen(question), e), *answer = NULL;
    assert_non_null(p);
    assert_non_null(o);
    if (!policy_asked_read(o, &q, e)) {
        q.survey.nodes = nodes;
        q.survey.n = 2;
        answer = policy_survey(p, &q.survey);
    }
    json_decref(o);
    policy_free(p);
    return answer;
}

static void expect(const char *question, bool allow, size_t decisions) {
    struct err e = {.code = ERR_NONE};
    json_t *answer = ask(question, &e);
    if (!answer) fail_msg("%s: %s", question, e.msg);
    if (json_is_true(json_object_get(answer, "allow")) != allow) fail_msg("%s", question);
    assert_int_equal(json_array_size(json_object_get(answer, "decisions")), decisions);
    json_decref(answer);
}

static void test_whole_jobs_and_phases(void **state) {
    (void)state;
    expect("{\"agent\":\"ann\",\"model\":\"m\"}", true, 5); // two nodes twice, and the edge between the two that may
    expect("{\"agent\":\"bob\",\"model\":\"m\"}", false, 4);
    expect("{\"agent\":\"bob\",\"groups\":[\"g\"],\"model\":\"m\"}", true, 5);
    expect("{\"agent\":\"ann\",\"model\":\"m\",\"labels\":[\"private\"]}", false, 5); // the rows may not travel
    expect("{\"agent\":\"ann\",\"model\":\"m\",\"node\":\"prime\"}", false, 2);
    expect("{\"agent\":\"ann\",\"model\":\"m\",\"phase\":\"decode\"}", true, 2);
    expect("{\"agent\":\"ann\",\"model\":\"m\",\"phase\":\"decode\",\"node\":\"prime\"}", false, 1);
    expect("{\"agent\":\"ann\",\"model\":\"m\",\"phase\":\"kv\"}", true, 2);
    expect("{\"agent\":\"ann\",\"model\":\"m\",\"phase\":\"kv\",\"node\":\"id2\"}", false, 1);
    expect("{\"agent\":\"ann\",\"model\":\"m\",\"phase\":\"kv\",\"node\":\"prime\",\"to\":\"edge\"}", true, 1);
}

static void test_faults(void **state) {
    (void)state;
    static const char *const faults[] = {
        "{\"model\":\"m\"}",
        "{\"agent\":\"ann\"}",
        "{\"agent\":1,\"model\":\"m\"}",
        "{\"agent\":\"ann\",\"model\":\"m\",\"phase\":\"tandem\"}",
        "{\"agent\":\"ann\",\"model\":\"m\",\"groups\":\"g\"}",
        "{\"agent\":\"ann\",\"model\":\"m\",\"labels\":[1]}",
        "{\"agent\":\"ann\",\"model\":\"m\",\"when\":\"noon\"}",
        "{\"agent\":\"ann\",\"model\":\"m\",\"to\":\"edge\"}",
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct err e = {.code = ERR_NONE};
        if (ask(faults[i], &e)) fail_msg("answered: %s", faults[i]);
        assert_int_equal(e.code, ERR_INVALID);
    }
}

// The copy says the same when everything that it was made of is gone.
static void test_copied_subjects(void **state) {
    (void)state;
    char id[] = "ann", group[] = "g", label[] = "private", model[] = "m", gateway[] = "id1";
    const char *groups[] = {group, group}, *labels[] = {label};
    struct policy_agent lineage[] = {{id, {groups, 2}, {NULL, 0}}, {NULL, {NULL, 0}, {labels, 1}}};
    struct policy_subject who = {lineage, 2, {labels, 1}, model, gateway, {true, 3, 600}};
    struct policy_subject *copy = policy_subject_copy(&who), *empty;
    assert_non_null(copy);
    memset(id, 'x', 3);
    memset(group, 'x', 1);
    memset(label, 'x', 7);
    memset(model, 'x', 1);
    memset(gateway, 'x', 3);
    memset(lineage, 0, sizeof lineage);
    assert_int_equal(copy->n, 2);
    assert_string_equal(copy->lineage[0].id, "ann");
    assert_int_equal(copy->lineage[0].groups.n, 2);
    assert_string_equal(copy->lineage[0].groups.v[1], "g");
    assert_null(copy->lineage[1].id);
    assert_null(copy->lineage[1].groups.v);
    assert_null(copy->lineage[0].labels.v);
    assert_string_equal(copy->lineage[1].labels.v[0], "private");
    assert_string_equal(copy->labels.v[0], "private");
    assert_string_equal(copy->model, "m");
    assert_string_equal(copy->gateway, "id1");
    assert_true(copy->when.known && copy->when.minute == 600);
    free(copy);
    who = (struct policy_subject){.labels = {none, 0}};
    empty = policy_subject_copy(&who);
    assert_non_null(empty);
    assert_non_null(empty->labels.v); // known to be none
    assert_null(empty->model);
    free(empty);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_whole_jobs_and_phases), cmocka_unit_test(test_faults),
                                       cmocka_unit_test(test_copied_subjects)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// The tests that a policy's document brings along, and that must pass before it is applied:
//     {"note":TEXT, "expect":"permit"|"deny", "rules":["r7"], "agent":ID, "groups":[..], "labels":[..], "model":NAME,
//      "phase":"prefill"|"decode"|"kv", "node":NODE, "src":NODE, "dst":NODE, "gateway":NODE_ID, "when":"Mon 09:30"}
//     NODE = {"name":NAME, "id":ID, "labels":[..]}
// Expected are also the determining rules, where "rules" is there. A test without groups or labels means none; what
// else it leaves out is not known, which permits do not put up with. A question of phase kv has src and dst, another
// one a node. Pure functions. Threads: any.
#pragma once

#include "trust/policy.h"

enum { POLICY_TESTS = 1024 };

// How many tests there are, and how many fail; `each` (may be NULL) hears of every one: what was expected and decided,
// in words.
typedef void (*policy_test_event)(void *arg, size_t number, bool passed, const char *what);
size_t policy_tests_run(const struct policy *p, policy_test_event each, void *arg, size_t *failed);

// Fails with ERR_INVALID and the first test that fails.
int policy_tests_pass(const struct policy *p, struct err *e) MUST_USE;

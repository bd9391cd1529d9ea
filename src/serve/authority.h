// Who may run what where, on this node: the policy in force, and the one place that asks it. In force is the policy of
// the cluster's roster; on a node that belongs to no cluster that of its home (state/policy.json); without either the
// one that is built in (trust/policy.h). Where the home's cannot be read, nothing is permitted. Threads: the event-loop
// thread only.
#pragma once

#include "base/paths.h"
#include "cluster/peers.h"
#include "serve/call.h"
#include "trust/policy.h"

struct authority;
struct authority *authority_new(const struct paths *p, struct err *e) MUST_USE;
void authority_free(struct authority *a); // NULL is fine

const struct policy *authority_policy(const struct serve *s); // never NULL; borrowed until the loop goes on
bool authority_is_builtin(const struct serve *s);
const char *
authority_trouble(const struct serve *s);      // why the home's policy cannot be read; NULL: it can, or is not used
void authority_changed(const struct serve *s); // the policy in force may be another one now: says so in the log
// Takes p over: it is the home's from now on, and kept. Fails where its tests do, or the file cannot be written; the
// old one stays.
int authority_keep(const struct serve *s, struct policy *p, struct err *e) MUST_USE;

// The local owner, who asks here without labels; its model is yet to be set. Borrowed until the loop goes on.
struct policy_subject authority_owner(const struct serve *s);
struct policy_time authority_now(void); // not known where the clock was obviously never set

// ---- questions; nodes by their ids
struct authority_look { // at what concerns one subject
    const struct serve *s;
    struct policy_view view;
};
void authority_look(const struct serve *s, const struct policy_subject *who, struct authority_look *out);
void authority_decide(const struct authority_look *l, enum policy_phase phase, const char *node,
                      struct policy_decision *out);
void authority_decide_kv(const struct authority_look *l, const char *src, const char *dst, struct policy_decision *out);

// Of many nodes, each of which is looked up once.
void authority_spot(const struct authority_look *l, const char *node, struct policy_spot *out);
struct authority_sight {
    struct policy_spot spot;
    bool reads, writes; // what it may do
};
void authority_see(const struct authority_look *l, const char *node, struct authority_sight *out);
bool authority_sends(const struct authority_look *l, const struct authority_sight *src,
                     const struct authority_sight *dst); // rows may travel

// Whether a job may be read at one node and written at another one (or the same), its rows going there: 0, or
// ERR_DENIED and one line that names rules and nothing else of the policy. *writes_on (may be NULL): whether the node
// that reads may write, too.
int authority_place(const struct serve *s, const struct policy_subject *who, const char *prefill, const char *decode,
                    bool *writes_on, struct err *e) MUST_USE;
// The same of one thing that a node is to do, and of rows on their way.
int authority_check(const struct serve *s, const struct policy_subject *who, enum policy_phase phase, const char *node,
                    struct err *e) MUST_USE;
int authority_check_kv(const struct serve *s, const struct policy_subject *who, const char *src, const char *dst,
                       struct err *e) MUST_USE;

// ---- routes
void authority_show(const struct call *c);  // GET /nebulus/v1/policy
void authority_apply(const struct call *c); // POST /nebulus/v1/policy, on a node without a cluster
void authority_can_i(const struct call *c); // POST /nebulus/v1/can-i

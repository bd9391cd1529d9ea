// The policy: who may run what where. One strict JSON document,
//     {"v":1, "note":TEXT, "rules":[
//       {"id":"r7", "effect":"permit", "agents":["@research"], "models":["llama-*"],
//       "phases":["prefill","decode","kv"],
//        "nodes":["@office"], "labels":["internal"], "hours":"Mon-Fri 08:00-20:00",
//        "limits":{"tokens_day":200000, "rpm":30, "concurrent":2}},
//       {"id":"f1", "effect":"forbid", "phases":["kv"], "labels":["private"], "dst":["!@home"]}],
//      "tests":[see policy_tests.h]}
// in which an unknown, duplicate, wrongly typed or empty member refuses the whole. Rules are order-free. A rule
// concerns a question where all of its members do; a member that is not there concerns everything.
// - agents, models, nodes, src, dst, labels are lists of names, in which * stands for any text and ? for any character.
//   "@x" is a group of an agent or a label of a node; "!x" excludes. A list concerns what one of its plain items
//   matches (anything, where it has none) and no excluding one does.
// - src and dst are the ends of a KV transfer, for rules of the one phase kv. `nodes` means both ends there.
// - Where a list is asked about several things (labels of a request, both ends), a permit must concern all of them, a
//   forbid any. A request without labels has one that no item matches, not even *.
// - hours: see policy_hours.h. limits are a permit's.
// Default deny, and forbid wins. What a question does not know (NULL) may be anything: a forbid concerns it if it
// could, a permit only if it must. Built in is, beside a document, the permit POLICY_OWNER_LOCAL: agent `owner` may
// prefill and decode on the node at which it asks; without one, POLICY_OWNER: `owner` may do everything, nobody else
// anything. Pure functions; what is read is not changed any more. Threads: any.
#pragma once

#include "trust/keys.h"
#include <jansson.h>

#define POLICY_OWNER       "builtin-owner"
#define POLICY_OWNER_LOCAL "builtin-owner-local"
#define POLICY_OWNER_AGENT "owner"

enum {
    POLICY_BYTES = 384 << 10, // a document, also a canonical one
    POLICY_RULES = 1023,      // beside the one that is built in
    POLICY_ITEMS = 64,        // of one list
    POLICY_DISTINCT = 16384,  // different items of all lists of one member
    POLICY_NAME = 130,        // bytes of an item, with the NUL
    POLICY_ID = 64,           // bytes of a rule's id, with the NUL
    POLICY_NOTE = 1024,       // bytes of a note
    POLICY_LINEAGE = 8,       // an agent and its ancestors
    POLICY_WORDS = (POLICY_RULES + 1) / 64,
    POLICY_IDS = 400, // bytes of a list of ids in a message
};

enum policy_phase { POLICY_PREFILL, POLICY_DECODE, POLICY_KV, POLICY_PHASES };
const char *policy_phase_name(enum policy_phase p); // "prefill", "decode", "kv"
int policy_phase_of(const char *name);              // -1: none of them

struct policy; // a document that was accepted

// Fails with ERR_INVALID or ERR_LIMIT and one line that names the place.
struct policy *policy_read(const char *text, size_t n, struct err *e) MUST_USE;
struct policy *policy_builtin(struct err *e) MUST_USE;                      // what holds without a document
struct policy *policy_copy(const struct policy *p, struct err *e) MUST_USE; // not of the built-in one
void policy_free(struct policy *p);                                         // NULL is fine

// The canonical document: no blanks, members sorted, rules by id; its SHA-256 names the policy. Borrowed.
const char *policy_text(const struct policy *p, size_t *n);
const json_t *policy_document(const struct policy *p); // the same, parsed
const uint8_t *policy_digest(const struct policy *p);  // DIGEST_BYTES
size_t policy_rules(const struct policy *p);           // how many, with the one that is built in

// ---------------------------------------------------------------- questions; all of it is borrowed
struct policy_names {
    const char *const *v; // NULL: not known
    size_t n;
};

struct policy_agent {
    const char *id; // NULL: not known
    struct policy_names groups;
    struct policy_names labels; // by which it is asked; v = NULL: those of the request
};

struct policy_time { // what the clock on the wall of the node that decides shows
    bool known;
    int day, minute; // 0 is Monday; of the day
};

struct policy_subject {                 // who asks for what: the same for all that a job does
    const struct policy_agent *lineage; // the agent, its parent, and so on: each of them must be permitted
    size_t n;                           // 0: not known who
    struct policy_names labels;         // of the request
    const char *model;                  // its whole name
    const char *gateway;                // id of the node at which the agent asked
    struct policy_time when;
};

struct policy_node {
    const char *id, *name; // the id is NULL where there is none
    struct policy_names labels;
};

// ---------------------------------------------------------------- decisions
struct policy_decision {
    bool allow;
    int stopped;                  // place in the lineage of the first who is not permitted; -1
    uint64_t rules[POLICY_WORDS]; // that determine it: the permits, or the forbids (none: nothing permits it)
};

// A node is NULL where it is not known. policy_decide is about prefill and decode, policy_decide_kv about rows from src
// to dst.
void policy_decide(const struct policy *p, const struct policy_subject *who, enum policy_phase phase,
                   const struct policy_node *node, struct policy_decision *out);
void policy_decide_kv(const struct policy *p, const struct policy_subject *who, const struct policy_node *src,
                      const struct policy_node *dst, struct policy_decision *out);

// The same for many nodes: what concerns a subject is found once, and what concerns a node, too. Valid as long as p.
struct policy_view {
    const struct policy *policy;
    const char *gateway; // borrowed
    size_t n;            // 1..POLICY_LINEAGE; more deny everything
    bool too_many;
    uint64_t rules[POLICY_LINEAGE][POLICY_WORDS];
};
struct policy_spot { // a node, as rules of this view see it
    uint64_t at[POLICY_WORDS], src[POLICY_WORDS], dst[POLICY_WORDS];
};
void policy_view(const struct policy *p, const struct policy_subject *who, struct policy_view *out);
void policy_view_node(const struct policy_view *v, const struct policy_node *node, struct policy_spot *out);
void policy_view_decide(const struct policy_view *v, enum policy_phase phase, const struct policy_spot *spot,
                        struct policy_decision *out);
void policy_view_decide_kv(const struct policy_view *v, const struct policy_spot *src, const struct policy_spot *dst,
                           struct policy_decision *out);

// Both must be allowed; of denials the rules of all, else those of all permits.
void policy_decision_join(struct policy_decision *d, const struct policy_decision *also);

// The ids in order, borrowed; at most POLICY_RULES + 1. Returns how many there are.
size_t policy_decision_ids(const struct policy *p, const struct policy_decision *d, const char **out, size_t max);
// "rules f1, f2 forbid it", "no rule permits it", "rule r7": for messages that may not say more; as many as fit.
void policy_decision_text(const struct policy *p, const struct policy_decision *d, char *out, size_t size);
json_t *policy_decision_json(const struct policy *p, const struct policy_decision *d); // {allow, rules, limits, policy}

// Of each limit the least among the permits that determine d: limit = min over all questions of a job, over all its
// ancestors, over all matching permits. 0 = none. The strictest, so that one permit for all can cap them; what has more
// than others is excluded from that one.
struct policy_limits {
    int64_t tokens_day, rpm, concurrent;
};
struct policy_limits policy_limits(const struct policy *p, const struct policy_decision *d);

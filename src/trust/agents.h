// Agents: who may ask this node for anything. Each has a name, groups and labels, and keys of which only the SHA-256 is
// kept. A name is never used again, so that policies, budgets and records can call an agent by it. They live in
// agents.json of a folder, mode 0600,
//     {"v":1, "agents":[{id,name,groups[],labels[],parent,created,expires,revoked,keys[{id,sha256,created}]}]}
// in the order in which they were made: an unknown, missing or duplicate member refuses the whole, and so does a
// sub-agent that may more than its parent. A file that cannot be read is an error, never "no agents".
// A sub-agent may only narrow: its groups are some of its parent's, its labels all of its parent's or more (a label
// makes what it asks stricter), it expires no later, and ends with its parent.
// The agent "owner" is the person at this machine; it is in the file only for its keys, and always holds.
// Threads: one at a time. Times are seconds since 1970.
#pragma once

#include "trust/policy.h"

enum {
    AGENTS_MOST = 1024, // ever made
    AGENT_ID = 24,      // bytes of an id, with the NUL
    AGENT_NAME = 64,    // of a name, group or label, with the NUL; see roster_is_name
    AGENT_GROUPS = 16,
    AGENT_LABELS = 16,
    AGENT_KEYS = 4,
    AGENT_DEPTH = POLICY_LINEAGE - 1, // an agent and its ancestors
    AGENT_SECRET = 4 + 43 + 1,        // "neb_", 256 bits as base64, the NUL
    AGENTS_BYTES = 4 << 20,
};

struct agent_key {
    char id[AGENT_ID];
    uint8_t sha256[DIGEST_BYTES];
    int64_t created;
};

struct agent {
    char id[AGENT_ID], name[AGENT_NAME];
    char groups[AGENT_GROUPS][AGENT_NAME], labels[AGENT_LABELS][AGENT_NAME];
    size_t n_groups, n_labels, n_keys;
    const struct agent *parent;        // NULL: none
    int64_t created, expires, revoked; // 0: never
    struct agent_key keys[AGENT_KEYS]; // oldest first
};

struct agents;

// Reads the file in dir, or begins without one. ERR_DENIED where other users may read it.
struct agents *agents_open(const char *dir, struct err *e) MUST_USE;
void agents_free(struct agents *a); // NULL is fine

// ---- changes are on disk once they return 0; nothing has changed after -1
// What is in `wish`: name, groups, labels, parent, expires (0: as its parent). What it lacks of its parent's labels is
// added. `secret` becomes the key, which is nowhere else. The agent is valid as long as `a`.
const struct agent *agents_create(struct agents *a, const struct agent *wish, int64_t now, char secret[AGENT_SECRET],
                                  struct err *e) MUST_USE;
// Another key; earlier ones end, unless `keep`. "owner" is made where it is not there.
const struct agent *agents_rotate(struct agents *a, const char *name, bool keep, int64_t now, char secret[AGENT_SECRET],
                                  struct err *e) MUST_USE;
// It and its sub-agents may nothing from now on: their running answers end, too. Of "owner" only the keys end.
int agents_revoke(struct agents *a, const char *name, int64_t now, struct err *e) MUST_USE;

// ---- questions
const struct agent *agents_find(const struct agents *a, const char *name_or_id);    // NULL: none
const struct agent *agents_next(const struct agents *a, const struct agent *after); // NULL begins, and ends, the round
bool agent_is_owner(const struct agent *g);

// Whose key that is, and which; NULL where it is nobody's, or its agent has ended. Takes as long for any text of a
// key's length. A clock that was obviously never set ends what expires at all.
const struct agent *agents_of_key(const struct agents *a, const char *secret, int64_t now,
                                  const struct agent_key **key);

enum agent_state { AGENT_ACTIVE, AGENT_EXPIRED, AGENT_REVOKED };
enum agent_state agent_state(const struct agent *g, int64_t now);   // also by its ancestors
const char *agent_state_name(enum agent_state s);                   // "active"...
json_t *agent_names_json(const char (*list)[AGENT_NAME], size_t n); // groups or labels; a new reference

// What the files of the policy share: policy_read.c (the document), policy_index.c (names and rules), policy.c
// (decisions), policy_tests.c. A set of rules is a bit set: bit i is the rule with the i-th id in order.
#pragma once

#include "trust/policy.h"
#include "trust/policy_hours.h"

enum policy_attribute { AGENTS, MODELS, NODES, SRC, DST, LABELS, ATTRIBUTES };
enum { PLAIN, AT, KINDS }; // items "x" and "@x"

struct policy_rules { // named so that sets can be copied
    uint64_t v[POLICY_WORDS];
};

struct policy_item {  // what lists name, and in whose lists it is
    const char *name; // borrowed from the document
    uint8_t kind;
    bool glob;
    struct policy_rules in, out; // as it is, and excluded
};

struct policy_index {          // all lists of one attribute
    struct policy_item *items; // by kind, then globs last, then by name; owned
    size_t n;
    size_t begin[KINDS], globs[KINDS], end[KINDS]; // of the items of a kind, and where the globs among them begin
    struct policy_rules anything;                  // rules without an item that includes
    struct policy_rules in[KINDS], out[KINDS];     // all items of a kind
};

struct policy_ref {   // one item of one list, before they are put in order
    const char *name; // borrowed from the document
    uint16_t rule;
    uint8_t kind;
    bool out, glob;
};

struct policy_rule {
    char id[POLICY_ID];
    struct policy_hours hours;
    struct policy_limits limits;
};

struct policy {
    size_t n;                  // rules
    size_t words;              // of a set that are used
    struct policy_rule *rules; // owned
    struct policy_rules permits, forbids, local, timed, limited, phases[POLICY_PHASES];
    struct policy_index index[ATTRIBUTES];
    json_t *document; // canonical, without the rule that is built in; owned
    json_t *builtin;  // that one; owned
    char *text;       // owned
    size_t len;
    uint8_t digest[DIGEST_BYTES];
};

static inline void policy_set(struct policy_rules *s, size_t rule) { s->v[rule / 64] |= 1ull << rule % 64; }
static inline bool policy_has(const struct policy_rules *s, size_t rule) { return s->v[rule / 64] >> rule % 64 & 1; }

// ---- policy_index.c
// Takes "x", "@x", "!x" or "!@x" apart; -1: it is none of them.
int policy_ref_read(const char *item, struct policy_ref *out) MUST_USE;
int policy_index_make(struct policy_index *x, struct policy_ref *refs, size_t n, size_t rules, struct err *e) MUST_USE;

struct policy_hits { // rules whose lists name something, and that exclude it
    struct policy_rules in, out;
};
void policy_index_find(const struct policy *p, enum policy_attribute a, int kind, const char *name,
                       struct policy_hits *hits);
// It may have any name of this kind.
void policy_index_doubt(const struct policy *p, enum policy_attribute a, int kind, struct policy_hits *hits);
// The rules whose lists concern what was hit.
void policy_index_settle(const struct policy *p, enum policy_attribute a, const struct policy_hits *hits,
                         struct policy_rules *out);
bool policy_glob(const char *pattern, const char *name);

// ---- what the readers share; `place` is told before the fault
int policy_fault(struct err *e, const char *place, const char *fmt, ...) PRINTF_LIKE(3, 4);
// Whether an object has only members of a list that ends with NULL.
int policy_members(const json_t *o, const char *const *known, const char *place, struct err *e) MUST_USE;
int policy_text_member(const json_t *o, const char *name, size_t size, const char **out, const char *place,
                       struct err *e) MUST_USE;                      // "" where it is not there
int policy_tests_check(const json_t *tests, struct err *e) MUST_USE; // their form

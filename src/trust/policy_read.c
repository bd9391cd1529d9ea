// The strict reader of policy documents.
#include "base/json.h"
#include "base/text.h"
#include "trust/policy_internal.h"
#include "trust/policy_tests.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLACE = 160, SHOWN = 80, LIMIT_MOST_BITS = 53 };

// The names of members, by attribute.
static const struct {
    const char *name;
    bool may_group;
} lists[ATTRIBUTES] = {[AGENTS] = {"agents", true}, [MODELS] = {"models", false}, [NODES] = {"nodes", true},
                       [SRC] = {"src", true},       [DST] = {"dst", true},        [LABELS] = {"labels", false}};

struct reader {
    struct policy *p;
    struct policy_ref *refs[ATTRIBUTES]; // owned
    size_t n[ATTRIBUTES], cap[ATTRIBUTES];
};

// ---------------------------------------------------------------- faults
int policy_fault(struct err *e, const char *place, const char *fmt, ...) {
    char what[256], shown[PLACE];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    text_escape(shown, sizeof shown, place);
    return err_param(e, "policy", "the policy's %s %s", shown, what);
}

int policy_members(const json_t *o, const char *const *known, const char *place, struct err *e) {
    const char *name;
    if (!json_is_object(o)) return policy_fault(e, place, "must be an object");
    for (void *it = json_object_iter((json_t *)(uintptr_t)o); it;
         it = json_object_iter_next((json_t *)(uintptr_t)o, it)) {
        char shown[SHOWN];
        size_t i = 0;
        name = json_object_iter_key(it);
        while (known[i] && strcmp(known[i], name) != 0) i++;
        text_escape(shown, sizeof shown, name);
        if (!known[i]) return policy_fault(e, place, "has a member '%s', which is not known", shown);
    }
    return 0;
}

int policy_text_member(const json_t *o, const char *name, size_t size, const char **out, const char *place,
                       struct err *e) {
    const json_t *v = json_object_get(o, name);
    *out = v ? json_string_value(v) : "";
    if (!*out) return policy_fault(e, place, "'%s' must be a string", name);
    if (strlen(*out) != (v ? json_string_length(v) : 0)) return policy_fault(e, place, "'%s' has a NUL byte", name);
    if (strlen(*out) >= size) return policy_fault(e, place, "'%s' is longer than %zu bytes", name, size - 1);
    return 0;
}

// ---------------------------------------------------------------- lists
static struct policy_ref *next_ref(struct reader *r, enum policy_attribute a) {
    if (r->n[a] == r->cap[a]) {
        size_t cap = r->cap[a] ? 2 * r->cap[a] : 64;
        struct policy_ref *more = realloc(r->refs[a], cap * sizeof *more);
        if (!more) return NULL;
        r->refs[a] = more;
        r->cap[a] = cap;
    }
    return &r->refs[a][r->n[a]++];
}

static int read_item(struct reader *r, enum policy_attribute a, const json_t *v, const char *place, struct err *e) {
    const char *item = json_string_value(v);
    struct policy_ref *ref = next_ref(r, a);
    if (!ref) return err_set(e, ERR_INTERNAL, "out of memory");
    if (!item || strlen(item) != json_string_length(v) || policy_ref_read(item, ref))
        return policy_fault(e, place,
                            "must be a name of letters, digits and '._-', with '*' and '?' for any others, and \"!\" "
                            "or \"@\" before it");
    if (ref->kind == AT && !lists[a].may_group)
        return policy_fault(e, place, "cannot be a group: %s have none", lists[a].name);
    ref->rule = (uint16_t)r->p->n;
    return 0;
}

static int read_list(struct reader *r, enum policy_attribute a, const json_t *rule, const char *place, struct err *e) {
    const json_t *list = json_object_get(rule, lists[a].name);
    char at[PLACE];
    if (!list) return 0;
    if (!json_array_size(list)) // also where it is none
        return policy_fault(e, place, "'%s' must be a list of names, and not empty", lists[a].name);
    if (json_array_size(list) > POLICY_ITEMS)
        return policy_fault(e, place, "'%s' has more than %d items", lists[a].name, POLICY_ITEMS);
    for (size_t i = 0; i < json_array_size(list); i++) {
        snprintf(at, sizeof at, "%.80s %s[%zu]", place, lists[a].name, i);
        if (read_item(r, a, json_array_get(list, i), at, e)) return -1;
    }
    return 0;
}

static int read_phases(struct policy *p, const json_t *rule, const char *place, struct err *e) {
    const json_t *list = json_object_get(rule, "phases");
    unsigned has = list ? 0 : (1u << POLICY_PHASES) - 1;
    if (list && !json_array_size(list))
        return policy_fault(e, place, "'phases' must be a list of prefill, decode and kv, and not empty");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i));
        int phase = word ? policy_phase_of(word) : -1;
        if (phase < 0) return policy_fault(e, place, "'phases' must be a list of prefill, decode and kv");
        if (has >> phase & 1) return policy_fault(e, place, "'phases' has '%s' twice", word);
        has |= 1u << phase;
    }
    for (int i = 0; i < POLICY_PHASES; i++)
        if (has >> i & 1) policy_set(&p->phases[i], p->n);
    if ((json_object_get(rule, "src") || json_object_get(rule, "dst")) && has != 1u << POLICY_KV)
        return policy_fault(e, place, "names src or dst, so that its 'phases' must be [\"kv\"]");
    return 0;
}

// ---------------------------------------------------------------- the rest of a rule
static int read_limit(const json_t *o, const char *name, int64_t *out, const char *place, struct err *e) {
    const json_t *v = json_object_get(o, name);
    *out = v ? json_integer_value(v) : 0;
    if (v && (*out < 1 || *out >= 1ll << LIMIT_MOST_BITS))
        return policy_fault(e, place, "limits' '%s' must be a whole number from 1 on", name);
    return 0;
}

static int read_limits(struct policy *p, const json_t *rule, bool forbid, const char *place, struct err *e) {
    static const char *const known[] = {"tokens_day", "rpm", "concurrent", NULL};
    const json_t *o = json_object_get(rule, "limits");
    struct policy_limits *l = &p->rules[p->n].limits;
    char at[PLACE];
    if (!o) return 0;
    if (forbid) return policy_fault(e, place, "forbids, so that it can have no 'limits'");
    snprintf(at, sizeof at, "%.80s limits", place);
    if (policy_members(o, known, at, e)) return -1;
    if (!json_object_size(o)) return policy_fault(e, place, "'limits' is empty");
    policy_set(&p->limited, p->n);
    return read_limit(o, "tokens_day", &l->tokens_day, place, e) || read_limit(o, "rpm", &l->rpm, place, e) ||
                   read_limit(o, "concurrent", &l->concurrent, place, e)
               ? -1
               : 0;
}

static int read_hours(struct policy *p, const json_t *rule, const char *place, struct err *e) {
    const char *text;
    struct err why;
    if (!json_object_get(rule, "hours")) return 0;
    if (policy_text_member(rule, "hours", POLICY_HOURS_TEXT, &text, place, e)) return -1;
    if (policy_hours_read(text, &p->rules[p->n].hours, &why)) return policy_fault(e, place, "%s", why.msg);
    policy_set(&p->timed, p->n);
    return 0;
}

static bool is_id(const char *id) { return text_is_name(id) && strlen(id) < POLICY_ID; }

// Rules come sorted by their ids.
static int read_id(struct policy *p, const char *id, bool builtin, const char *place, struct err *e) {
    if (!builtin && !strncmp(id, "builtin-", 8))
        return policy_fault(e, place, "has an id that begins with 'builtin-', which is not for documents");
    if (p->n && !strcmp(p->rules[p->n - 1].id, id)) return policy_fault(e, place, "is there twice");
    snprintf(p->rules[p->n].id, sizeof p->rules[p->n].id, "%s", id);
    return 0;
}

static int read_effect(struct policy *p, const json_t *rule, bool *forbid, const char *place, struct err *e) {
    const char *effect;
    if (policy_text_member(rule, "effect", SHOWN, &effect, place, e)) return -1;
    *forbid = !strcmp(effect, "forbid");
    if (!*forbid && strcmp(effect, "permit") != 0)
        return policy_fault(e, place, "needs an 'effect', \"permit\" or \"forbid\"");
    policy_set(*forbid ? &p->forbids : &p->permits, p->n);
    return 0;
}

static int read_rule(struct reader *r, const json_t *rule, const char *id, struct err *e) {
    static const char *const known[] = {"id",  "note", "effect", "agents", "models", "phases", "nodes",
                                        "src", "dst",  "labels", "hours",  "limits", NULL};
    struct policy *p = r->p;
    const char *note;
    char place[PLACE];
    bool forbid, builtin = !p->builtin || rule == p->builtin;
    snprintf(place, sizeof place, "rule '%.63s'", id);
    if (read_id(p, id, builtin, place, e) || policy_members(rule, known, place, e) ||
        policy_text_member(rule, "note", POLICY_NOTE, &note, place, e) || read_effect(p, rule, &forbid, place, e) ||
        read_phases(p, rule, place, e) || read_hours(p, rule, place, e) || read_limits(p, rule, forbid, place, e))
        return -1;
    for (int a = 0; a < ATTRIBUTES; a++)
        if (read_list(r, (enum policy_attribute)a, rule, place, e)) return -1;
    p->n++;
    return 0;
}

// ---------------------------------------------------------------- the rules in order
struct entry {
    const json_t *rule;
    const char *id;
};

static int compare_entries(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    return strcmp(x->id, y->id);
}

static json_t *owner_rule(bool local) {
    return local ? json_pack("{s:s, s:s, s:[s], s:[s,s]}", "id", POLICY_OWNER_LOCAL, "effect", "permit", "agents",
                             POLICY_OWNER_AGENT, "phases", "prefill", "decode")
                 : json_pack("{s:s, s:s, s:[s]}", "id", POLICY_OWNER, "effect", "permit", "agents", POLICY_OWNER_AGENT);
}

// The rules of the document by id, n of them, and the one that is built in among them.
static int sort_rules(const json_t *rules, const json_t *builtin, struct entry *out, struct err *e) {
    size_t n = json_array_size(rules);
    for (size_t i = 0; i < n; i++) {
        const json_t *rule = json_array_get(rules, i), *id = json_object_get(rule, "id");
        char place[PLACE];
        snprintf(place, sizeof place, "rules[%zu]", i);
        out[i] = (struct entry){.rule = rule, .id = json_string_value(id)};
        if (!json_is_object(rule)) return policy_fault(e, place, "must be an object");
        if (!out[i].id || !is_id(out[i].id))
            return policy_fault(e, place, "needs an 'id' of 1 to 63 letters, digits and '._-'");
    }
    if (builtin) out[n++] = (struct entry){builtin, json_string_value(json_object_get(builtin, "id"))};
    if (n) qsort(out, n, sizeof *out, compare_entries);
    return 0;
}

// The document with its rules by id.
static json_t *canonical(const json_t *document, const struct entry *rules, size_t n, const json_t *builtin) {
    json_t *copy = json_copy((json_t *)(uintptr_t)document), *sorted = json_array();
    for (size_t i = 0; i < n; i++)
        if (rules[i].rule != builtin) json_array_append(sorted, (json_t *)(uintptr_t)rules[i].rule);
    if (copy && !json_object_set_new(copy, "rules", sorted)) return copy;
    json_decref(copy);
    return NULL;
}

static int keep_text(struct policy *p, struct err *e) {
    p->text = p->document ? json_dumps(p->document, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (!p->text) return err_set(e, ERR_INTERNAL, "out of memory");
    p->len = strlen(p->text);
    if (p->len > POLICY_BYTES) return err_set(e, ERR_LIMIT, "a policy has at most %d bytes", POLICY_BYTES);
    digest_of(p->text, p->len, p->digest);
    return 0;
}

static int read_rules(struct reader *r, const struct entry *rules, size_t n, struct err *e) {
    struct policy *p = r->p;
    p->words = (n + 63) / 64;
    if (!(p->rules = calloc(n + 1, sizeof *p->rules))) return err_set(e, ERR_INTERNAL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(rules[i].id, POLICY_OWNER_LOCAL)) policy_set(&p->local, i);
        if (read_rule(r, rules[i].rule, rules[i].id, e)) return -1;
    }
    for (int a = 0; a < ATTRIBUTES; a++)
        if (policy_index_make(&p->index[a], r->refs[a], r->n[a], p->n, e)) return -1;
    return 0;
}

// ---------------------------------------------------------------- the whole
static int check_document(const json_t *o, struct err *e) {
    static const char *const known[] = {"v", "note", "rules", "tests", NULL};
    const json_t *version = json_object_get(o, "v"), *rules = json_object_get(o, "rules");
    const char *note;
    if (policy_members(o, known, "document", e) || policy_text_member(o, "note", POLICY_NOTE, &note, "document", e))
        return -1;
    if (!json_is_integer(version) || json_integer_value(version) != 1)
        return policy_fault(e, "'v'", "must be 1, the version that this program knows");
    if (!json_is_array(rules)) return policy_fault(e, "'rules'", "must be a list");
    if (json_array_size(rules) > POLICY_RULES) return policy_fault(e, "'rules'", "are more than %d", POLICY_RULES);
    return policy_tests_check(json_object_get(o, "tests"), e);
}

// p->builtin: NULL where the document itself is the one that is built in.
static int read_document(struct policy *p, const json_t *o, struct err *e) {
    struct reader r = {.p = p};
    const json_t *rules = json_object_get(o, "rules");
    size_t n = json_array_size(rules) + (p->builtin ? 1 : 0);
    struct entry *sorted = calloc(n + 1, sizeof *sorted);
    int rc = sorted ? sort_rules(rules, p->builtin, sorted, e) : err_set(e, ERR_INTERNAL, "out of memory");
    if (!rc) {
        p->document = canonical(o, sorted, n, p->builtin);
        rc = keep_text(p, e) || read_rules(&r, sorted, n, e) ? -1 : 0;
    }
    for (int a = 0; a < ATTRIBUTES; a++) free(r.refs[a]);
    free(sorted);
    return rc;
}

// Takes o and builtin over.
static struct policy *make(json_t *o, json_t *builtin, struct err *e) {
    struct policy *p = calloc(1, sizeof *p);
    if (p) p->builtin = builtin;
    int rc = p ? read_document(p, o, e) : err_set(e, ERR_INTERNAL, "out of memory");
    if (!p) json_decref(builtin);
    json_decref(o);
    if (!rc) return p;
    policy_free(p);
    return NULL;
}

struct policy *policy_read(const char *text, size_t n, struct err *e) {
    json_t *o = NULL, *builtin = NULL;
    if (n > POLICY_BYTES)
        err_set(e, ERR_LIMIT, "a policy has at most %d bytes", POLICY_BYTES);
    else
        o = json_parse(n ? text : "", n, e);
    if (o && !check_document(o, e)) {
        if ((builtin = owner_rule(true))) return make(o, builtin, e);
        err_set(e, ERR_INTERNAL, "out of memory");
    }
    json_decref(o);
    return NULL;
}

struct policy *policy_builtin(struct err *e) {
    json_t *rule = owner_rule(false), *o = rule ? json_pack("{s:i, s:[o]}", "v", 1, "rules", rule) : NULL;
    if (o) return make(o, NULL, e);
    err_set(e, ERR_INTERNAL, "out of memory");
    return NULL;
}

struct policy *policy_copy(const struct policy *p, struct err *e) {
    return policy_read(p->text, p->len, e);
}

void policy_free(struct policy *p) {
    if (!p) return;
    for (int a = 0; a < ATTRIBUTES; a++) free(p->index[a].items);
    free(p->rules);
    free(p->text);
    json_decref(p->document);
    json_decref(p->builtin);
    free(p);
}

#include "trust/agents.h"
#include "base/bytes.h"
#include "base/id.h"
#include "trust/agents_internal.h"
#include "trust/roster.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECRET_PREFIX "neb_"
#define CLOCK_SET_S   1735689600 // the beginning of 2025: before, nobody has set this clock
enum { SECRET_RANDOM = 32 };

// ---------------------------------------------------------------- opening
struct agents *agents_open(const char *dir, struct err *e) {
    struct agents *a = calloc(1, sizeof *a);
    if (!a) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    if (!path_join(a->file, dir, "agents.json", e) && !path_make_dir(dir, e) && !agents_load(a, e)) return a;
    agents_free(a);
    return NULL;
}

void agents_free(struct agents *a) {
    if (!a) return;
    for (size_t i = 0; i < a->n; i++) free(a->of[i]);
    free(a);
}

// ---------------------------------------------------------------- questions
bool agent_is_owner(const struct agent *g) { return !strcmp(g->name, POLICY_OWNER_AGENT); }

const struct agent *agents_find(const struct agents *a, const char *name_or_id) {
    for (size_t i = 0; i < a->n; i++)
        if (!strcmp(a->of[i]->id, name_or_id) || !strcmp(a->of[i]->name, name_or_id)) return a->of[i];
    return NULL;
}

const struct agent *agents_next(const struct agents *a, const struct agent *after) {
    size_t i = 0;
    while (after && i < a->n && a->of[i++] != after) continue;
    return i < a->n ? a->of[i] : NULL;
}

static enum agent_state own_state(const struct agent *g, int64_t now) {
    if (g->revoked) return AGENT_REVOKED;
    return g->expires && (now >= g->expires || now < CLOCK_SET_S) ? AGENT_EXPIRED : AGENT_ACTIVE;
}

enum agent_state agent_state(const struct agent *g, int64_t now) {
    enum agent_state worst = AGENT_ACTIVE;
    for (; g; g = g->parent)
        if (own_state(g, now) > worst) worst = own_state(g, now);
    return worst;
}

const char *agent_state_name(enum agent_state s) {
    return s == AGENT_ACTIVE ? "active" : s == AGENT_EXPIRED ? "expired" : "revoked";
}

const struct agent *agents_of_key(const struct agents *a, const char *secret, int64_t now,
                                  const struct agent_key **key) {
    uint8_t digest[DIGEST_BYTES];
    const struct agent *found = NULL;
    *key = NULL;
    if (strlen(secret) != AGENT_SECRET - 1) return NULL;
    digest_of(secret, AGENT_SECRET - 1, digest);
    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0; k < a->of[i]->n_keys; k++) {
            if (CRYPTO_memcmp(a->of[i]->keys[k].sha256, digest, sizeof digest) != 0) continue;
            found = a->of[i];
            *key = &found->keys[k];
        }
    if (found && agent_state(found, now) == AGENT_ACTIVE) return found;
    *key = NULL;
    return NULL;
}

// ---------------------------------------------------------------- what may be there
static bool has(const char (*list)[AGENT_NAME], size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (!strcmp(list[i], name)) return true;
    return false;
}

static int check_names(const struct agent *g, struct err *e) {
    if (!roster_is_name(g->name))
        return err_param(e, "name", "'%.80s' is no name of an agent: use letters, digits, '.', '_' and '-'", g->name);
    for (size_t i = 0; i < g->n_groups; i++)
        if (!roster_is_name(g->groups[i]) || has(g->groups, i, g->groups[i]))
            return err_param(e, "group", "'%.80s' is no group, or there twice", g->groups[i]);
    for (size_t i = 0; i < g->n_labels; i++)
        if (!roster_is_name(g->labels[i]) || has(g->labels, i, g->labels[i]))
            return err_param(e, "label", "'%.80s' is no label, or there twice", g->labels[i]);
    return 0;
}

static int check_parent(const struct agent *g, struct err *e) {
    const struct agent *p = g->parent;
    size_t depth = 1;
    if (!p) return 0;
    if (agent_is_owner(p) || agent_is_owner(g))
        return err_param(e, "parent", "the owner has no parent and no sub-agents: leave --parent away");
    for (const struct agent *up = p; up; up = up->parent) depth++;
    if (depth > AGENT_DEPTH)
        return err_param(e, "parent", "'%s' is the %dth in a row of sub-agents: it cannot have any", p->name,
                         AGENT_DEPTH);
    for (size_t i = 0; i < g->n_groups; i++)
        if (!has(p->groups, p->n_groups, g->groups[i]))
            return err_param(e, "group", "'%s' is not in group '%s', so its sub-agents cannot be", p->name,
                             g->groups[i]);
    for (size_t i = 0; i < p->n_labels; i++)
        if (!has(g->labels, g->n_labels, p->labels[i]))
            return err_param(e, "label", "a sub-agent of '%s' has label '%s', too", p->name, p->labels[i]);
    if (p->expires && (!g->expires || g->expires > p->expires))
        return err_param(e, "expires", "'%s' expires earlier than that, and its sub-agents with it", p->name);
    return 0;
}

int agents_check(const struct agents *a, const struct agent *g, struct err *e) {
    if (check_names(g, e) || check_parent(g, e)) return -1;
    if (agents_find(a, g->name) || agents_find(a, g->id))
        return err_param(e, "name", "there is, or was, an agent '%s': choose another name", g->name);
    if (agent_is_owner(g) && (g->n_groups || g->n_labels || g->expires || g->revoked))
        return err_param(e, "name", "'%s' is the person at this machine, who has no groups, labels and end", g->name);
    if (a->n == AGENTS_MOST) return err_set(e, ERR_LIMIT, "there are %d agents, which is the most", AGENTS_MOST);
    return 0;
}

// ---------------------------------------------------------------- changes
static void short_id(const char *prefix, char out[AGENT_ID]) {
    char id[ID_SIZE];
    id_make(prefix, id);
    snprintf(out, AGENT_ID, "%.20s", id);
}

static int draw_key(struct agent_key *k, int64_t now, char secret[AGENT_SECRET], struct err *e) {
    uint8_t random[SECRET_RANDOM];
    if (RAND_priv_bytes(random, sizeof random) != 1)
        return err_set(e, ERR_INTERNAL, "the system has no random numbers for a key");
    memcpy(secret, SECRET_PREFIX, sizeof SECRET_PREFIX);
    base64_encode(random, sizeof random, secret + sizeof SECRET_PREFIX - 1);
    OPENSSL_cleanse(random, sizeof random);
    short_id("key_", k->id);
    digest_of(secret, AGENT_SECRET - 1, k->sha256);
    k->created = now;
    return 0;
}

static int inherit_labels(struct agent *g, struct err *e) {
    const struct agent *p = g->parent, *now = g;
    for (size_t i = 0; p && i < p->n_labels; i++) {
        if (has(now->labels, now->n_labels, p->labels[i])) continue;
        if (g->n_labels == AGENT_LABELS) return err_param(e, "label", "an agent has at most %d labels", AGENT_LABELS);
        memcpy(g->labels[g->n_labels++], p->labels[i], AGENT_NAME);
    }
    if (p && !g->expires) g->expires = p->expires;
    return 0;
}

// Takes g over.
static const struct agent *add(struct agents *a, struct agent *g, int64_t now, char secret[AGENT_SECRET],
                               struct err *e) {
    g->n_keys = 1;
    g->created = now;
    short_id("agt_", g->id);
    if (!inherit_labels(g, e) && !agents_check(a, g, e) && !draw_key(&g->keys[0], now, secret, e)) {
        a->of[a->n++] = g;
        if (!agents_save(a, e)) return g;
        a->n--;
        OPENSSL_cleanse(secret, AGENT_SECRET);
    }
    free(g);
    return NULL;
}

const struct agent *agents_create(struct agents *a, const struct agent *wish, int64_t now, char secret[AGENT_SECRET],
                                  struct err *e) {
    if (agent_is_owner(wish)) {
        err_param(e, "name", "'%s' is the person at this machine: `nebulus agent rotate %s` makes a key", wish->name,
                  wish->name);
        return NULL;
    }
    if (wish->parent && agent_state(wish->parent, now) != AGENT_ACTIVE) {
        err_param(e, "parent", "'%s' has ended: it cannot have sub-agents", wish->parent->name);
        return NULL;
    }
    if (wish->expires && wish->expires <= now) {
        err_param(e, "expires", "it would have expired already");
        return NULL;
    }
    struct agent *g = malloc(sizeof *g);
    if (!g) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *g = *wish;
    g->revoked = 0;
    return add(a, g, now, secret, e);
}

static struct agent *find_living(struct agents *a, const char *name, struct err *e) {
    for (size_t i = 0; i < a->n; i++) {
        if (strcmp(a->of[i]->name, name) != 0 && strcmp(a->of[i]->id, name) != 0) continue;
        if (!a->of[i]->revoked) return a->of[i];
        err_set(e, ERR_INVALID, "agent '%s' was revoked already", a->of[i]->name);
        return NULL;
    }
    err_set(e, ERR_NOT_FOUND, "there is no agent '%.64s': `nebulus agent ls` lists them", name);
    return NULL;
}

static const struct agent *add_owner(struct agents *a, int64_t now, char secret[AGENT_SECRET], struct err *e) {
    struct agent *g = calloc(1, sizeof *g);
    if (!g) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    snprintf(g->name, sizeof g->name, "%s", POLICY_OWNER_AGENT);
    return add(a, g, now, secret, e);
}

// What was before is put back where it cannot be kept.
static int keep(const struct agents *a, struct agent *g, const struct agent *was, struct err *e) {
    if (!agents_save(a, e)) return 0;
    *g = *was;
    return -1;
}

const struct agent *agents_rotate(struct agents *a, const char *name, bool keep_keys, int64_t now,
                                  char secret[AGENT_SECRET], struct err *e) {
    if (!strcmp(name, POLICY_OWNER_AGENT) && !agents_find(a, name)) return add_owner(a, now, secret, e);
    struct agent *g = find_living(a, name, e), was;
    struct agent_key key;
    if (!g || draw_key(&key, now, secret, e)) return NULL;
    was = *g;
    if (!keep_keys) g->n_keys = 0;
    if (g->n_keys == AGENT_KEYS) {
        err_set(e, ERR_LIMIT, "agent '%s' has %d keys, which is the most: leave --keep away", g->name, AGENT_KEYS);
        return NULL;
    }
    g->keys[g->n_keys++] = key;
    return keep(a, g, &was, e) ? NULL : g;
}

int agents_revoke(struct agents *a, const char *name, int64_t now, struct err *e) {
    struct agent *g = find_living(a, name, e);
    if (!g) return -1;
    struct agent was = *g;
    g->n_keys = 0;
    if (!agent_is_owner(g)) g->revoked = now > 0 ? now : 1;
    return keep(a, g, &was, e);
}

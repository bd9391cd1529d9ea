#include "serve/agents_routes.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "serve/evidence.h"
#include "trust/agents.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#define AGENTS_PATH "/nebulus/v1/agents/"
#define WHEN_MAX    253402300799ll // the end of the year 9999

static int64_t now_s(void) { return (int64_t)(clock_wall_ns() / NS_PER_S); }

// ---------------------------------------------------------------- what is shown
static json_t *time_json(int64_t t) { return t ? json_integer((json_int_t)t) : json_null(); }

static json_t *agent_json(const struct agent *g) {
    json_t *keys = json_array();
    for (size_t i = 0; i < g->n_keys; i++)
        json_array_append_new(keys,
                              json_pack("{s:s, s:I}", "id", g->keys[i].id, "created", (json_int_t)g->keys[i].created));
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:I, s:o, s:o, s:o}", "id", g->id, "name", g->name, "state",
                     agent_state_name(agent_state(g, now_s())), "groups", agent_names_json(g->groups, g->n_groups),
                     "labels", agent_names_json(g->labels, g->n_labels), "parent",
                     g->parent ? json_string(g->parent->name) : json_null(), "created", (json_int_t)g->created,
                     "expires", time_json(g->expires), "revoked", time_json(g->revoked), "keys", keys);
}

void agents_list(const struct call *c) {
    json_t *list = json_array();
    for (const struct agent *g = agents_next(c->s->agents, NULL); g; g = agents_next(c->s->agents, g))
        json_array_append_new(list, agent_json(g));
    call_answer(c, json_pack("{s:i, s:o}", "v", 1, "agents", list));
}

// `secret` may be NULL.
static void answer(const struct call *c, const struct agent *g, char *secret, const struct err *why) {
    if (!g)
        call_fail(c, why);
    else {
        json_t *o = json_pack("{s:i, s:o, s:s*}", "v", 1, "agent", agent_json(g), "key", secret);
        http_add_header(c->x, "cache-control", "no-store");
        call_answer(c, o);
    }
    if (secret) OPENSSL_cleanse(secret, AGENT_SECRET);
}

// ---------------------------------------------------------------- what is asked
// The agent that a path names, and what stands behind it; -1 where there is none.
static int read_path(const struct call *c, char name[AGENT_NAME], const char **rest) {
    const char *path = http_path(c->x) + strlen(AGENTS_PATH);
    size_t n = strcspn(path, "/");
    *rest = path[n] ? path + n + 1 : "";
    if (n >= AGENT_NAME) return -1;
    snprintf(name, AGENT_NAME, "%.*s", (int)n, path);
    return 0;
}

static int not_found(struct err *e, const char *name) {
    char shown[2 * AGENT_NAME];
    text_escape(shown, sizeof shown, name);
    return err_set(e, ERR_NOT_FOUND, "there is no agent '%s': `nebulus agent ls` lists them", shown);
}

void agents_show(const struct call *c) {
    struct err why = {.code = ERR_NONE};
    char name[AGENT_NAME] = "";
    const char *rest;
    const struct agent *g = read_path(c, name, &rest) || *rest ? NULL : agents_find(c->s->agents, name);
    if (!g) not_found(&why, name);
    answer(c, g, NULL, &why);
}

static int read_names(const json_t *o, const char *name, char (*out)[AGENT_NAME], size_t most, size_t *n,
                      struct err *e) {
    json_t *list = NULL;
    if (json_get_array(o, name, &list, e)) return -1;
    if (json_array_size(list) > most) return err_param(e, name, "an agent has at most %zu of '%s'", most, name);
    for (*n = 0; *n < json_array_size(list); (*n)++) {
        const char *one = json_string_value(json_array_get(list, *n));
        if (!one || strlen(one) >= AGENT_NAME)
            return err_param(e, name, "'%s' must be names of at most %d bytes", name, AGENT_NAME - 1);
        snprintf(out[*n], AGENT_NAME, "%s", one);
    }
    return 0;
}

static int read_wish(const struct serve *s, const json_t *o, struct agent *w, struct err *e) {
    const char *name = "", *parent = NULL;
    *w = (struct agent){.parent = NULL};
    if (json_get_string(o, "name", &name, e) || json_get_string(o, "parent", &parent, e) ||
        read_names(o, "groups", w->groups, AGENT_GROUPS, &w->n_groups, e) ||
        read_names(o, "labels", w->labels, AGENT_LABELS, &w->n_labels, e) ||
        json_get_int(o, "expires", 1, WHEN_MAX, &w->expires, e))
        return -1;
    if (strlen(name) >= AGENT_NAME) return err_param(e, "name", "an agent's name has at most %d bytes", AGENT_NAME - 1);
    snprintf(w->name, sizeof w->name, "%s", name);
    w->parent = parent ? agents_find(s->agents, parent) : NULL;
    return parent && !w->parent ? not_found(e, parent) : 0;
}

static void note(const struct call *c, const char *change, const struct agent *g) {
    log_info("agent %s was %s", g->id, change);
    evidence_of_agent(c->s, change, g);
}

void agents_make(const struct call *c) {
    struct err why = {.code = ERR_NONE};
    struct agent wish;
    char secret[AGENT_SECRET];
    const struct agent *g = NULL;
    json_t *body = call_body(c, &why);
    if (body && !read_wish(c->s, body, &wish, &why)) g = agents_create(c->s->agents, &wish, now_s(), secret, &why);
    json_decref(body);
    if (g) note(c, "made", g);
    answer(c, g, secret, &why);
}

static const struct agent *rotate(const struct call *c, const char *name, char secret[AGENT_SECRET], struct err *e) {
    bool keep = false;
    json_t *body = call_body(c, e);
    int rc = body ? json_get_bool(body, "keep", &keep, e) : -1;
    json_decref(body);
    const struct agent *g = rc ? NULL : agents_rotate(c->s->agents, name, keep, now_s(), secret, e);
    if (g) note(c, "rotated", g);
    return g;
}

static const struct agent *revoke(const struct call *c, const char *name, struct err *e) {
    if (agents_revoke(c->s->agents, name, now_s(), e)) return NULL;
    const struct agent *g = agents_find(c->s->agents, name);
    note(c, "revoked", g);
    return g;
}

void agents_change(const struct call *c) {
    struct err why = {.code = ERR_NONE};
    char name[AGENT_NAME] = "", secret[AGENT_SECRET];
    const char *what = "";
    if (read_path(c, name, &what))
        not_found(&why, name);
    else if (!strcmp(what, "rotate")) {
        answer(c, rotate(c, name, secret, &why), secret, &why);
        return;
    } else if (!strcmp(what, "revoke")) {
        answer(c, revoke(c, name, &why), NULL, &why);
        return;
    } else
        err_set(&why, ERR_INVALID, "an agent can be rotated (NAME/rotate) or revoked (NAME/revoke)");
    call_fail(c, &why);
}

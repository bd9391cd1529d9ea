// The file of the agents: strict JSON, replaced as a whole.
#include "base/bytes.h"
#include "base/json.h"
#include "trust/agents_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { AGENTS_VERSION = 1, AGENT_MEMBERS = 9, KEY_MEMBERS = 3 };
#define WHEN_MAX 253402300799ll // the end of the year 9999

// ---------------------------------------------------------------- writing
json_t *agent_names_json(const char (*list)[AGENT_NAME], size_t n) {
    json_t *out = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(out, json_string(list[i]));
    return out;
}

static json_t *keys_json(const struct agent *g) {
    json_t *out = json_array();
    for (size_t i = 0; i < g->n_keys; i++) {
        const struct agent_key *k = &g->keys[i];
        json_array_append_new(out, json_pack("{s:s, s:o, s:I}", "id", k->id, "sha256",
                                             json_hex(k->sha256, sizeof k->sha256), "created", (json_int_t)k->created));
    }
    return out;
}

static json_t *agent_json(const struct agent *g) {
    return json_pack("{s:s, s:s, s:o, s:o, s:s, s:I, s:I, s:I, s:o}", "id", g->id, "name", g->name, "groups",
                     agent_names_json(g->groups, g->n_groups), "labels", agent_names_json(g->labels, g->n_labels),
                     "parent", g->parent ? g->parent->id : "", "created", (json_int_t)g->created, "expires",
                     (json_int_t)g->expires, "revoked", (json_int_t)g->revoked, "keys", keys_json(g));
}

int agents_save(const struct agents *a, struct err *e) {
    json_t *list = json_array(), *all = NULL;
    int bad = list ? 0 : -1;
    for (size_t i = 0; i < a->n && !bad; i++) bad = json_array_append_new(list, agent_json(a->of[i]));
    if (!bad) all = json_pack("{s:i, s:O}", "v", AGENTS_VERSION, "agents", list);
    char *text = all ? json_dumps(all, JSON_INDENT(1)) : NULL;
    int rc = text ? file_write(a->file, text, strlen(text), e) : err_set(e, ERR_INTERNAL, "out of memory");
    free(text);
    json_decref(all);
    json_decref(list);
    return rc;
}

// ---------------------------------------------------------------- reading
static int not_right(struct err *e, const char *name) { return err_param(e, name, "'%s' is not right", name); }

static int read_text(const json_t *o, const char *name, char *out, size_t size, struct err *e) {
    const json_t *v = json_object_get(o, name);
    if (!json_is_string(v) || json_string_length(v) >= size) return not_right(e, name);
    snprintf(out, size, "%s", json_string_value(v));
    return 0;
}

static int read_time(const json_t *o, const char *name, int64_t *out, struct err *e) {
    return json_is_integer(json_object_get(o, name)) ? json_get_int(o, name, 0, WHEN_MAX, out, e) : not_right(e, name);
}

static int read_names(const json_t *o, const char *name, char (*out)[AGENT_NAME], size_t most, size_t *n,
                      struct err *e) {
    const json_t *list = json_object_get(o, name);
    if (!json_is_array(list) || json_array_size(list) > most) return not_right(e, name);
    for (*n = 0; *n < json_array_size(list); (*n)++) {
        const json_t *v = json_array_get(list, *n);
        if (!json_is_string(v) || json_string_length(v) >= AGENT_NAME) return not_right(e, name);
        snprintf(out[*n], AGENT_NAME, "%s", json_string_value(v));
    }
    return 0;
}

static int read_keys(const json_t *o, struct agent *g, struct err *e) {
    const json_t *list = json_object_get(o, "keys");
    if (!json_is_array(list) || json_array_size(list) > AGENT_KEYS) return not_right(e, "keys");
    for (g->n_keys = 0; g->n_keys < json_array_size(list); g->n_keys++) {
        const json_t *one = json_array_get(list, g->n_keys);
        struct agent_key *k = &g->keys[g->n_keys];
        if (json_object_size(one) != KEY_MEMBERS || read_text(one, "id", k->id, sizeof k->id, e) || !k->id[0] ||
            hex_decode(json_string_value(json_object_get(one, "sha256")), k->sha256, sizeof k->sha256) ||
            read_time(one, "created", &k->created, e))
            return not_right(e, "keys");
    }
    return 0;
}

static int read_agent(const struct agents *a, const json_t *o, struct agent *g, struct err *e) {
    char parent[AGENT_ID];
    if (json_object_size(o) != AGENT_MEMBERS)
        return err_set(e, ERR_INVALID, "it has not exactly the members it should");
    if (read_text(o, "id", g->id, sizeof g->id, e) || read_text(o, "name", g->name, sizeof g->name, e) ||
        read_names(o, "groups", g->groups, AGENT_GROUPS, &g->n_groups, e) ||
        read_names(o, "labels", g->labels, AGENT_LABELS, &g->n_labels, e) ||
        read_text(o, "parent", parent, sizeof parent, e) || read_time(o, "created", &g->created, e) ||
        read_time(o, "expires", &g->expires, e) || read_time(o, "revoked", &g->revoked, e) || read_keys(o, g, e))
        return -1;
    if (!g->id[0]) return not_right(e, "id");
    g->parent = parent[0] ? agents_find(a, parent) : NULL;
    if (parent[0] && (!g->parent || strcmp(g->parent->id, parent) != 0)) return not_right(e, "parent");
    return agents_check(a, g, e);
}

static int read_all(struct agents *a, const json_t *all, struct err *e) {
    const json_t *list = json_object_get(all, "agents");
    if (json_object_size(all) != 2 || !json_is_array(list) ||
        json_integer_value(json_object_get(all, "v")) != AGENTS_VERSION)
        return err_set(e, ERR_INVALID, "it is not {\"v\":%d, \"agents\":[..]}", AGENTS_VERSION);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct err why = {.code = ERR_NONE};
        struct agent *g = calloc(1, sizeof *g);
        if (!g) return err_set(e, ERR_INTERNAL, "out of memory");
        if (read_agent(a, json_array_get(list, i), g, &why)) {
            free(g);
            return err_set(e, why.code, "agent %zu: %s", i + 1, why.msg);
        }
        a->of[a->n++] = g;
    }
    return 0;
}

static int check_mode(const char *file, struct err *e) {
    struct stat st;
    if (stat(file, &st)) return err_errno(e, "cannot read %s", file);
    if (!(st.st_mode & 077)) return 0;
    return err_set(e, ERR_DENIED, "other users may open %s: make it yours alone with `chmod 600`", file);
}

int agents_load(struct agents *a, struct err *e) {
    char *text;
    size_t n;
    struct err why = {.code = ERR_NONE};
    if (file_read(a->file, AGENTS_BYTES, &text, &n, &why)) {
        if (why.code == ERR_NOT_FOUND) return 0;
        if (e) *e = why;
        return -1;
    }
    json_t *all = n ? json_parse(text, n, &why) : NULL;
    if (!n) err_set(&why, ERR_INVALID, "it is empty");
    int rc = all ? read_all(a, all, &why) : -1;
    json_decref(all);
    free(text);
    if (!rc) return check_mode(a->file, e);
    return err_set(e, why.code, "%.200s cannot be read, so nobody can be told from anybody: %.250s", a->file, why.msg);
}

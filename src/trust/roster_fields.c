#include "trust/roster_fields.h"
#include "base/bytes.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROSTER_VERSION = 1 };
#define WHEN_MAX  253402300799ll // the end of the year 9999
#define EPOCH_MAX (1ll << 53)    // what readers that only know doubles can tell apart

// ---------------------------------------------------------------- writing
json_t *roster_node_json(const struct roster_node *n) {
    json_t *labels = json_array();
    for (size_t i = 0; i < n->n_labels; i++) json_array_append_new(labels, json_string(n->labels[i]));
    return json_pack("{s:s, s:s, s:o, s:o, s:s, s:o, s:s}", "id", n->id, "name", n->name, "pin",
                     json_hex(n->pin, sizeof n->pin), "audit", json_hex(n->audit, sizeof n->audit), "role", n->role,
                     "labels", labels, "address", n->address);
}

static json_t *revoked_json(const struct roster_revoked *r) {
    return json_pack("{s:s, s:o, s:I}", "id", r->id, "pin", json_hex(r->pin, sizeof r->pin), "when",
                     (json_int_t)r->when);
}

char *roster_write_body(const struct roster *r) {
    json_t *nodes = json_array(), *revoked = json_array();
    for (size_t i = 0; i < r->n_nodes; i++) json_array_append_new(nodes, roster_node_json(&r->nodes[i]));
    for (size_t i = 0; i < r->n_revoked; i++) json_array_append_new(revoked, revoked_json(&r->revoked[i]));
    json_t *policy = r->policy ? json_hex(policy_digest(r->policy), DIGEST_BYTES) : json_null();
    json_t *body = json_pack("{s:i, s:s, s:o, s:I, s:o, s:o, s:o, s:o}", "v", ROSTER_VERSION, "cluster", r->cluster,
                             "root", json_hex(r->root, sizeof r->root), "epoch", (json_int_t)r->epoch, "prev",
                             json_hex(r->prev, sizeof r->prev), "nodes", nodes, "revoked", revoked, "policy", policy);
    char *text = body ? json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(body);
    return text;
}

// ---------------------------------------------------------------- reading
// Exactly these members: with the right number of them, each that is asked for and there leaves no room for another.
static int check_members(const json_t *o, size_t n, const char *what, struct err *e) {
    if (json_is_object(o) && json_object_size(o) == n) return 0;
    return err_set(e, ERR_INVALID, "a roster's %s has not exactly the members it should have", what);
}

static int bad_member(struct err *e, const char *name) {
    return err_param(e, name, "a roster's '%s' is not right", name);
}

static int read_text(const json_t *o, const char *name, char *out, size_t size, bool (*fit)(const char *),
                     struct err *e) {
    const json_t *v = json_object_get(o, name);
    const char *text = json_string_value(v);
    if (!text || json_string_length(v) != strlen(text) || strlen(text) >= size || !fit(text))
        return bad_member(e, name);
    snprintf(out, size, "%s", text);
    return 0;
}

static int read_hex(const json_t *o, const char *name, void *out, size_t n, struct err *e) {
    return hex_decode(json_string_value(json_object_get(o, name)), out, n) ? bad_member(e, name) : 0;
}

static int read_number(const json_t *o, const char *name, int64_t min, int64_t max, int64_t *out, struct err *e) {
    const json_t *v = json_object_get(o, name);
    if (!json_is_integer(v)) return bad_member(e, name);
    return json_get_int(o, name, min, max, out, e);
}

bool roster_is_role(const char *s) { return !strcmp(s, "auto") || !strcmp(s, "prime") || !strcmp(s, "edge"); }
static bool is_any(const char *s) { return *s; } // what is compared with what it must be, afterwards

// A node's id says nothing that its pin does not say.
static int read_id(const json_t *o, char id[IDENTITY_ID], uint8_t pin[IDENTITY_PIN], struct err *e) {
    char expected[IDENTITY_ID];
    if (read_text(o, "id", id, IDENTITY_ID, is_any, e) || read_hex(o, "pin", pin, IDENTITY_PIN, e)) return -1;
    identity_id_of(pin, expected);
    return strcmp(id, expected) != 0 ? bad_member(e, "id") : 0;
}

static int read_labels(const json_t *o, struct roster_node *n, struct err *e) {
    const json_t *list = json_object_get(o, "labels");
    if (!json_is_array(list) || json_array_size(list) > ROSTER_LABELS) return bad_member(e, "labels");
    for (n->n_labels = 0; n->n_labels < json_array_size(list); n->n_labels++) {
        const char *label = json_string_value(json_array_get(list, n->n_labels));
        if (!label || !roster_is_name(label)) return bad_member(e, "labels");
        snprintf(n->labels[n->n_labels], ROSTER_NAME, "%s", label);
    }
    return 0;
}

int roster_node_read(const json_t *o, struct roster_node *n, struct err *e) {
    return check_members(o, 7, "node", e) || read_id(o, n->id, n->pin, e) ||
                   read_text(o, "name", n->name, sizeof n->name, roster_is_name, e) ||
                   read_hex(o, "audit", n->audit, sizeof n->audit, e) ||
                   read_text(o, "role", n->role, sizeof n->role, roster_is_role, e) || read_labels(o, n, e) ||
                   read_text(o, "address", n->address, sizeof n->address, roster_is_address, e)
               ? -1
               : 0;
}

static int read_nodes(const json_t *body, struct roster *r, struct err *e) {
    const json_t *list = json_object_get(body, "nodes");
    if (!json_is_array(list) || json_array_size(list) > ROSTER_NODES) return bad_member(e, "nodes");
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct roster_node *n = &r->nodes[i];
        if (roster_node_read(json_array_get(list, i), n, e)) return -1;
        // r->n_nodes does not count this one yet
        if (roster_find(r, n->name) || roster_find(r, n->id))
            return err_param(e, "nodes", "a roster names two nodes '%s'", n->name);
        r->n_nodes = i + 1;
    }
    return 0;
}

static int read_revoked(const json_t *body, struct roster *r, struct err *e) {
    const json_t *list = json_object_get(body, "revoked");
    if (!json_is_array(list) || json_array_size(list) > ROSTER_REVOKED) return bad_member(e, "revoked");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i);
        struct roster_revoked *one = &r->revoked[i];
        if (check_members(o, 3, "revocation", e) || read_id(o, one->id, one->pin, e) ||
            read_number(o, "when", 0, WHEN_MAX, &one->when, e))
            return -1;
        if (roster_of_pin(r, one->pin))
            return err_param(e, "revoked", "a roster lists node %s and revokes it", one->id);
        r->n_revoked = i + 1;
    }
    return 0;
}

static int check_policy(const json_t *body, const struct roster *r, struct err *e) {
    uint8_t digest[DIGEST_BYTES];
    if (json_is_null(json_object_get(body, "policy")))
        return r->policy ? err_param(e, "policy", "a policy came with the roster, which names none") : 0;
    if (read_hex(body, "policy", digest, sizeof digest, e)) return -1;
    if (r->policy && !memcmp(digest, policy_digest(r->policy), sizeof digest)) return 0;
    return err_param(e, "policy", "the policy that the roster names did not come with it");
}

static int read_members(const json_t *body, struct roster *r, struct err *e) {
    static const uint8_t zeros[DIGEST_BYTES];
    int64_t version;
    if (!json_is_object(body)) return err_set(e, ERR_INVALID, "a roster is a JSON object");
    if (read_number(body, "v", 1, INT32_MAX, &version, e)) return -1;
    if (version != ROSTER_VERSION)
        return err_param(e, "v", "the roster is of version %lld, which this program does not know: update it",
                         (long long)version);
    if (check_members(body, 8, "body", e) ||
        read_text(body, "cluster", r->cluster, sizeof r->cluster, roster_is_name, e) ||
        read_hex(body, "root", r->root, sizeof r->root, e) || read_number(body, "epoch", 1, EPOCH_MAX, &r->epoch, e) ||
        read_hex(body, "prev", r->prev, sizeof r->prev, e) || read_nodes(body, r, e) || read_revoked(body, r, e))
        return -1;
    if ((r->epoch == 1) != !memcmp(r->prev, zeros, sizeof zeros)) return bad_member(e, "prev");
    return check_policy(body, r, e);
}

int roster_read_body(struct roster *r, const char *text, size_t n, struct err *e) {
    json_t *body = n ? json_parse(text, n, e) : NULL;
    if (!n) err_set(e, ERR_INVALID, "a roster's body is empty");
    if (!body) return -1;
    int rc = read_members(body, r, e);
    char *again = rc ? NULL : roster_write_body(r);
    if (!rc && !again)
        rc = err_set(e, ERR_INTERNAL, "out of memory");
    else if (!rc && (strlen(again) != n || memcmp(again, text, n) != 0))
        rc = err_set(e, ERR_INVALID, "a roster's body is not canonical JSON");
    free(again);
    json_decref(body);
    return rc;
}

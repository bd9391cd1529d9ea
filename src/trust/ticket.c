#include "trust/ticket.h"
#include "base/bytes.h"
#include "base/json.h"
#include "base/text.h"
#include "trust/policy_subject.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICKET_VERSION = 1 };
#define TIME_MAX (1ll << 53) // of times and epochs: what readers that only know doubles can tell apart
static const char purpose[] = "nebulus-ticket-v1"; // with its NUL

// ---------------------------------------------------------------- writing
static json_t *names_json(const struct policy_names *names) {
    if (!names->v) return json_null();
    json_t *list = json_array();
    for (size_t i = 0; i < names->n; i++) json_array_append_new(list, json_string(names->v[i]));
    return list;
}

static json_t *lineage_json(const struct policy_subject *who) {
    json_t *list = json_array();
    for (size_t i = 0; i < who->n; i++) {
        const struct policy_agent *g = &who->lineage[i];
        json_array_append_new(list, json_pack("{s:s?, s:o, s:o}", "id", g->id, "groups", names_json(&g->groups),
                                              "labels", names_json(&g->labels)));
    }
    return list;
}

static json_t *end_json(const struct ticket_end *end) {
    return json_pack("{s:s, s:s}", "node", end->node, "session", end->session);
}

// malloc'd; NULL: out of memory.
static char *write_body(const struct ticket *t) {
    json_t *o = json_pack("{s:i, s:s, s:s, s:s, s:I, s:o, s:s, s:s, s:o, s:o, s:s, s:s, s:o, s:o, s:b, s:I, s:I, s:I}",
                          "v", TICKET_VERSION, "nonce", t->nonce, "parent", t->parent, "cluster", t->cluster, "epoch",
                          (json_int_t)t->epoch, "policy", json_hex(t->policy, sizeof t->policy), "gateway", t->gateway,
                          "req_id", t->req_id, "lineage", lineage_json(t->who), "labels", names_json(&t->who->labels),
                          "model", t->model, "weights", t->weights, "prefill", end_json(&t->prefill), "decode",
                          end_json(&t->decode), "writes_on", t->writes_on, "tokens", (json_int_t)t->tokens, "issued",
                          (json_int_t)t->issued, "expires", (json_int_t)t->expires);
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(o);
    return text;
}

// What the key signs, n bytes of text with what they are for. malloc'd; NULL: out of memory.
static char *signed_bytes(const char *text, size_t n, size_t *size) {
    char *all = malloc(sizeof purpose + n);
    if (!all) return NULL;
    memcpy(all, purpose, sizeof purpose);
    memcpy(all + sizeof purpose, text, n);
    *size = sizeof purpose + n;
    return all;
}

static struct ticket *parse_body(const char *text, size_t n);

static json_t *sign_text(const char *text, EVP_PKEY *key, struct err *e) {
    uint8_t signature[KEY_SIGNATURE];
    char hex[2 * KEY_SIGNATURE + 1];
    size_t n;
    char *all = signed_bytes(text, strlen(text), &n);
    int rc = all ? key_sign(key, all, n, signature, e) : err_set(e, ERR_INTERNAL, "out of memory");
    free(all);
    if (rc) return NULL;
    hex_encode(signature, sizeof signature, hex);
    json_t *document = json_pack("{s:s, s:s}", "body", text, "sig", hex);
    if (!document) err_set(e, ERR_INTERNAL, "out of memory");
    return document;
}

json_t *ticket_sign(struct ticket *t, EVP_PKEY *key, int64_t now_ms, struct err *e) {
    char nonce[ID_SIZE];
    id_make("", nonce);
    memcpy(t->nonce, nonce, sizeof t->nonce);
    t->issued = now_ms;
    t->expires = now_ms + TICKET_LIFE_MS;
    char *text = write_body(t);
    struct ticket *check = text ? parse_body(text, strlen(text)) : NULL; // nothing is signed that others would refuse
    json_t *document = NULL;
    if (!text)
        err_set(e, ERR_INTERNAL, "out of memory for a ticket");
    else if (!check)
        err_set(e, ERR_LIMIT, "no ticket can be written for this: its agent has too many groups or labels");
    else
        document = sign_text(text, key, e);
    ticket_free(check);
    free(text);
    return document;
}

// ---------------------------------------------------------------- reading
// What the members must be; that they are all there, and nothing else, shows when they are written again.
static int take_text(const json_t *o, const char *name, char *out, size_t size) {
    const json_t *v = json_object_get(o, name);
    const char *text = json_string_value(v);
    if (!text || json_string_length(v) >= size || strlen(text) != json_string_length(v)) return -1;
    snprintf(out, size, "%s", text);
    return 0;
}

static int take_name(const json_t *o, const char *name, char *out, size_t size) {
    return take_text(o, name, out, size) || !text_is_name(out) ? -1 : 0;
}

// Lower-case digits: exactly as many as fit, or none where `optional`.
static int take_digits(const json_t *o, const char *name, char *out, size_t size, bool optional) {
    if (take_text(o, name, out, size)) return -1;
    if (optional && !out[0]) return 0;
    return strlen(out) == size - 1 && strspn(out, "0123456789abcdef") == size - 1 ? 0 : -1;
}

static int take_end(const json_t *o, const char *name, struct ticket_end *out) {
    const json_t *end = json_object_get(o, name);
    return take_digits(end, "node", out->node, sizeof out->node, false) ||
                   take_digits(end, "session", out->session, sizeof out->session, true)
               ? -1
               : 0;
}

static int take_number(const json_t *o, const char *name, int64_t min, int64_t *out) {
    const json_t *v = json_object_get(o, name);
    if (!json_is_integer(v)) return -1;
    *out = json_integer_value(v);
    return *out >= min && *out <= TIME_MAX ? 0 : -1;
}

// Borrows from list.
static int take_names(const json_t *list, bool optional, const char *out[TICKET_NAMES], struct policy_names *names) {
    *names = (struct policy_names){.v = NULL};
    if (optional && json_is_null(list)) return 0;
    if (!json_is_array(list) || json_array_size(list) > TICKET_NAMES) return -1;
    *names = (struct policy_names){out, json_array_size(list)};
    for (size_t i = 0; i < names->n; i++) {
        out[i] = json_string_value(json_array_get(list, i));
        if (!out[i] || !roster_is_name(out[i])) return -1;
    }
    return 0;
}

// A copy of all that it says about who asks: t->who.
static int take_subject(const json_t *o, struct ticket *t) {
    const char *groups[POLICY_LINEAGE][TICKET_NAMES], *labels[POLICY_LINEAGE][TICKET_NAMES], *asked[TICKET_NAMES];
    struct policy_agent lineage[POLICY_LINEAGE];
    struct policy_subject who = {.lineage = lineage, .model = t->model, .gateway = t->gateway};
    const json_t *list = json_object_get(o, "lineage");
    if (!json_array_size(list) || json_array_size(list) > POLICY_LINEAGE ||
        take_names(json_object_get(o, "labels"), false, asked, &who.labels))
        return -1;
    for (who.n = 0; who.n < json_array_size(list); who.n++) {
        const json_t *one = json_array_get(list, who.n);
        struct policy_agent *g = &lineage[who.n];
        g->id = json_string_value(json_object_get(one, "id"));
        if (!g->id || !roster_is_name(g->id) ||
            take_names(json_object_get(one, "groups"), false, groups[who.n], &g->groups) ||
            take_names(json_object_get(one, "labels"), true, labels[who.n], &g->labels))
            return -1;
    }
    t->who = t->owned = policy_subject_copy(&who);
    return t->owned ? 0 : -1;
}

static int take_members(const json_t *o, struct ticket *t) {
    return take_digits(o, "nonce", t->nonce, sizeof t->nonce, false) ||
                   take_digits(o, "parent", t->parent, sizeof t->parent, true) ||
                   take_name(o, "cluster", t->cluster, sizeof t->cluster) || take_number(o, "epoch", 1, &t->epoch) ||
                   hex_decode(json_string_value(json_object_get(o, "policy")), t->policy, sizeof t->policy) ||
                   take_digits(o, "gateway", t->gateway, sizeof t->gateway, false) ||
                   take_name(o, "req_id", t->req_id, sizeof t->req_id) ||
                   take_name(o, "model", t->model, sizeof t->model) ||
                   take_digits(o, "weights", t->weights, sizeof t->weights, true) ||
                   take_end(o, "prefill", &t->prefill) || take_end(o, "decode", &t->decode) ||
                   take_number(o, "tokens", -1, &t->tokens) || take_number(o, "issued", 0, &t->issued) ||
                   take_number(o, "expires", t->issued + 1, &t->expires) || take_subject(o, t)
               ? -1
               : 0;
}

static struct ticket *parse_body(const char *text, size_t n) {
    struct err unused;
    json_t *o = n && n <= TICKET_BYTES ? json_parse(text, n, &unused) : NULL;
    struct ticket *t = o ? calloc(1, sizeof *t) : NULL;
    int bad = !t || take_members(o, t) || t->expires - t->issued > TICKET_LIFE_MS;
    if (t) t->writes_on = json_is_true(json_object_get(o, "writes_on"));
    char *again = bad ? NULL : write_body(t);
    if (!again || strlen(again) != n || memcmp(again, text, n) != 0) bad = 1;
    free(again);
    json_decref(o);
    if (!bad) return t;
    ticket_free(t);
    return NULL;
}

static bool is_signed(const struct roster_node *by, const char *text, size_t n, const char *hex) {
    uint8_t signature[KEY_SIGNATURE];
    size_t size;
    if (hex_decode(hex, signature, sizeof signature)) return false;
    char *all = signed_bytes(text, n, &size);
    bool good = all && key_verify(by->audit, all, size, signature);
    free(all);
    return good;
}

struct ticket *ticket_read(const json_t *document, const struct roster *r, const char *gateway,
                           enum ticket_fault *why) {
    const json_t *body = json_object_get(document, "body"), *sig = json_object_get(document, "sig");
    const char *text = json_string_value(body);
    size_t n = json_string_length(body);
    const struct roster_node *by = r ? roster_find(r, gateway) : NULL;
    struct ticket *t = NULL;
    if (!document)
        *why = TICKET_MISSING;
    else if (json_object_size(document) != 2 || !text || !json_is_string(sig) || n > TICKET_BYTES)
        *why = TICKET_MALFORMED;
    else if (!by || strcmp(by->id, gateway) != 0)
        *why = TICKET_ISSUER;
    else if (!is_signed(by, text, n, json_string_value(sig))) // what is not signed is not looked at any further
        *why = TICKET_SIGNATURE;
    else if (!(t = parse_body(text, n)))
        *why = TICKET_MALFORMED;
    if (!t) return NULL;
    digest_of(text, n, t->digest);
    *why = strcmp(t->gateway, gateway) != 0 ? TICKET_ISSUER : TICKET_FINE;
    if (*why == TICKET_FINE) return t;
    ticket_free(t);
    return NULL;
}

void ticket_free(struct ticket *t) {
    if (!t) return;
    free(t->owned);
    free(t);
}

// ---------------------------------------------------------------- judging
static enum ticket_fault check_time(const struct ticket *t, int64_t now_ms) {
    if (!now_ms) return TICKET_CLOCK;
    if (t->issued > now_ms + TICKET_SKEW_MS) return TICKET_EARLY;
    return now_ms < t->expires + TICKET_SKEW_MS ? TICKET_FINE : TICKET_EXPIRED;
}

static const struct ticket_end *end_of(const struct ticket *t, const char *node) {
    return !strcmp(t->prefill.node, node) ? &t->prefill : !strcmp(t->decode.node, node) ? &t->decode : NULL;
}

enum ticket_fault ticket_check(const struct ticket *t, const struct ticket_view *v) {
    const struct ticket_end *here = end_of(t, v->node);
    if (strcmp(t->cluster, v->roster->cluster) != 0) return TICKET_CLUSTER;
    if (t->epoch < v->roster->epoch) return TICKET_EPOCH;
    if (t->epoch == v->roster->epoch && memcmp(t->policy, v->policy, DIGEST_BYTES) != 0) return TICKET_POLICY;
    if (!here) return TICKET_NODE;
    if (strcmp(here->session, v->session) != 0 || !here->session[0]) return TICKET_SESSION;
    return check_time(t, v->now_ms);
}

// ---------------------------------------------------------------- reasons
static const struct {
    const char *name, *text;
    enum err_code code;
} faults[TICKET_FAULTS] = {
    [TICKET_FINE] = {"ticket_fine", "nothing is wrong with the ticket", ERR_INTERNAL},
    [TICKET_MISSING] = {"ticket_missing", "the order came without a ticket", ERR_DENIED},
    [TICKET_MALFORMED] = {"ticket_malformed", "the ticket is not written as tickets are", ERR_DENIED},
    [TICKET_ISSUER] = {"ticket_issuer", "the ticket is not the word of the member that sent it", ERR_DENIED},
    [TICKET_SIGNATURE] = {"ticket_signature", "the ticket is not signed by the key that the roster names", ERR_DENIED},
    [TICKET_CLUSTER] = {"ticket_cluster", "the ticket is of another cluster", ERR_DENIED},
    [TICKET_EPOCH] = {"ticket_epoch", "the ticket is of an older roster than this node's", ERR_UNREACHABLE},
    [TICKET_POLICY] = {"ticket_policy", "the ticket is of another policy than this node's", ERR_DENIED},
    [TICKET_NODE] = {"ticket_node", "the ticket is for other nodes, or for another part of the job", ERR_DENIED},
    [TICKET_SESSION] = {"ticket_session", "the ticket is for an earlier run of this node", ERR_UNREACHABLE},
    [TICKET_CLOCK] = {"ticket_clock", "this node's clock was never set, so that it can judge no ticket", ERR_DENIED},
    [TICKET_EARLY] = {"ticket_early", "the ticket is of the future: the clocks of the two nodes differ", ERR_DENIED},
    [TICKET_EXPIRED] = {"ticket_expired", "the ticket has expired, or the clocks of the two nodes differ", ERR_DENIED},
    [TICKET_REPLAYED] = {"ticket_replayed", "the ticket was used before", ERR_DENIED},
    [TICKET_FULL] = {"ticket_full", "too many tickets were used within a few minutes: try again later", ERR_BUSY},
    [TICKET_MODEL] = {"ticket_model", "the ticket is for another model than the one ordered or the one here",
                      ERR_DENIED},
    [TICKET_TOKENS] = {"ticket_tokens", "the ticket is for fewer tokens than are ordered", ERR_DENIED},
    [TICKET_REQUEST] = {"ticket_request", "the ticket is for another request than the place", ERR_DENIED},
};

const char *ticket_fault_name(enum ticket_fault f) { return faults[f].name; }

enum ticket_fault ticket_fault_of(const char *name) {
    for (int f = TICKET_FAULTS - 1; f > TICKET_FINE; f--)
        if (!strcmp(name, faults[f].name)) return (enum ticket_fault)f;
    return TICKET_FINE;
}

int ticket_refuse(enum ticket_fault f, struct err *e) {
    err_param(e, faults[f].name, "%s", faults[f].text);
    if (e) e->code = faults[f].code;
    return -1;
}

// nebulus audit reconcile: whether what one node's log says of another one stands in that one's log, too.
#include "audit/logs.h"
#include "audit/verify.h"
#include "audit/witnessed.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/audit_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_SIZE = 512 };

struct reconciling {
    char node[IDENTITY_ID];    // whose log is being read
    json_t *nodes;             // {ID: true}: whose logs are read
    json_t *gateways, *places; // {"REQ NODE": ..}: who has recorded an intent; of a place, its gateway
    json_t *wanted;            // {"REQ NODE": GATEWAY}: where a gateway says that it was computed
    json_t *sent, *came;       // {"REQ FROM TO": bytes}
    json_t *findings;          // [{req_id, node, other, what}]
};

static void key_of(char out[KEY_SIZE], const char *req, const char *a, const char *b) {
    snprintf(out, KEY_SIZE, "%.128s %.64s%s%.64s", req, a, *b ? " " : "", b);
}

// ---------------------------------------------------------------- what the logs say
static void add_rows(json_t *to, const char *key, int64_t bytes) {
    json_object_set_new(to, key, json_integer(json_integer_value(json_object_get(to, key)) + bytes));
}

static void want(struct reconciling *r, const char *req, const char *node) {
    char key[KEY_SIZE];
    if (!*node || !strcmp(node, r->node)) return;
    key_of(key, req, node, "");
    json_object_set_new(r->wanted, key, json_string(r->node));
}

// Logs of before `computed` name the nodes that were to compute, which were asked for certain only where it went well.
static void read_outcome(struct reconciling *r, const json_t *o, const char *req) {
    const json_t *computed = json_object_get(o, "computed"), *one;
    const char *finish = audit_text(o, "finish");
    size_t i;
    if (strcmp(audit_text(o, "part"), "gateway") != 0) return;
    json_array_foreach(computed, i, one) want(r, req, audit_text(one, "node"));
    if (computed || (strcmp(finish, "stop") != 0 && strcmp(finish, "length") != 0)) return;
    want(r, req, audit_text(o, "prefill"));
    want(r, req, audit_text(o, "decode"));
}

static int read_record(void *arg, const json_t *o, const char *dir) {
    struct reconciling *r = arg;
    const char *type = audit_text(o, "type"), *req = audit_text(o, "req_id");
    char key[KEY_SIZE];
    (void)dir;
    if (!*req) return 0;
    key_of(key, req, r->node, "");
    if (!strcmp(type, "intent") && !strcmp(audit_text(o, "part"), "gateway"))
        json_object_set_new(r->gateways, key, json_true());
    else if (!strcmp(type, "intent"))
        json_object_set_new(r->places, key, json_string(audit_text(o, "gateway")));
    else if (!strcmp(type, "outcome"))
        read_outcome(r, o, req);
    else if (!strcmp(type, "kv_sent")) {
        key_of(key, req, r->node, audit_text(o, "to"));
        add_rows(r->sent, key, audit_number(o, NULL, "bytes"));
    } else if (!strcmp(type, "kv_recv")) {
        key_of(key, req, audit_text(o, "from"), r->node);
        add_rows(r->came, key, audit_number(o, NULL, "bytes"));
    }
    return 0;
}

static int read_folder(struct reconciling *r, const char *dir, struct err *e) {
    struct note_key key;
    if (verify_key(&audit_files, dir, &key, e)) return -1;
    if (!witnessed_node(key.name, r->node)) return err_set(e, ERR_INVALID, "%s names no node", dir);
    json_object_set_new(r->nodes, r->node, json_true());
    return audit_read_log(dir, "\"req_id\"", read_record, r, e);
}

// ---------------------------------------------------------------- what does not fit
static void find(struct reconciling *r, const char *req, const char *node, const char *other, const char *what) {
    json_array_append_new(r->findings,
                          json_pack("{s:s,s:s,s:s,s:s}", "req_id", req, "node", node, "other", other, "what", what));
}

static bool is_read(const struct reconciling *r, const char *node) { return json_object_get(r->nodes, node); }

// "REQ A" or "REQ A B" into its words.
static void split(const char *key, char words[3][KEY_SIZE]) {
    for (int i = 0; i < 3; i++) {
        size_t n = strcspn(key, " ");
        snprintf(words[i], KEY_SIZE, "%.*s", (int)n, key);
        key += n + (key[n] != '\0');
    }
}

static void compare_intents(struct reconciling *r) {
    char words[3][KEY_SIZE], key[KEY_SIZE];
    const char *at;
    json_t *other;
    json_object_foreach(r->places, at, other) {
        const char *gateway = json_string_value(other);
        split(at, words);
        key_of(key, words[0], gateway, "");
        if (is_read(r, gateway) && !json_object_get(r->gateways, key))
            find(r, words[0], words[1], gateway, "computed for a request that its gateway has no record of");
    }
    json_object_foreach(r->wanted, at, other) {
        split(at, words);
        if (is_read(r, words[1]) && !json_object_get(r->places, at))
            find(r, words[0], json_string_value(other), words[1],
                 "says that the other node computed, which has no record of it");
    }
}

static void compare_rows(struct reconciling *r) {
    char words[3][KEY_SIZE], what[128];
    const char *at;
    json_t *bytes;
    json_object_foreach(r->sent, at, bytes) {
        int64_t sent = json_integer_value(bytes), came = json_integer_value(json_object_get(r->came, at));
        split(at, words);
        snprintf(what, sizeof what, "sent %" PRId64 " bytes of rows, of which the other node has recorded %" PRId64,
                 sent, came);
        if (sent != came && is_read(r, words[1]) && is_read(r, words[2])) find(r, words[0], words[1], words[2], what);
    }
    json_object_foreach(r->came, at, bytes) {
        split(at, words);
        snprintf(what, sizeof what, "has got %" PRId64 " bytes of rows that the other node has no record of",
                 (int64_t)json_integer_value(bytes));
        if (!json_object_get(r->sent, at) && is_read(r, words[1]) && is_read(r, words[2]))
            find(r, words[0], words[2], words[1], what);
    }
}

// ---------------------------------------------------------------- the whole
static int tell(const struct invocation *in, const struct reconciling *r) {
    size_t n = json_array_size(r->findings), nodes = json_object_size(r->nodes);
    char req[256];
    if (args_has(&in->args, "json")) {
        json_t *o =
            json_pack("{s:i,s:b,s:I,s:O}", "v", 1, "ok", !n, "nodes", (json_int_t)nodes, "findings", r->findings);
        int rc = audit_print_json(o);
        json_decref(o);
        return rc || n ? CLI_FAILED : CLI_OK;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *f = json_array_get(r->findings, i);
        text_escape(req, sizeof req, audit_text(f, "req_id"));
        printf("%s: %.8s %s (%.8s)\n", req, audit_text(f, "node"), audit_text(f, "what"), audit_text(f, "other"));
    }
    if (!n) printf("%zu nodes: what each log says of another one stands there, too\n", nodes);
    return n ? CLI_FAILED : CLI_OK;
}

// The folders that are given, and this home's where that is one or none.
static int read_all(const struct invocation *in, struct reconciling *r, struct err *e) {
    struct audit_logs logs = {.n = 0};
    int rc = 0;
    for (size_t i = 1; i < in->args.n_words && !rc; i++) rc = read_folder(r, in->args.words[i], e);
    if (!rc && in->args.n_words < 3) rc = audit_logs_find(&in->paths, &logs, e);
    for (size_t i = 0; i < logs.n && !rc; i++) rc = read_folder(r, logs.dir[i], e);
    audit_logs_free(&logs);
    if (!rc && json_object_size(r->nodes) < 2)
        rc = err_set(e, ERR_INVALID, "reconcile compares logs of two nodes or more: name a folder of another one's");
    return rc;
}

int audit_reconcile(struct invocation *in) {
    struct reconciling r = {.nodes = json_object(),
                            .gateways = json_object(),
                            .places = json_object(),
                            .wanted = json_object(),
                            .sent = json_object(),
                            .came = json_object(),
                            .findings = json_array()};
    json_t *const all[] = {r.nodes, r.gateways, r.places, r.wanted, r.sent, r.came, r.findings};
    struct err e = {.code = ERR_NONE};
    int rc;
    if (read_all(in, &r, &e))
        rc = cli_fail(&e);
    else {
        compare_intents(&r);
        compare_rows(&r);
        rc = tell(in, &r);
    }
    for (size_t i = 0; i < COUNT_OF(all); i++) json_decref(all[i]);
    return rc;
}

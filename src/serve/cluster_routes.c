#include "serve/cluster_routes.h"
#include "base/json.h"
#include "serve/cluster_internal.h"
#include "serve/discovery.h"
#include "serve/jobs.h"
#include "serve/links.h"
#include "serve/orders.h"
#include "serve/witness.h"
#include "trust/policy_tests.h"

#include <stdio.h>
#include <string.h>

static json_t *text_or_null(const struct err *e) { return e->code ? json_string(e->msg) : json_null(); }

// ---------------------------------------------------------------- nodes
static json_t *cluster_json(const struct cluster *c) {
    uint8_t fingerprint[DIGEST_BYTES];
    char at[SETTING_SIZE + 16];
    if (!c->roster) return json_null();
    digest_of(c->roster->root, KEY_PUBLIC, fingerprint);
    snprintf(at, sizeof at, strchr(c->host, ':') ? "[%s]:%ld" : "%s:%ld", c->host, c->port);
    return json_pack("{s:s, s:o, s:I, s:o, s:o, s:o, s:o}", "name", c->roster->cluster, "root",
                     json_hex(fingerprint, sizeof fingerprint), "epoch", (json_int_t)c->roster->epoch, "digest",
                     json_hex(c->roster->digest, DIGEST_BYTES), "listening",
                     c->listening ? json_string(at) : json_null(), "listen_error", text_or_null(&c->no_listener),
                     "alarm", text_or_null(&c->alarm));
}

static const char *state_of(const struct roster_node *n, const struct peer *p, const struct note *note,
                            const struct cluster *c) {
    if (!strcmp(n->id, c->identity.id)) return "self";
    if (note && note->left) return "left";
    return p && p->up ? "up" : "down";
}

static double since_s(const struct peer *p, const struct note *note) {
    uint64_t from = p && p->up ? p->since_ns : note ? note->down_ns : 0;
    return from ? (double)(clock_mono_ns() - from) / 1e9 : 0;
}

static json_t *about_json(const struct cluster *c, const struct note *note, bool self) {
    if (self) return gossip_about(c);
    return note && note->about ? json_incref(note->about) : json_object();
}

static json_t *node_json(struct cluster *c, const struct roster_node *n) {
    bool self = !strcmp(n->id, c->identity.id);
    const struct peer *p = self ? NULL : peers_find(c->peers, n->id);
    const struct note *note = membership_note(c, n->id, false);
    json_t *about = about_json(c, note, self), *labels = json_array();
    for (size_t i = 0; i < n->n_labels; i++) json_array_append_new(labels, json_string(n->labels[i]));
    bool up = p && p->up;
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:f, s:o, s:o, s:o, s:o}", "id", n->id, "name", n->name,
                          "state", state_of(n, p, note, c), "role", n->role, "labels", labels, "address",
                          p && p->address[0] ? p->address : n->address, "since_s", since_s(p, note), "rtt_ms",
                          up && p->rtt_ns ? json_real((double)p->rtt_ns / 1e6) : json_null(), "why",
                          p && !up ? text_or_null(&p->why) : json_null(), "link", links_json(c->s->links, n->id),
                          "audit", witness_peer_json(c->s->witness, n->id));
    if (o && about) json_object_update_missing(o, about); // version, epoch, digest, models, links
    json_decref(about);
    return o;
}

void cluster_show_nodes(const struct call *call) {
    struct cluster *c = call->s->cluster;
    json_t *nodes = json_array();
    for (size_t i = 0; c->roster && i < c->roster->n_nodes; i++)
        json_array_append_new(nodes, node_json(c, &c->roster->nodes[i]));
    call_answer(call, json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "v", 1, "cluster", cluster_json(c),
                                "trouble", text_or_null(&c->trouble), "nodes", nodes, "discovered",
                                discovery_nodes_json(call->s->discovery), "jobs", jobs_json(call->s), "orders",
                                orders_json(call->s), "audit", witness_json(call->s->witness)));
}

// ---------------------------------------------------------------- rosters
void cluster_show_roster(const struct call *call) {
    struct cluster *c = call->s->cluster;
    struct err why = {.code = ERR_NONE};
    json_t *left = json_array();
    if (membership_check(c, &why)) {
        json_decref(left);
        call_fail(call, &why);
        return;
    }
    for (size_t i = 0; i < ROSTER_NODES; i++)
        if (c->notes[i].left) json_array_append_new(left, json_string(c->notes[i].id));
    call_answer(call, json_pack("{s:i, s:o, s:o, s:o}", "v", 1, "root", json_hex(c->roster->root, KEY_PUBLIC), "roster",
                                roster_document(c->roster), "left", left));
}

static struct roster *read_roster(const struct call *call, const uint8_t *root, struct err *e) {
    json_t *body = call_body(call, e);
    struct roster *r = body ? roster_read(json_object_get(body, "roster"), root, e) : NULL;
    json_decref(body);
    if (!r || !r->policy || !policy_tests_pass(r->policy, e)) return r;
    roster_free(r);
    return NULL;
}

static void answer_epoch(const struct call *call) {
    const struct roster *r = call->s->cluster->roster;
    call_answer(call, r ? json_pack("{s:i, s:s, s:I, s:i}", "v", 1, "cluster", r->cluster, "epoch",
                                    (json_int_t)r->epoch, "nodes", (int)r->n_nodes)
                        : json_pack("{s:i, s:n}", "v", 1, "cluster"));
}

void cluster_found(const struct call *call) {
    struct cluster *c = call->s->cluster;
    struct err why = {.code = ERR_NONE};
    struct roster *r = NULL;
    if (c->joining)
        err_set(&why, ERR_BUSY, "this node is joining a cluster just now");
    else if (!cluster_prepare(c, &why))
        r = read_roster(call, NULL, &why);
    if (!r || membership_begin(c, r, &why))
        call_fail(call, &why);
    else
        answer_epoch(call);
}

void cluster_take_roster(const struct call *call) {
    struct cluster *c = call->s->cluster;
    struct err why = {.code = ERR_NONE};
    struct roster *r = membership_check(c, &why) ? NULL : read_roster(call, c->roster->root, &why);
    if (!r || membership_adopt(c, r, NULL, &why))
        call_fail(call, &why);
    else
        answer_epoch(call);
}

void cluster_show_self(const struct call *call) {
    struct cluster *c = call->s->cluster;
    struct err why = {.code = ERR_NONE};
    struct roster_node n = {.role = "auto"};
    const char *address = "";
    char own[1][ROSTER_ADDRESS] = {""};
    json_t *body = call_body(call, &why);
    if (!body || json_get_string(body, "address", &address, &why) || cluster_prepare(c, &why)) goto failed;
    if (!roster_is_address(address)) {
        err_param(&why, "address", "'%.64s' is not of the form HOST:PORT", address);
        goto failed;
    }
    if (!*address && c->host[0]) locate_own(c, own, 1);
    snprintf(n.id, sizeof n.id, "%s", c->identity.id);
    snprintf(n.name, sizeof n.name, "%s", c->name);
    snprintf(n.address, sizeof n.address, "%s", *address ? address : own[0]);
    memcpy(n.pin, c->identity.pin, sizeof n.pin);
    memcpy(n.audit, c->identity.audit, sizeof n.audit);
    call_answer(call, json_pack("{s:i, s:o}", "v", 1, "node", roster_node_json(&n)));
    json_decref(body);
    return;
failed:
    json_decref(body);
    call_fail(call, &why);
}

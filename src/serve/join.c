// Joining: the other side of pairing. One at a time. The inviter is asked at the token's addresses, then at those where
// somebody on the network says to be of the token's cluster: hearsay, which may be anybody's word, so that a machine
// found there which proves nothing is no reason to give up.
#include "base/bytes.h"
#include "base/json.h"
#include "serve/cluster_internal.h"
#include "serve/discovery.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { JOIN_LOOK_MS = 500, JOIN_TURNS = 64 }; // JOIN_TURNS: of those who were discovered, at a look

struct joining {
    struct cluster *c;
    struct call call;
    struct pairing_token token;
    size_t next;                                  // of the token's addresses
    char at[ROSTER_ADDRESS];                      // the one that is tried, or talked to
    char found[LIMIT_JOIN_FOUND][ROSTER_ADDRESS]; // discovered ones that were tried
    size_t n_found, turn;
    bool hearsay;         // `at` is one of these
    struct event *search; // for more of them
    uint64_t until_ns;    // how long; 0 = it has not begun
    char name[ROSTER_NAME], address[ROSTER_ADDRESS], role[ROSTER_ROLE];
    struct reach *dial;
    struct pair_link *link;
    enum { JOIN_DIALLING, JOIN_ASKED, JOIN_PROVEN } state;
    struct pairing_link facts;
    uint8_t root[KEY_PUBLIC];
    struct err why; // of the newest failure that another address may mend
};

static void joining_free(struct joining *j, bool sent) {
    j->c->joining = NULL;
    reach_cancel(j->dial);
    if (j->search) event_free(j->search);
    if (sent)
        pair_link_finish(j->link, &j->c->lingering);
    else
        pair_link_free(j->link);
    OPENSSL_cleanse(j, sizeof *j);
    free(j);
}

static void fail(struct joining *j, const struct err *why) {
    const struct call call = j->call;
    joining_free(j, false);
    call_fail(&call, why);
}

static void on_client_left(void *arg) { joining_free(arg, false); }

void join_end(struct cluster *c) {
    struct err why;
    err_set(&why, ERR_CANCELLED, "the daemon is stopping");
    if (c->joining) fail(c->joining, &why);
}

// ---------------------------------------------------------------- what is said
static int send_hello(struct joining *j, struct err *e) {
    char id[PAIRING_ID];
    pairing_id(j->token.secret, id);
    return pair_link_send(j->link, json_pack("{s:s, s:i, s:s}", "t", "pair", "v", 1, "invitation", id), e);
}

// Where the others are to reach this node: what was asked for, what it listens at, or where this connection comes from.
static void choose_address(const struct joining *j, char out[ROSTER_ADDRESS]) {
    char own[1][ROSTER_ADDRESS], mine[ROSTER_ADDRESS];
    bool any4 = !strcmp(j->c->host, "0.0.0.0"), any6 = !strcmp(j->c->host, "::");
    snprintf(out, ROSTER_ADDRESS, "%s", j->address);
    if (*out || !j->c->host[0]) return; // one that does not listen dials the others
    locate_own(j->c, own, 1);
    snprintf(out, ROSTER_ADDRESS, "%s", own[0]);
    if ((any4 || any6) && !pair_link_host(j->link, mine, sizeof mine) && (mine[0] == '[') == any6)
        snprintf(out, ROSTER_ADDRESS, "%.250s:%ld", mine, j->c->port);
}

static int send_node(struct joining *j, struct err *e) {
    struct roster_node node = {.n_labels = 0};
    uint8_t proof[PAIRING_PROOF];
    char hex[2 * PAIRING_PROOF + 1];
    const struct identity *own = &j->c->identity;
    snprintf(node.id, sizeof node.id, "%s", own->id);
    snprintf(node.name, sizeof node.name, "%s", j->name);
    snprintf(node.role, sizeof node.role, "%s", j->role);
    memcpy(node.pin, own->pin, sizeof node.pin);
    memcpy(node.audit, own->audit, sizeof node.audit);
    choose_address(j, node.address);
    pairing_prove_node(j->token.secret, &j->facts, &node, proof);
    hex_encode(proof, sizeof proof, hex);
    return pair_link_send(j->link,
                          json_pack("{s:s, s:o, s:s}", "t", "join", "node", roster_node_json(&node), "proof", hex), e);
}

// ---------------------------------------------------------------- what comes back
// First the inviter shows that it knows the secret, and the root whose fingerprint the token has. Only then does this
// node tell who it is.
static int on_root(struct joining *j, const json_t *msg, struct err *e) {
    uint8_t proof[PAIRING_PROOF], right[PAIRING_PROOF], digest[DIGEST_BYTES];
    if (hex_decode(json_string_value(json_object_get(msg, "root")), j->root, sizeof j->root) ||
        hex_decode(json_string_value(json_object_get(msg, "proof")), proof, sizeof proof))
        return err_set(e, ERR_INVALID, "the inviter's answer makes no sense: is it another version?");
    digest_of(j->root, sizeof j->root, digest);
    if (memcmp(digest, j->token.root, sizeof digest) != 0)
        return err_set(e, ERR_DENIED,
                       "the machine there belongs to another cluster than the token is for: ask for a new token");
    if (pair_link_facts(j->link, j->c->identity.pin, false, &j->facts, e)) return -1;
    pairing_prove_root(j->token.secret, &j->facts, j->root, right);
    if (!pairing_same(proof, right))
        return err_set(
            e, ERR_DENIED,
            "the machine there does not know the token's secret: somebody may stand between it and this one");
    j->state = JOIN_PROVEN;
    pair_link_wait(j->link, LIMIT_PAIR_SIGN_SECONDS + LIMIT_PAIR_SECONDS);
    return send_node(j, e);
}

static int on_refused(const json_t *msg, struct err *e) {
    const char *code = json_string_value(json_object_get(msg, "code"));
    const char *text = json_string_value(json_object_get(msg, "message"));
    return err_set(e, code ? err_code_of(code) : ERR_DENIED, "the inviter refuses: %.300s",
                   text ? text : "it does not say why");
}

static json_t *answer_json(const struct roster *r, const struct roster_node *self) {
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:I, s:i}", "v", 1, "cluster", r->cluster, "id", self->id, "name",
                     self->name, "address", self->address, "epoch", (json_int_t)r->epoch, "nodes", (int)r->n_nodes);
}

static int on_roster(struct joining *j, const json_t *msg, struct err *e) {
    struct cluster *c = j->c;
    struct roster *r = roster_read(json_object_get(msg, "roster"), j->root, e);
    if (!r || membership_begin(c, r, e)) return -1;
    const struct call call = j->call;
    struct err why;
    bool sent = !pair_link_send(j->link, json_pack("{s:s}", "t", "stored"), &why);
    joining_free(j, sent);
    call_answer(&call, answer_json(c->roster, cluster_self(c)));
    return 0;
}

static int on_message(void *arg, const json_t *msg, struct err *e) {
    struct joining *j = arg;
    const char *type = json_string_value(json_object_get(msg, "t"));
    if (!j->hearsay) j->why.code = ERR_NONE; // it speaks: what goes wrong now no other address will mend
    if (type && !strcmp(type, "refused")) return on_refused(msg, e);
    if (type && j->state == JOIN_ASKED && !strcmp(type, "root")) return on_root(j, msg, e);
    if (type && j->state == JOIN_PROVEN && !strcmp(type, "roster")) return on_roster(j, msg, e);
    return err_set(e, ERR_INVALID, "the inviter does not follow the pairing protocol: is it another version?");
}

static void dial_next(struct joining *j);

static void hang_up(struct joining *j, const struct err *why) {
    j->why = *why;
    pair_link_free(j->link);
    j->link = NULL;
    dial_next(j);
}

static void on_closed(void *arg, const struct err *why) {
    struct joining *j = arg;
    struct err e;
    if (j->state == JOIN_ASKED && j->hearsay && why->code != ERR_UNREACHABLE) {
        hang_up(j, why);
        return;
    }
    if (why->code != ERR_UNREACHABLE) {
        fail(j, why);
        return;
    }
    if (j->state == JOIN_ASKED) { // closed without a word: it may be another machine under the same address
        err_set(
            &e, ERR_DENIED,
            "the machine at %s does not know this invitation: it was withdrawn or its daemon was restarted (ask for "
            "another), or that is not the inviter",
            j->at);
        hang_up(j, &e);
        return;
    }
    err_set(&e, ERR_UNREACHABLE, "the inviter is gone (%.200s): ask for another invitation", why->msg);
    fail(j, &e);
}

// ---------------------------------------------------------------- the way there
static void on_reached(void *arg, struct bufferevent *bev, const uint8_t *shown, const struct err *why) {
    static const struct pair_link_events ev = {.message = on_message, .closed = on_closed};
    struct joining *j = arg;
    struct err e;
    (void)shown; // no key is expected
    j->dial = NULL;
    if (!bev) {
        if (j->why.code != ERR_DENIED)
            err_set(&j->why, ERR_UNREACHABLE, "cannot reach the inviter at %.200s: %.200s", j->at, why->msg);
        dial_next(j);
        return;
    }
    j->state = JOIN_ASKED;
    j->link = pair_link_new(j->c->s->base, bev, LIMIT_ROSTER_MESSAGE, &ev, j, &e);
    if (!j->link || send_hello(j, &e)) fail(j, &e);
}

static bool was_tried(const struct joining *j, const char *address) {
    for (size_t i = 0; i < j->next; i++)
        if (!strcmp(j->token.addresses[i], address)) return true;
    for (size_t i = 0; i < j->n_found; i++)
        if (!strcmp(j->found[i], address)) return true;
    return false;
}

static bool find(struct joining *j) {
    for (size_t i = 0; i < JOIN_TURNS && j->n_found < LIMIT_JOIN_FOUND; i++) {
        if (!discovery_of_cluster(j->c->s->discovery, j->token.root, j->turn++, j->at)) return false;
        if (was_tried(j, j->at)) continue;
        memcpy(j->found[j->n_found++], j->at, sizeof j->at);
        return j->hearsay = true;
    }
    return false;
}

static void on_search(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    dial_next(arg);
}

// Whether there may be one to be discovered yet. It is looked for in a while, then.
static bool wait_for_one(struct joining *j) {
    struct timeval soon = {.tv_usec = JOIN_LOOK_MS * 1000};
    uint64_t now = clock_mono_ns();
    if (!j->c->s->discovery || j->n_found == LIMIT_JOIN_FOUND) return false;
    if (!j->until_ns) j->until_ns = now + LIMIT_JOIN_SEARCH_MS * NS_PER_MS;
    if (!j->search) j->search = event_new(j->c->s->base, -1, 0, on_search, j);
    return now < j->until_ns && j->search && !event_add(j->search, &soon);
}

static void dial(struct joining *j) {
    struct err e;
    const struct reach_to to = {.address = j->at, .tls = j->c->tls, .use = TLS_PAIR, .each_ms = CLUSTER_REACH_MS};
    j->dial = reach_start(j->c->s->base, &to, on_reached, j, &e);
    if (!j->dial) fail(j, &e);
}

static void dial_next(struct joining *j) {
    j->state = JOIN_DIALLING;
    if (j->next < j->token.n) {
        memcpy(j->at, j->token.addresses[j->next++], sizeof j->at);
        dial(j);
    } else if (find(j)) {
        dial(j);
    } else if (!wait_for_one(j)) {
        const struct err why = j->why;
        fail(j, &why);
    }
}

// ---------------------------------------------------------------- the command line's side
static int read_body(struct joining *j, const json_t *body, struct err *e) {
    const char *token = "", *name = j->c->name, *address = "", *role = "auto";
    if (json_get_string(body, "token", &token, e) || json_get_string(body, "name", &name, e) ||
        json_get_string(body, "address", &address, e) || json_get_string(body, "role", &role, e) ||
        pairing_decode(token, &j->token, e))
        return -1;
    if (!roster_is_name(name))
        return err_param(e, "name", "'%.64s' is no name for a node: use letters, digits, '.', '_' and '-'", name);
    if (!roster_is_address(address)) return err_param(e, "address", "'%.64s' is not of the form HOST:PORT", address);
    if (!roster_is_role(role)) return err_param(e, "role", "'%.40s' is no role: use auto, prime or edge", role);
    snprintf(j->name, sizeof j->name, "%s", name);
    snprintf(j->role, sizeof j->role, "%s", role);
    snprintf(j->address, sizeof j->address, "%s", address);
    return 0;
}

// Before the token is used up: can a membership be kept at all?
static int check_room(const struct cluster *c, struct err *e) {
    char path[PATH_SIZE];
    int rc = path_join(path, c->state_dir, "join.check", e) || file_write(path, "\n", 1, e) ? -1 : 0;
    if (!rc) unlink(path);
    return rc;
}

static int check_can_join(struct cluster *c, struct err *e) {
    if (c->joining) return err_set(e, ERR_BUSY, "this node is joining already");
    if (c->roster)
        return err_set(e, ERR_INVALID, "this node belongs to cluster '%s' already: `nebulus leave` comes first",
                       c->roster->cluster);
    if (membership_kept(c)) return membership_check(c, e);
    return cluster_prepare(c, e) || check_room(c, e) ? -1 : 0;
}

void join_start(const struct call *call) {
    struct cluster *c = call->s->cluster;
    struct err why = {.code = ERR_NONE};
    json_t *body = call_body(call, &why);
    struct joining *j = body && !check_can_join(c, &why) ? calloc(1, sizeof *j) : NULL;
    if (j) {
        *j = (struct joining){.c = c, .call = *call};
        c->joining = j;
        if (read_body(j, body, &why)) joining_free(j, false);
    } else if (!why.code)
        err_set(&why, ERR_INTERNAL, "out of memory");
    json_decref(body);
    if (why.code) {
        call_fail(call, &why);
        return;
    }
    http_on_close(call->x, on_client_left, j);
    dial_next(j);
}

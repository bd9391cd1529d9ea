// Invitations: this side of pairing. An invitation is opened by the command line, which holds the root's key and stays
// connected: when a guest has proven the secret it signs a roster with it, and the guest gets that.
#include "base/bytes.h"
#include "base/json.h"
#include "base/log.h"
#include "cluster/origin.h"
#include "serve/cluster_internal.h"

#include <event2/bufferevent.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct invitation {
    struct cluster *c;
    struct call call;
    uint8_t secret[PAIRING_SECRET];
    char id[PAIRING_ID];
    char name[ROSTER_NAME]; // that the admin gives to whoever comes; "" = its own
    struct event *expiry;
    unsigned wrong;
    struct guest *taken; // who has proven the secret; nobody else can any more
    TAILQ_ENTRY(invitation) next;
};

struct guest {
    struct cluster *c;
    struct pair_link *link;
    enum { GUEST_NEW, GUEST_PROVING, GUEST_PROVEN, GUEST_TAKING } state;
    struct invitation *invitation; // from GUEST_PROVING on
    uint64_t origin;
    struct pairing_link facts;
    struct roster_node node; // from GUEST_PROVEN on
    TAILQ_ENTRY(guest) next;
};

// ---------------------------------------------------------------- ends
static void guest_free(struct guest *g, bool sent) {
    TAILQ_REMOVE(&g->c->guests, g, next);
    if (g->invitation && g->invitation->taken == g) g->invitation->taken = NULL;
    if (sent)
        pair_link_finish(g->link, &g->c->lingering);
    else
        pair_link_free(g->link);
    free(g);
}

// Tells a guest why not, and ends with it. What stands in `why` is ours, and safe to tell.
static void guest_refuse(struct guest *g, const struct err *why) {
    struct err e;
    json_t *msg = json_pack("{s:s, s:s, s:s}", "t", "refused", "code", err_name(why->code), "message", why->msg);
    guest_free(g, !pair_link_send(g->link, msg, &e));
}

// The invitation is no more. `how` completes "the invitation was ..."; the stream of its command line has been ended.
static void invitation_free(struct invitation *i, const char *how) {
    struct cluster *c = i->c;
    struct guest *g, *after;
    struct err why;
    err_set(&why, ERR_DENIED, "the invitation was %s: ask for another (`nebulus invite`)", how);
    for (g = TAILQ_FIRST(&c->guests); g; g = after) {
        after = TAILQ_NEXT(g, next);
        if (g->invitation == i) guest_refuse(g, &why);
    }
    size_t at = c->n_past++ % LIMIT_INVITATIONS_PAST;
    snprintf(c->past[at].id, sizeof c->past[at].id, "%s", i->id);
    c->past[at].how = how;
    TAILQ_REMOVE(&c->invitations, i, next);
    if (i->expiry) event_free(i->expiry);
    OPENSSL_cleanse(i->secret, sizeof i->secret);
    free(i);
}

static void invitation_fail(struct invitation *i, const char *how, const struct err *why) {
    const struct call call = i->call;
    invitation_free(i, how);
    call_line(&call, call_error(why));
    http_end(call.x);
}

static void on_expiry(evutil_socket_t fd, short what, void *arg) {
    struct err why;
    (void)fd, (void)what;
    err_set(&why, ERR_CANCELLED, "nobody has used the invitation within %u minutes: it is void",
            LIMIT_INVITATION_SECONDS / 60);
    invitation_fail(arg, "too old", &why);
}

static void on_admin_left(void *arg) { invitation_free(arg, "withdrawn"); }

void invite_end_all(struct cluster *c) {
    struct invitation *i;
    struct err why;
    err_set(&why, ERR_CANCELLED, "this node does not belong to the cluster any more, or is stopping");
    while ((i = TAILQ_FIRST(&c->invitations))) invitation_fail(i, "withdrawn", &why);
    while (TAILQ_FIRST(&c->guests)) guest_free(TAILQ_FIRST(&c->guests), false);
}

// ---------------------------------------------------------------- a guest
static json_t *brief_json(const struct roster_node *n) {
    return json_pack("{s:s, s:s, s:s}", "id", n->id, "name", n->name, "address", n->address);
}

static int send_root(struct guest *g, struct err *e) {
    uint8_t proof[PAIRING_PROOF];
    char root[2 * KEY_PUBLIC + 1], hex[2 * PAIRING_PROOF + 1];
    if (pair_link_facts(g->link, g->c->identity.pin, true, &g->facts, e)) return -1;
    pairing_prove_root(g->invitation->secret, &g->facts, g->c->roster->root, proof);
    hex_encode(g->c->roster->root, KEY_PUBLIC, root);
    hex_encode(proof, sizeof proof, hex);
    return pair_link_send(g->link, json_pack("{s:s, s:s, s:s}", "t", "root", "root", root, "proof", hex), e);
}

// Whoever does not even know an invitation's id hears nothing.
static int on_hello(struct guest *g, const json_t *msg, struct err *e) {
    struct cluster *c = g->c;
    struct err why;
    int64_t version = 0;
    const char *id = "";
    if (json_get_int(msg, "v", 1, INT32_MAX, &version, e) || json_get_string(msg, "invitation", &id, e)) return -1;
    struct invitation *i;
    TAILQ_FOREACH(i, &c->invitations, next) {
        if (!strcmp(i->id, id)) break;
    }
    if (i && version == 1 && !i->taken) {
        g->invitation = i;
        g->state = GUEST_PROVING;
        pair_link_wait(g->link, LIMIT_PAIR_SECONDS);
        return send_root(g, e);
    }
    const char *how = i ? "used" : NULL;
    for (size_t k = 0; k < LIMIT_INVITATIONS_PAST && !how; k++)
        if (c->past[k].how && !strcmp(c->past[k].id, id)) how = c->past[k].how;
    if (!how) return err_set(e, ERR_DENIED, "it names no invitation");
    err_set(&why, ERR_DENIED, "the invitation was %s: ask for another (`nebulus invite`)", how);
    if (i && version != 1) err_set(&why, ERR_INVALID, "the inviter runs another version of nebulus: update the older");
    guest_refuse(g, &why);
    return 0;
}

static int read_node(const struct guest *g, const json_t *msg, struct roster_node *node, struct err *e) {
    uint8_t proof[PAIRING_PROOF], right[PAIRING_PROOF];
    if (roster_node_read(json_object_get(msg, "node"), node, e)) return -1;
    if (hex_decode(json_string_value(json_object_get(msg, "proof")), proof, sizeof proof))
        return err_set(e, ERR_INVALID, "its proof is malformed");
    pairing_prove_node(g->invitation->secret, &g->facts, node, right);
    if (!pairing_same(proof, right)) return err_set(e, ERR_DENIED, "its proof is wrong");
    if (memcmp(node->pin, g->facts.joiner, IDENTITY_PIN) != 0 || node->n_labels)
        return err_set(e, ERR_INVALID, "it claims what is not its own");
    return 0;
}

static void count_wrong(struct guest *g) {
    struct invitation *i = g->invitation;
    struct err why;
    g->invitation = NULL;
    if (++i->wrong < LIMIT_INVITATION_PROOFS) return;
    err_set(&why, ERR_DENIED, "%u machines have tried to join without knowing the token: the invitation is void",
            i->wrong);
    invitation_fail(i, "tried with wrong proofs too often", &why);
}

// Whether a roster with this node can be signed at all.
static int check_fits(const struct cluster *c, const struct roster_node *node, struct err *e) {
    struct roster *next = roster_next(c->roster, e);
    int rc = next ? roster_add(next, node, e) : -1;
    roster_free(next);
    return rc;
}

static int on_join(struct guest *g, const json_t *msg, struct err *e) {
    struct invitation *i = g->invitation;
    struct err why = {.code = ERR_NONE};
    if (i->taken) err_set(&why, ERR_DENIED, "the invitation was used: ask for another (`nebulus invite`)");
    if (!why.code && read_node(g, msg, &g->node, e)) {
        count_wrong(g);
        return -1;
    }
    if (i->name[0]) snprintf(g->node.name, sizeof g->node.name, "%s", i->name);
    if (why.code || check_fits(g->c, &g->node, &why)) {
        call_line(&i->call, json_pack("{s:i, s:s, s:s}", "v", 1, "state", "refused", "message", why.msg));
        guest_refuse(g, &why);
        return 0;
    }
    i->taken = g;
    g->state = GUEST_PROVEN;
    event_del(i->expiry);
    pair_link_wait(g->link, LIMIT_PAIR_SIGN_SECONDS);
    call_line(&i->call, json_pack("{s:i, s:s, s:o}", "v", 1, "state", "proven", "node", roster_node_json(&g->node)));
    return 0;
}

// The end that everybody wants. The guest is in the roster, whether it has confirmed that or not.
static void joined(struct guest *g, bool confirmed) {
    struct invitation *i = g->invitation;
    const struct call call = i->call;
    json_t *node = brief_json(&g->node);
    log_info("node '%s' (%s) has joined", g->node.name, g->node.id);
    guest_free(g, false);
    invitation_free(i, "used");
    call_line(&call,
              json_pack("{s:i, s:s, s:o, s:b}", "v", 1, "state", "joined", "node", node, "confirmed", confirmed));
    http_end(call.x);
}

static int on_message(void *arg, const json_t *msg, struct err *e) {
    struct guest *g = arg;
    const char *type = json_string_value(json_object_get(msg, "t"));
    if (!g->c->roster) return err_set(e, ERR_CANCELLED, "this node has left its cluster");
    if (type && g->state == GUEST_NEW && !strcmp(type, "pair")) return on_hello(g, msg, e);
    if (type && g->state == GUEST_PROVING && !strcmp(type, "join")) return on_join(g, msg, e);
    if (type && g->state == GUEST_TAKING && !strcmp(type, "stored")) {
        joined(g, true);
        return 0;
    }
    return err_set(e, ERR_INVALID, "it does not follow the pairing protocol");
}

static void on_closed(void *arg, const struct err *why) {
    struct guest *g = arg;
    struct invitation *i = g->invitation;
    log_debug("a pairing connection has ended: %s", why->msg);
    if (g->state == GUEST_TAKING)
        joined(g, false);
    else if (g->state == GUEST_PROVEN) { // the command line may be signing, and will hear of it
        char name[ROSTER_NAME];
        struct err lost;
        snprintf(name, sizeof name, "%s", g->node.name);
        guest_free(g, false);
        err_set(&lost, ERR_UNREACHABLE, "the connection to '%s' was lost before it could join: invite it again", name);
        invitation_fail(i, "used", &lost);
    } else
        guest_free(g, false);
}

// The oldest guest of a state, of one address (0 = of any).
static struct guest *oldest(const struct cluster *c, int state, uint64_t origin) {
    struct guest *g;
    TAILQ_FOREACH(g, &c->guests, next) {
        if ((int)g->state == state && (!origin || g->origin == origin)) break;
    }
    return g;
}

// Whoever comes takes the place of a guest that has proven nothing: first of its own address, where that has its share.
static bool make_room(struct cluster *c, uint64_t origin) {
    size_t all = 0, own = 0;
    struct guest *g;
    TAILQ_FOREACH(g, &c->guests, next) {
        all++;
        own += g->origin == origin;
    }
    if (all < LIMIT_PAIR_GUESTS && own < LIMIT_PAIR_GUESTS_EACH) return true;
    uint64_t of = own < LIMIT_PAIR_GUESTS_EACH ? 0 : origin;
    if (!(g = oldest(c, GUEST_NEW, of)) && !(g = oldest(c, GUEST_PROVING, of))) return false;
    guest_free(g, false);
    return true;
}

void invite_guest(struct cluster *c, struct bufferevent *bev) {
    static const struct pair_link_events ev = {.message = on_message, .closed = on_closed};
    uint64_t origin = origin_of_peer(bufferevent_getfd(bev));
    struct err why;
    struct guest *g = c->roster && make_room(c, origin) ? calloc(1, sizeof *g) : NULL;
    if (!g) {
        bufferevent_free(bev);
        return;
    }
    *g = (struct guest){.c = c, .state = GUEST_NEW, .origin = origin};
    g->link = pair_link_new(c->s->base, bev, LIMIT_PAIR_MESSAGE, &ev, g, &why);
    if (g->link)
        TAILQ_INSERT_TAIL(&c->guests, g, next);
    else
        free(g);
}

static struct guest *admitted(const struct cluster *c) {
    struct guest *g;
    TAILQ_FOREACH(g, &c->guests, next) {
        if (g->state == GUEST_PROVEN && roster_of_pin(c->roster, g->node.pin)) return g;
    }
    return NULL;
}

void invite_roster_changed(struct cluster *c) {
    struct guest *g;
    struct err why;
    while ((g = admitted(c))) {
        json_t *msg = json_pack("{s:s, s:o}", "t", "roster", "roster", roster_document(c->roster));
        g->state = GUEST_TAKING;
        pair_link_wait(g->link, LIMIT_PAIR_SECONDS);
        if (pair_link_send(g->link, msg, &why)) joined(g, false);
    }
}

// ---------------------------------------------------------------- the command line's side
static int given_addresses(const json_t *list, struct pairing_token *t, struct err *e) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *address = json_string_value(json_array_get(list, i));
        if (t->n == PAIRING_ADDRESSES || !address || !*address || !roster_is_address(address))
            return err_param(e, "addresses", "'addresses' must be 1 to %d texts HOST:PORT", PAIRING_ADDRESSES);
        snprintf(t->addresses[t->n++], ROSTER_ADDRESS, "%s", address);
    }
    return 0;
}

static int make_token(const struct invitation *i, const json_t *body, char out[PAIRING_TOKEN], struct err *e) {
    const struct cluster *c = i->c;
    json_t *list = NULL;
    struct pairing_token t = {.n = 0};
    if (json_get_array(body, "addresses", &list, e) || given_addresses(list, &t, e)) return -1;
    if (!t.n) t.n = locate_own(c, t.addresses, PAIRING_ADDRESSES);
    digest_of(c->roster->root, KEY_PUBLIC, t.root);
    memcpy(t.secret, i->secret, sizeof t.secret);
    int rc = pairing_encode(&t, out, e);
    OPENSSL_cleanse(&t, sizeof t);
    return rc;
}

static int read_name(struct invitation *i, const json_t *body, struct err *e) {
    const char *name = "";
    if (json_get_string(body, "name", &name, e)) return -1;
    if (*name && !roster_is_name(name))
        return err_param(e, "name", "'%.64s' is no name for a node: use letters, digits, '.', '_' and '-'", name);
    snprintf(i->name, sizeof i->name, "%s", name);
    return 0;
}

static int check_can_invite(const struct cluster *c, struct err *e) {
    size_t n = 0;
    const struct invitation *i;
    if (membership_check(c, e)) return -1;
    if (c->alarm.code) return err_set(e, c->alarm.code, "%s", c->alarm.msg);
    if (!c->host[0])
        return err_set(e, ERR_INVALID,
                       "this node accepts no connections of others (setting cluster is off): invite at another node");
    if (!c->listening) return err_set(e, ERR_IO, "%s", c->no_listener.msg);
    TAILQ_FOREACH(i, &c->invitations, next) n++;
    if (n < LIMIT_INVITATIONS) return 0;
    return err_set(e, ERR_BUSY, "%u invitations are open already: wait until one is used", LIMIT_INVITATIONS);
}

static struct invitation *invitation_new(struct cluster *c, const struct call *call, struct err *e) {
    struct invitation *i = calloc(1, sizeof *i);
    struct timeval limit = {.tv_sec = (time_t)c->invitation_s};
    if (!i || RAND_bytes(i->secret, sizeof i->secret) != 1) {
        free(i);
        err_set(e, ERR_INTERNAL, "out of memory or randomness");
        return NULL;
    }
    i->c = c;
    i->call = *call;
    pairing_id(i->secret, i->id);
    TAILQ_INSERT_TAIL(&c->invitations, i, next);
    if ((i->expiry = event_new(c->s->base, -1, 0, on_expiry, i)) && !event_add(i->expiry, &limit)) return i;
    invitation_free(i, "withdrawn");
    err_set(e, ERR_INTERNAL, "out of memory");
    return NULL;
}

void invite_open(const struct call *call) {
    struct cluster *c = call->s->cluster;
    struct err why = {.code = ERR_NONE};
    char token[PAIRING_TOKEN];
    json_t *body = call_body(call, &why);
    struct invitation *i = body && !check_can_invite(c, &why) ? invitation_new(c, call, &why) : NULL;
    if (i && (read_name(i, body, &why) || make_token(i, body, token, &why))) {
        invitation_free(i, "withdrawn");
        i = NULL;
    }
    json_decref(body);
    if (!i) {
        call_fail(call, &why);
        return;
    }
    call_begin(call, "application/x-ndjson");
    http_on_close(call->x, on_admin_left, i);
    call_line(call, json_pack("{s:i, s:s, s:s, s:i}", "v", 1, "state", "open", "token", token, "expires_s",
                              (int)LIMIT_INVITATION_SECONDS));
    OPENSSL_cleanse(token, sizeof token);
}

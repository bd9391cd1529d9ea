#include "serve/tickets.h"
#include "base/clock.h"
#include "serve/authority.h"
#include "serve/node.h"
#include "trust/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct used {                  // of one gateway, so that none keeps others out
    char gateway[IDENTITY_ID]; // "" = free
    struct replay *tickets;
};

struct tickets {
    char session[TICKET_ID];
    struct used used[ROSTER_NODES];
};

struct tickets *tickets_new(struct err *e) {
    struct tickets *t = calloc(1, sizeof *t);
    char session[ID_SIZE];
    if (!t) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    id_make("", session);
    memcpy(t->session, session, sizeof t->session);
    return t;
}

void tickets_free(struct tickets *t) {
    if (!t) return;
    for (size_t i = 0; i < ROSTER_NODES; i++) replay_free(t->used[i].tickets);
    free(t);
}

const char *tickets_session(const struct tickets *t) { return t ? t->session : ""; }

static int64_t now_ms(void) { return authority_now().known ? (int64_t)(clock_wall_ns() / NS_PER_MS) : 0; }

// ---------------------------------------------------------------- as a gateway
static void name_end(const struct serve *s, struct ticket_end *end, const char *node) {
    snprintf(end->node, sizeof end->node, "%s", node);
    snprintf(end->session, sizeof end->session, "%s",
             node_is_self(s, node) ? tickets_session(s->tickets) : cluster_session(s->cluster, node));
}

json_t *tickets_issue(const struct serve *s, const struct ticket_wish *w, char id[TICKET_ID], struct err *e) {
    const struct roster *r = cluster_roster(s->cluster);
    EVP_PKEY *key = cluster_signer(s->cluster);
    if (!r || !key) {
        err_set(e, ERR_UNREACHABLE, "this node is no member of a cluster any more");
        return NULL;
    }
    struct ticket t = {.epoch = r->epoch, .writes_on = w->writes_on, .tokens = w->tokens, .who = w->who};
    memcpy(t.policy, policy_digest(authority_policy(s)), sizeof t.policy);
    memcpy(t.cluster, r->cluster, sizeof t.cluster);
    snprintf(t.parent, sizeof t.parent, "%s", w->parent);
    snprintf(t.gateway, sizeof t.gateway, "%s", node_self(s));
    snprintf(t.req_id, sizeof t.req_id, "%s", w->req_id);
    snprintf(t.model, sizeof t.model, "%s", w->model);
    snprintf(t.weights, sizeof t.weights, "%s", w->weights);
    name_end(s, &t.prefill, w->prefill);
    name_end(s, &t.decode, w->decode);
    json_t *document = ticket_sign(&t, key, (int64_t)(clock_wall_ns() / NS_PER_MS), e);
    memcpy(id, t.nonce, sizeof t.nonce);
    return document;
}

// ---------------------------------------------------------------- as a node that obeys
// The memory of a gateway's tickets. Who is no member any more needs none. NULL: out of memory.
static struct replay *memory_of(const struct serve *s, const struct roster *r, const char *gateway) {
    struct used *spare = NULL;
    for (size_t i = 0; i < ROSTER_NODES; i++) {
        struct used *u = &s->tickets->used[i];
        if (!strcmp(u->gateway, gateway)) return u->tickets;
        if (!spare && (!u->gateway[0] || !roster_find(r, u->gateway))) spare = u;
    }
    struct replay *fresh = spare ? replay_new() : NULL; // members are no more than there are places
    if (!fresh) return NULL;
    replay_free(spare->tickets);
    snprintf(spare->gateway, sizeof spare->gateway, "%s", gateway);
    spare->tickets = fresh;
    return fresh;
}

static enum ticket_fault use(const struct serve *s, const struct roster *r, const struct ticket *t, int64_t now) {
    static const enum ticket_fault meaning[] = {
        [REPLAY_FRESH] = TICKET_FINE, [REPLAY_USED] = TICKET_REPLAYED, [REPLAY_FULL] = TICKET_FULL};
    struct replay *memory = memory_of(s, r, t->gateway);
    return memory ? meaning[replay_use(memory, t->digest, t->expires + TICKET_SKEW_MS, now)] : TICKET_FULL;
}

struct ticket *tickets_use(const struct serve *s, const char *gateway, const json_t *document, enum ticket_fault *why) {
    const struct roster *r = cluster_roster(s->cluster);
    struct ticket *t = ticket_read(document, r, gateway, why);
    if (!t) return NULL;
    const struct ticket_view view = {.roster = r,
                                     .policy = policy_digest(authority_policy(s)),
                                     .node = node_self(s),
                                     .session = tickets_session(s->tickets),
                                     .now_ms = now_ms()};
    *why = ticket_check(t, &view);
    if (*why == TICKET_FINE) *why = use(s, r, t, view.now_ms);
    return t;
}

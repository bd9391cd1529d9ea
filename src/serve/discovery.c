#include "serve/discovery.h"
#include "base/address.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "discover/discover.h"
#include "discover/turn.h"
#include "serve/cluster_internal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_S = 1, SHOWN = ABOUT_MODELS * ABOUT_ESCAPE };

struct discovery {
    struct serve *s;
    struct discover *discover;
    struct event *tick;
    struct mdns_node nodes[LIMIT_DISCOVERED]; // as of the latest look
    size_t n_nodes;
};

// ---------------------------------------------------------------- what this node says
static void shorten(const uint8_t root[DIGEST_BYTES], char out[ABOUT_CLUSTER]) {
    hex_encode(root, (ABOUT_CLUSTER - 1) / 2, out);
}

static void fingerprint(const struct cluster *c, char out[ABOUT_CLUSTER]) {
    uint8_t digest[DIGEST_BYTES];
    digest_of(c->roster->root, KEY_PUBLIC, digest);
    shorten(digest, out);
}

// Only addresses at which this node takes connections, if it takes any.
static struct multicast_filter filter_of(const struct cluster *c) {
    struct multicast_filter f = {.families = MDNS_BOTH};
    uint8_t any[16] = {0};
    if (!c->listening) return f;
    if (address_is_loopback(c->host)) return (struct multicast_filter){.families = 0};
    if (inet_pton(AF_INET, c->host, f.only.ip) == 1)
        f.families = MDNS_FOUR;
    else if (inet_pton(AF_INET6, c->host, f.only.ip) == 1)
        f.families = MDNS_SIX;
    f.one = memcmp(f.only.ip, any, sizeof any) != 0;
    return f;
}

static void publish(const struct discovery *d) {
    const struct cluster *c = d->s->cluster;
    const struct roster_node *self = cluster_self(c);
    const struct multicast_filter f = filter_of(c);
    struct about about;
    memset(&about, 0, sizeof about); // it is compared as a whole
    snprintf(about.name, sizeof about.name, "%s", self ? self->name : c->name);
    snprintf(about.role, sizeof about.role, "%s", self ? self->role : "auto");
    snprintf(about.version, sizeof about.version, "%s", NEBULUS_VERSION);
    if (self) {
        snprintf(about.id, sizeof about.id, "%s", self->id);
        fingerprint(c, about.cluster);
    }
    for (const struct model *m = models_next(d->s->models, NULL); m; m = models_next(d->s->models, m))
        about_add_model(&about, m->name);
    discover_publish(d->discover, &about, self && c->listening ? (uint16_t)c->port : 0, &f);
}

// ---------------------------------------------------------------- members that are down
static bool is_member(const struct cluster *c, const struct mdns_node *n) {
    char own[ABOUT_CLUSTER];
    if (!c->roster || !n->about.id[0] || !roster_find(c->roster, n->about.id)) return false;
    fingerprint(c, own);
    return !strcmp(own, n->about.cluster);
}

// Those who can be reached and say that they are of that cluster, and - where it is not NULL - that node.
static size_t claims_of(const struct discovery *d, const char *cluster, const char *id,
                        const struct mdns_node *out[LIMIT_DISCOVERED]) {
    size_t n = 0;
    for (size_t i = 0; i < d->n_nodes; i++) {
        const struct mdns_node *one = &d->nodes[i];
        bool there = one->port && !one->gone && one->n_places && !strcmp(one->about.cluster, cluster);
        if (there && (!id || !strcmp(one->about.id, id))) out[n++] = one;
    }
    return n;
}

static void take_turn(const struct mdns_node *const claims[], size_t n, size_t turn, char out[ROSTER_ADDRESS]) {
    char text[DISCOVER_ADDRESS];
    const struct turn whose = turn_take(claims, n, turn);
    const struct mdns_node *one = claims[whose.claim];
    discover_address(&one->places[whose.place], one->port, text);
    snprintf(out, ROSTER_ADDRESS, "%s", text);
}

// Members take turns; of each of them those who claim to be it do.
bool discovery_candidate(const struct discovery *d, size_t turn, char out[ROSTER_ADDRESS]) {
    const struct cluster *c = d ? d->s->cluster : NULL;
    const struct mdns_node *claims[LIMIT_DISCOVERED];
    const struct peer *claimed[PEERS_MOST], *p = NULL;
    char own[ABOUT_CLUSTER];
    size_t n = 0;
    if (!c || !c->roster) return false;
    fingerprint(c, own);
    while ((p = peers_next(c->peers, p)) && n < PEERS_MOST)
        if (!p->up && claims_of(d, own, p->id, claims)) claimed[n++] = p;
    if (!n) return false;
    p = claimed[turn % n];
    take_turn(claims, claims_of(d, own, p->id, claims), turn / n, out);
    return strcmp(out, p->address) != 0; // it is dialled there
}

bool discovery_of_cluster(const struct discovery *d, const uint8_t root[DIGEST_BYTES], size_t turn,
                          char out[ROSTER_ADDRESS]) {
    const struct mdns_node *claims[LIMIT_DISCOVERED];
    char wanted[ABOUT_CLUSTER];
    shorten(root, wanted);
    size_t n = d ? claims_of(d, wanted, NULL, claims) : 0;
    if (n) take_turn(claims, n, turn, out);
    return n;
}

static void on_tick(evutil_socket_t fd, short what, void *arg) {
    struct discovery *d = arg;
    (void)fd, (void)what;
    if (!d->s->models) return; // the daemon is stopping
    publish(d);
    d->n_nodes = discover_nodes(d->discover, d->nodes, LIMIT_DISCOVERED);
}

// ---------------------------------------------------------------- what is shown
static json_t *shown(const char *text) {
    char safe[SHOWN];
    text_escape(safe, sizeof safe, text);
    return json_string(safe);
}

static json_t *addresses_json(const struct mdns_node *n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n->n_places; i++) {
        char text[DISCOVER_ADDRESS];
        discover_address(&n->places[i], n->port, text);
        json_array_append_new(list, json_string(text));
    }
    return list;
}

static json_t *node_json(const struct discovery *d, const struct mdns_node *n) {
    const struct about *a = &n->about;
    return json_pack(
        "{s:o, s:o, s:s, s:b, s:s, s:s, s:o, s:o, s:o, s:i, s:o, s:f}", "name", shown(a->name[0] ? a->name : n->label),
        "instance", shown(n->label), "state", n->gone ? "gone" : "found", "member", is_member(d->s->cluster, n), "id",
        a->id, "cluster", a->cluster, "version", shown(a->version), "role", shown(a->role), "models", shown(a->models),
        "port", (int)n->port, "addresses", addresses_json(n), "since_s", (double)(clock_mono_ns() - n->since_ns) / 1e9);
}

json_t *discovery_nodes_json(const struct discovery *d) {
    json_t *list = json_array();
    for (size_t i = 0; d && i < d->n_nodes; i++) json_array_append_new(list, node_json(d, &d->nodes[i]));
    return list;
}

json_t *discovery_status_json(const struct discovery *d) {
    struct mdns_counts n;
    if (!d) return json_pack("{s:s}", "state", "off");
    discover_count(d->discover, &n);
    return json_pack("{s:s, s:o, s:b, s:I, s:I, s:I, s:I}", "state", discover_works(d->discover) ? "on" : "no network",
                     "instance", shown(n.label), "claimed", n.claimed, "sent", (json_int_t)n.sent, "received",
                     (json_int_t)n.received, "malformed", (json_int_t)n.malformed, "refused", (json_int_t)n.refused);
}

// ---------------------------------------------------------------- the whole
struct discovery *discovery_new(struct serve *s, struct err *e) {
    struct timeval every = {.tv_sec = TICK_S};
    if (!strcmp(s->settings.discovery, "off")) return NULL;
    struct discovery *d = calloc(1, sizeof *d);
    if (!d) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    d->s = s;
    d->tick = event_new(s->base, -1, EV_PERSIST, on_tick, d);
    if ((d->discover = discover_new(s->base, e))) {
        if (d->tick && !event_add(d->tick, &every)) {
            on_tick(-1, 0, d);
            return d;
        }
        err_set(e, ERR_INTERNAL, "out of memory");
    }
    discovery_free(d);
    return NULL;
}

void discovery_free(struct discovery *d) {
    if (!d) return;
    discover_free(d->discover);
    if (d->tick) event_free(d->tick);
    free(d);
}

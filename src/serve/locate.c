// Addresses: where this node listens, how others reach it, and where the others may be.
#include "base/address.h"
#include "base/log.h"
#include "serve/cluster_internal.h"
#include "serve/discovery.h"

#include <arpa/inet.h>
#include <event2/bufferevent_ssl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// ---------------------------------------------------------------- settings
static int read_listener(struct cluster *c, const char *text, struct err *e) {
    if (!*text || !strcmp(text, "off")) return 0;
    if (!address_split(text, c->host, &c->port) && c->port > 0) return 0;
    return err_param(e, "cluster", "cluster: '%.100s' is not of the form HOST:PORT (or off): try 0.0.0.0:7421", text);
}

// Where the host's name is not fit as it is, it is made so.
static int read_name(struct cluster *c, const char *text, struct err *e) {
    if (*text && !roster_is_name(text))
        return err_param(e, "name", "name: '%.100s' is no name for a node: use letters, digits, '.', '_' and '-'",
                         text);
    if (*text) {
        snprintf(c->name, sizeof c->name, "%.*s", (int)sizeof c->name - 1, text); // is_name: it fits
        return 0;
    }
    if (gethostname(c->name, sizeof c->name)) c->name[0] = 0;
    c->name[sizeof c->name - 1] = 0;
    for (char *p = c->name; *p; p++) {
        char one[] = {'x', *p, 0};
        if (!roster_is_name(one)) *p = '-';
    }
    if (!roster_is_name(c->name)) snprintf(c->name, sizeof c->name, "node");
    return 0;
}

static int read_statics(struct cluster *c, const char *list, struct err *e) {
    char host[SETTING_SIZE];
    long port;
    while (*list) {
        list += strspn(list, ", ");
        size_t n = strcspn(list, ", ");
        if (!n) break;
        if (c->n_statics == LIMIT_STATIC_PEERS)
            return err_param(e, "peers", "peers: more than %u addresses", LIMIT_STATIC_PEERS);
        char *out = c->statics[c->n_statics++];
        snprintf(out, ROSTER_ADDRESS, "%.*s", (int)n, list);
        if (address_split(out, host, &port) || !roster_is_address(out))
            return err_param(e, "peers", "peers: '%.100s' is not of the form HOST:PORT", out);
        list += n;
    }
    return 0;
}

int locate_settings(struct cluster *c, const struct settings *s, struct err *e) {
    return read_listener(c, s->cluster, e) || read_name(c, s->name, e) || read_statics(c, s->peers, e) ? -1 : 0;
}

// ---------------------------------------------------------------- this node's own addresses
static bool is_wildcard(const char *host) {
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, host, &four) == 1) return four.s_addr == INADDR_ANY;
    return inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_UNSPECIFIED(&six);
}

static void write_address(char *out, const char *host, long port) {
    snprintf(out, ROSTER_ADDRESS, strchr(host, ':') ? "[%s]:%ld" : "%s:%ld", host, port);
}

static bool is_global6(const struct in6_addr *a) {
    return !IN6_IS_ADDR_LOOPBACK(a) && !IN6_IS_ADDR_LINKLOCAL(a) && !IN6_IS_ADDR_MULTICAST(a);
}

static bool usable(const struct ifaddrs *i, int family) {
    if (!i->ifa_addr || i->ifa_addr->sa_family != family || !(i->ifa_flags & IFF_UP) || i->ifa_flags & IFF_LOOPBACK)
        return false;
    return family == AF_INET || is_global6(&((const struct sockaddr_in6 *)(const void *)i->ifa_addr)->sin6_addr);
}

static size_t interfaces(const struct cluster *c, int family, char out[][ROSTER_ADDRESS], size_t max) {
    struct ifaddrs *all;
    size_t n = 0;
    char text[INET6_ADDRSTRLEN];
    if (getifaddrs(&all)) return 0;
    for (const struct ifaddrs *i = all; i && n < max; i = i->ifa_next) {
        if (!usable(i, family)) continue;
        const void *a = family == AF_INET
                            ? (const void *)&((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr
                            : &((const struct sockaddr_in6 *)(const void *)i->ifa_addr)->sin6_addr;
        if (inet_ntop(family, a, text, sizeof text)) write_address(out[n++], text, c->port);
    }
    freeifaddrs(all);
    return n;
}

size_t locate_own(const struct cluster *c, char out[][ROSTER_ADDRESS], size_t max) {
    if (!is_wildcard(c->host)) {
        write_address(out[0], c->host, c->port);
        return 1;
    }
    bool six = strchr(c->host, ':');
    size_t n = interfaces(c, six ? AF_INET6 : AF_INET, out, max);
    if (!n) write_address(out[n++], six ? "::1" : "127.0.0.1", c->port);
    return n;
}

// ---------------------------------------------------------------- where members that are down may be
static bool all_up(const struct cluster *c) {
    for (const struct peer *p = peers_next(c->peers, NULL); p; p = peers_next(c->peers, p))
        if (!p->up) return false;
    return true;
}

// Its key tells who it is. Nothing is said on this connection.
static void on_reached(void *arg, struct bufferevent *bev, const uint8_t *shown, const struct err *why) {
    struct cluster *c = arg;
    const char *address = c->looking_at;
    uint8_t pin[TLS_PIN];
    struct err e;
    (void)shown; // no key is expected
    c->looking = NULL;
    if (!bev) {
        log_debug("no member is at %s: %s", address, why->msg);
        return;
    }
    tls_peer_pin(bufferevent_openssl_get_ssl(bev), pin);
    bufferevent_free(bev);
    const struct peer *p = c->roster ? peers_of_pin(c->peers, pin) : NULL;
    if (!p || p->up || !strcmp(p->address, address)) return;
    const struct peer known = *p;
    log_info("node '%s' is at %s", known.name, address);
    if (peers_add(c->peers, known.id, known.name, known.pin, address, &e)) log_warn("%s: %s", address, e.msg);
}

static bool next_static(struct cluster *c) {
    if (!c->n_statics) return false;
    snprintf(c->looking_at, sizeof c->looking_at, "%s", c->statics[c->next_static++ % c->n_statics]);
    return true;
}

static bool next_discovered(struct cluster *c) {
    return discovery_candidate(c->s->discovery, c->next_candidate++, c->looking_at);
}

// In turn, so that strangers who claim to be members cannot keep static addresses from being tried.
void locate_members(struct cluster *c) {
    struct err why;
    if (c->looking || all_up(c)) return;
    c->discovered_next = !c->discovered_next;
    bool found = c->discovered_next ? next_discovered(c) || next_static(c) : next_static(c) || next_discovered(c);
    if (!found) return;
    const struct reach_to to = {.address = c->looking_at, .tls = c->tls, .use = TLS_PAIR, .each_ms = CLUSTER_REACH_MS};
    c->looking = reach_start(c->s->base, &to, on_reached, c, &why);
    if (!c->looking) log_debug("%s cannot be tried: %s", c->looking_at, why.msg);
}

#include "discover/discover.h"
#include "base/clock.h"
#include "base/id.h"

#include <arpa/inet.h>
#include <event2/util.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#endif

enum { LOOK_S = 5, SETTLE_MS = 100, SLEPT_S = 3 };

struct discover {
    struct event_base *base;
    struct mdns *mdns;
    struct multicast *multicast;
    struct multicast_filter filter;
    struct event *due, *look, *settle, *changed;
    int netlink;      // -1: interfaces are only looked at now and then
    int64_t awake_ns; // wall clock less monotonic clock: grows while the machine sleeps
    uint64_t numbers; // the state of random
    struct interface interfaces[MDNS_LINKS];
    size_t n_interfaces;
};

// ---------------------------------------------------------------- time
static void run(struct discover *d) {
    uint64_t now = clock_mono_ns(), due = mdns_run(d->mdns, now);
    if (due == MDNS_NEVER) {
        event_del(d->due);
        return;
    }
    uint64_t us = due > now ? (due - now) / 1000 + 1 : 1;
    struct timeval t = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
    event_add(d->due, &t); // a failure heals itself: look comes again
}

static void on_due(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    run(arg);
}

static void on_heard(void *arg, unsigned link, const struct mdns_from *from, const void *data, size_t n) {
    struct discover *d = arg;
    mdns_receive(d->mdns, link, from, data, n, clock_mono_ns());
    run(d);
}

static void on_send(void *arg, unsigned link, unsigned families, const struct mdns_from *to, const void *data,
                    size_t n) {
    struct discover *d = arg;
    multicast_send(d->multicast, link, families, to, data, n);
}

// xorshift64*: delays and names, no secrets.
static uint32_t on_random(void *arg) {
    struct discover *d = arg;
    d->numbers ^= d->numbers >> 12;
    d->numbers ^= d->numbers << 25;
    d->numbers ^= d->numbers >> 27;
    return (uint32_t)(d->numbers * 0x2545F4914F6CDD1Du >> 32);
}

// ---------------------------------------------------------------- interfaces
static bool is_listed(const struct interface *list, size_t n, unsigned number) {
    for (size_t i = 0; i < n; i++)
        if (list[i].number == number) return true;
    return false;
}

static void look(struct discover *d) {
    struct interface now_there[MDNS_LINKS];
    uint64_t now = clock_mono_ns();
    size_t n = multicast_interfaces(&d->filter, now_there, MDNS_LINKS);
    for (size_t i = 0; i < d->n_interfaces; i++)
        if (!is_listed(now_there, n, d->interfaces[i].number)) mdns_unlink(d->mdns, d->interfaces[i].number, now);
    multicast_set(d->multicast, now_there, n);
    for (size_t i = 0; i < n; i++)
        mdns_link(d->mdns, now_there[i].number, now_there[i].own, now_there[i].n_own, now_there[i].n_told, now);
    memcpy(d->interfaces, now_there, n * sizeof *now_there);
    d->n_interfaces = n;
    run(d);
}

// A clock that was set looks like sleep, too: it costs a few packets.
static void on_look(evutil_socket_t fd, short what, void *arg) {
    struct discover *d = arg;
    (void)fd, (void)what;
    int64_t awake = (int64_t)(clock_wall_ns() - clock_mono_ns());
    if (awake - d->awake_ns > (int64_t)(SLEPT_S * NS_PER_S)) mdns_wake(d->mdns, clock_mono_ns());
    d->awake_ns = awake;
    look(d);
}

// Changes come in flocks, and an IPv6 address is usable a while after it is told.
static void on_changed(evutil_socket_t fd, short what, void *arg) {
    struct discover *d = arg;
    struct timeval soon = {.tv_usec = SETTLE_MS * 1000};
    char text[4096];
    (void)what;
    while (recv(fd, text, sizeof text, MSG_DONTWAIT) > 0) {
    } // that something has changed is all
    if (!event_pending(d->settle, EV_TIMEOUT, NULL) && event_add(d->settle, &soon)) look(d);
}

static int open_netlink(void) {
#ifdef __linux__
    struct sockaddr_nl a = {.nl_family = AF_NETLINK,
                            .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd >= 0 && !bind(fd, (const struct sockaddr *)&a, sizeof a)) return fd;
    if (fd >= 0) close(fd);
#endif
    return -1;
}

static int watch(struct discover *d) {
    struct timeval now_and_then = {.tv_sec = LOOK_S};
    d->due = event_new(d->base, -1, 0, on_due, d);
    d->look = event_new(d->base, -1, EV_PERSIST, on_look, d);
    d->settle = event_new(d->base, -1, 0, on_look, d);
    d->netlink = open_netlink();
    if (d->netlink >= 0) d->changed = event_new(d->base, d->netlink, EV_READ | EV_PERSIST, on_changed, d);
    return !d->due || !d->look || !d->settle || event_add(d->look, &now_and_then) ||
                   (d->changed && event_add(d->changed, NULL))
               ? -1
               : 0;
}

// ---------------------------------------------------------------- the whole
struct discover *discover_new(struct event_base *base, struct err *e) {
    struct discover *d = calloc(1, sizeof *d);
    if (!d) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *d = (struct discover){.base = base, .netlink = -1, .numbers = id_seed() | 1, .filter.families = MDNS_BOTH};
    d->awake_ns = (int64_t)(clock_wall_ns() - clock_mono_ns());
    const struct mdns_io io = {.send = on_send, .random = on_random, .arg = d};
    d->mdns = mdns_new(&io);
    d->multicast = multicast_new(base, on_heard, d);
    if (!d->mdns || !d->multicast || watch(d)) {
        err_set(e, ERR_INTERNAL, "out of memory");
        discover_free(d);
        return NULL;
    }
    look(d);
    return d;
}

void discover_free(struct discover *d) {
    if (!d) return;
    if (d->mdns && d->multicast) mdns_goodbye(d->mdns, clock_mono_ns());
    multicast_free(d->multicast);
    free(d->mdns);
    struct event *const events[] = {d->due, d->look, d->settle, d->changed};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i]) event_free(events[i]);
    if (d->netlink >= 0) close(d->netlink);
    free(d);
}

void discover_publish(struct discover *d, const struct about *about, uint16_t port, const struct multicast_filter *f) {
    bool same = !memcmp(f, &d->filter, sizeof *f);
    d->filter = *f;
    mdns_publish(d->mdns, about, port, clock_mono_ns());
    if (same)
        run(d);
    else
        look(d);
}

size_t discover_nodes(const struct discover *d, struct mdns_node *out, size_t max) {
    return mdns_nodes(d->mdns, out, max);
}

void discover_count(const struct discover *d, struct mdns_counts *out) { mdns_count(d->mdns, out); }
bool discover_works(const struct discover *d) { return multicast_works(d->multicast); }

void discover_address(const struct mdns_place *p, uint16_t port, char out[DISCOVER_ADDRESS]) {
    char text[INET6_ADDRSTRLEN] = "", zone[IF_NAMESIZE] = "";
    bool four = p->address.family == MDNS_FOUR,
         local = !four && p->address.ip[0] == 0xFE && (p->address.ip[1] & 0xC0) == 0x80;
    if (!inet_ntop(four ? AF_INET : AF_INET6, p->address.ip, text, sizeof text)) text[0] = 0;
    if (local && !if_indextoname(p->link, zone)) zone[0] = 0;
    char number[8] = "";
    if (port) snprintf(number, sizeof number, ":%u", (unsigned)port);
    snprintf(out, DISCOVER_ADDRESS, four ? "%s%s%s%s" : "[%s%s%s]%s", text, *zone ? "%" : "", zone, number);
}

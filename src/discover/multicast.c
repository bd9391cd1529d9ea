#include "discover/multicast.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/util.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PORT = 5353, HOPS = 255, BURST = 64 }; // messages of one socket before others have their turn

struct port {
    struct multicast *x;
    bool used;
    unsigned link;
    char name[16];
    unsigned family;
    int fd; // -1: could not be opened
    struct event *readable;
    bool told; // that it does not work
};

struct multicast {
    struct event_base *base;
    multicast_heard *heard;
    void *arg;
    struct port ports[2 * MDNS_LINKS];
};

// ---------------------------------------------------------------- interfaces
static unsigned bits(const uint8_t *mask, size_t n) {
    unsigned count = 0;
    for (size_t i = 0; i < n * 8 && mask[i / 8] & 0x80 >> i % 8; i++) count++;
    return count;
}

static bool take_address(const struct sockaddr *a, struct mdns_address *out) {
    *out = (struct mdns_address){.family = 0};
    if (a && a->sa_family == AF_INET) {
        memcpy(out->ip, &((const struct sockaddr_in *)(const void *)a)->sin_addr, 4);
        out->family = MDNS_FOUR;
    } else if (a && a->sa_family == AF_INET6) {
        memcpy(out->ip, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, 16);
        out->family = MDNS_SIX;
    }
    return out->family;
}

static bool is_told(const struct multicast_filter *f, const struct mdns_address *a) {
    return f->families & a->family && (!f->one || !memcmp(f->only.ip, a->ip, sizeof a->ip));
}

static struct interface *place_of(struct interface *out, size_t *n, size_t max, const char *name) {
    unsigned number = if_nametoindex(name);
    for (size_t i = 0; i < *n; i++)
        if (out[i].number == number) return &out[i];
    if (!number || *n == max || strlen(name) >= sizeof out->name) return NULL;
    out[*n] = (struct interface){.number = number};
    snprintf(out[*n].name, sizeof out->name, "%s", name);
    return &out[(*n)++];
}

static void add_address(struct interface *i, const struct mdns_address *a, bool told) {
    if (i->n_own == MDNS_ADDRESSES) return;
    size_t at = told ? i->n_told : i->n_own;
    memmove(&i->own[at + 1], &i->own[at], (i->n_own - at) * sizeof *a);
    i->own[at] = *a;
    i->n_own++;
    i->n_told += told;
}

size_t multicast_interfaces(const struct multicast_filter *f, struct interface *out, size_t max) {
    const unsigned need = IFF_UP | IFF_RUNNING | IFF_MULTICAST;
    struct mdns_address own, mask;
    struct ifaddrs *all;
    size_t n = 0;
    if (getifaddrs(&all)) return 0;
    for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
        if ((a->ifa_flags & need) != need || a->ifa_flags & IFF_LOOPBACK || !take_address(a->ifa_addr, &own)) continue;
        struct interface *i = place_of(out, &n, max, a->ifa_name);
        if (!i) continue;
        if (take_address(a->ifa_netmask, &mask)) own.prefix = (uint8_t)bits(mask.ip, own.family == MDNS_FOUR ? 4 : 16);
        add_address(i, &own, is_told(f, &own));
    }
    freeifaddrs(all);
    return n;
}

// ---------------------------------------------------------------- sockets
static int set(int fd, int level, int name, int value) { return setsockopt(fd, level, name, &value, sizeof value); }

static int share_port(int fd) {
    if (set(fd, SOL_SOCKET, SO_REUSEADDR, 1)) return -1;
#ifdef SO_REUSEPORT
    if (set(fd, SOL_SOCKET, SO_REUSEPORT, 1)) return -1;
#endif
    return 0;
}

static struct sockaddr_in group_four(void) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(0xE00000FB)}; // 224.0.0.251
}

static struct sockaddr_in6 group_six(unsigned link) {
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(PORT), .sin6_scope_id = link};
    memcpy(&a.sin6_addr, (const uint8_t[16]){0xFF, 2, [15] = 0xFB}, 16); // ff02::fb
    return a;
}

static int open_four(int fd, unsigned link) {
    const struct sockaddr_in group = group_four();
    struct ip_mreqn member = {.imr_multiaddr = group.sin_addr, .imr_ifindex = (int)link};
#ifdef IP_MULTICAST_ALL
    if (set(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0)) return -1; // else it hears other interfaces, too
#endif
    if (bind(fd, (const struct sockaddr *)&group, sizeof group) || set(fd, IPPROTO_IP, IP_MULTICAST_TTL, HOPS) ||
        set(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 1) ||
        setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &member, sizeof member) ||
        setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &member, sizeof member))
        return -1;
    return 0;
}

static int open_six(int fd, unsigned link) {
    const struct sockaddr_in6 group = group_six(link);
    struct ipv6_mreq member = {.ipv6mr_multiaddr = group.sin6_addr, .ipv6mr_interface = link};
#ifdef IPV6_MULTICAST_ALL
    if (set(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)) return -1;
#endif
    if (set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) || bind(fd, (const struct sockaddr *)&group, sizeof group) ||
        set(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, HOPS) || set(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 1) ||
        set(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, (int)link) ||
        setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &member, sizeof member))
        return -1;
    return 0;
}

static void from_address(const struct sockaddr_storage *a, struct mdns_from *out) {
    *out = (struct mdns_from){.port = 0};
    if (!take_address((const struct sockaddr *)a, &out->address)) return;
    out->port = ntohs(a->ss_family == AF_INET ? ((const struct sockaddr_in *)(const void *)a)->sin_port
                                              : ((const struct sockaddr_in6 *)(const void *)a)->sin6_port);
}

static void on_readable(evutil_socket_t fd, short what, void *arg) {
    struct port *p = arg;
    uint8_t data[DNS_RECEIVE + 1]; // one more: what is longer is malformed
    (void)what;
    for (int i = 0; i < BURST; i++) {
        struct sockaddr_storage a;
        struct mdns_from from;
        socklen_t len = sizeof a;
        ssize_t n = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&a, &len);
        if (n < 0) return;
        from_address(&a, &from);
        if (from.address.family == p->family) p->x->heard(p->x->arg, p->link, &from, data, (size_t)n);
        if (!p->used) return;
    }
}

static void tell(struct port *p, const char *what) {
    const char *family = p->family == MDNS_FOUR ? "IPv4" : "IPv6";
    if (!p->told) log_info("discovery: %s on %s over %s: %s", what, p->name, family, strerror(errno));
    p->told = true;
}

static void open_port(struct port *p) {
    bool four = p->family == MDNS_FOUR;
    int fd = socket(four ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
    if (fd < 0 || evutil_make_socket_nonblocking(fd) || evutil_make_socket_closeonexec(fd) || share_port(fd) ||
        (four ? open_four(fd, p->link) : open_six(fd, p->link))) {
        tell(p, "cannot listen");
        if (fd >= 0) close(fd);
        return;
    }
    p->readable = event_new(p->x->base, fd, EV_READ | EV_PERSIST, on_readable, p);
    if (!p->readable || event_add(p->readable, NULL)) {
        if (p->readable) event_free(p->readable);
        p->readable = NULL;
        close(fd);
        return;
    }
    p->fd = fd;
    p->told = false;
}

static void close_port(struct port *p) {
    if (p->readable) event_free(p->readable);
    if (p->fd >= 0) close(p->fd);
    p->readable = NULL;
    p->fd = -1;
}

// ---------------------------------------------------------------- the set of them
static struct port *find_port(struct multicast *x, unsigned link, unsigned family) {
    for (size_t i = 0; i < 2 * MDNS_LINKS; i++)
        if (x->ports[i].used && x->ports[i].link == link && x->ports[i].family == family) return &x->ports[i];
    return NULL;
}

static bool has_family(const struct interface *i, unsigned family) {
    for (size_t k = 0; k < i->n_own; k++)
        if (i->own[k].family == family) return true;
    return false;
}

static bool is_listed(const struct interface *list, size_t n, const struct port *p) {
    for (size_t i = 0; i < n; i++)
        if (list[i].number == p->link && has_family(&list[i], p->family)) return true;
    return false;
}

static void want_port(struct multicast *x, const struct interface *i, unsigned family) {
    struct port *p = find_port(x, i->number, family);
    for (size_t k = 0; !p && k < 2 * MDNS_LINKS; k++) {
        if (x->ports[k].used) continue;
        p = &x->ports[k];
        *p = (struct port){.x = x, .used = true, .link = i->number, .family = family, .fd = -1};
        memcpy(p->name, i->name, sizeof p->name);
    }
    if (p && p->fd < 0) open_port(p);
}

void multicast_set(struct multicast *x, const struct interface *list, size_t n) {
    for (size_t i = 0; i < 2 * MDNS_LINKS; i++) {
        struct port *p = &x->ports[i];
        if (!p->used || is_listed(list, n, p)) continue;
        close_port(p);
        p->used = false;
    }
    for (size_t i = 0; i < n; i++)
        for (unsigned family = MDNS_FOUR; family <= MDNS_SIX; family++)
            if (has_family(&list[i], family)) want_port(x, &list[i], family);
}

static void send_over(struct port *p, const struct mdns_from *to, const void *data, size_t n) {
    struct sockaddr_in four = group_four();
    struct sockaddr_in6 six = group_six(p->link);
    bool is_four = p->family == MDNS_FOUR;
    if (to) {
        memcpy(&four.sin_addr, to->address.ip, 4);
        memcpy(&six.sin6_addr, to->address.ip, 16);
        four.sin_port = six.sin6_port = htons(to->port);
    }
    const struct sockaddr *a = is_four ? (const struct sockaddr *)&four : (const struct sockaddr *)&six;
    if (sendto(p->fd, data, n, 0, a, is_four ? sizeof four : sizeof six) >= 0)
        p->told = false;
    else if (errno != EAGAIN) // a lost message is sent again, as if the network had lost it
        tell(p, "cannot send");
}

void multicast_send(struct multicast *x, unsigned link, unsigned families, const struct mdns_from *to, const void *data,
                    size_t n) {
    for (unsigned family = MDNS_FOUR; family <= MDNS_SIX; family++) {
        struct port *p = families & family ? find_port(x, link, family) : NULL;
        if (p && p->fd >= 0) send_over(p, to, data, n);
    }
}

bool multicast_works(const struct multicast *x) {
    for (size_t i = 0; i < 2 * MDNS_LINKS; i++)
        if (x->ports[i].used && x->ports[i].fd >= 0) return true;
    return false;
}

struct multicast *multicast_new(struct event_base *base, multicast_heard *heard, void *arg) {
    struct multicast *x = calloc(1, sizeof *x);
    if (x) *x = (struct multicast){.base = base, .heard = heard, .arg = arg};
    return x;
}

void multicast_free(struct multicast *x) {
    if (!x) return;
    for (size_t i = 0; i < 2 * MDNS_LINKS; i++)
        if (x->ports[i].used) close_port(&x->ports[i]);
    free(x);
}

#include "cluster/origin.h"
#include "base/clock.h"
#include "base/limits.h"

#include <netinet/in.h>
#include <stddef.h>

uint64_t origin_of(const struct sockaddr *a) {
    const struct sockaddr_in *four = (const void *)a;
    const struct sockaddr_in6 *six = (const void *)a;
    uint64_t prefix = 0;
    if (a->sa_family == AF_INET) return 1ull << 32 | ntohl(four->sin_addr.s_addr); // no IPv6 network begins so
    if (a->sa_family != AF_INET6) return 0;
    for (int i = 0; i < 8; i++) prefix = prefix << 8 | six->sin6_addr.s6_addr[i];
    return prefix;
}

uint64_t origin_of_peer(int fd) {
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    return getpeername(fd, (struct sockaddr *)&a, &len) ? 0 : origin_of((const struct sockaddr *)&a);
}

bool origins_pass(struct origins *o, uint64_t origin, uint64_t now_ns) {
    const uint64_t each = NS_PER_S / LIMIT_PEER_RATE, most = (LIMIT_PEER_BURST - 1) * each;
    size_t at = 0;
    for (size_t i = 0; i < ORIGINS && o->of[at].origin != origin; i++)
        if (o->of[i].origin == origin || o->of[i].due_ns < o->of[at].due_ns) at = i;
    uint64_t due = o->of[at].origin == origin && o->of[at].due_ns > now_ns ? o->of[at].due_ns : now_ns;
    if (due - now_ns > most) return false;
    o->of[at].origin = origin;
    o->of[at].due_ns = due + each;
    return true;
}

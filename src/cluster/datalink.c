#include "cluster/datalink.h"
#include "base/clock.h"
#include "base/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/sockios.h>
#include <sys/ioctl.h>
#endif

enum { LOOK_MS = 50, PROBE_AFTER_S = 10, PROBE_EVERY_S = 5, PROBES = 3 };

static int set_int(int fd, int level, int name, int value) { return setsockopt(fd, level, name, &value, sizeof value); }

int datalink_tune(int fd, unsigned limit_ms, struct err *e) {
    struct timeval limit = {.tv_sec = limit_ms / 1000, .tv_usec = (int)(limit_ms % 1000) * 1000};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit))
        return err_errno(e, "cannot set a connection's time limits");
        // what follows makes it better where it is there
#ifdef TCP_KEEPIDLE
    set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, PROBE_AFTER_S);
#elif defined(TCP_KEEPALIVE)
    set_int(fd, IPPROTO_TCP, TCP_KEEPALIVE, PROBE_AFTER_S);
#endif
    set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, PROBE_EVERY_S);
    set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
    set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return 0;
}

// 0 = connected, else why not.
static int await_connect(int fd, uint64_t deadline, const atomic_bool *stop) {
    while (!atomic_load(stop) && clock_mono_ns() < deadline) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (poll(&p, 1, LOOK_MS) <= 0) continue;
        int error = 0;
        socklen_t size = sizeof error;
        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) ? errno : error;
    }
    return atomic_load(stop) ? ECANCELED : ETIMEDOUT;
}

static int dial_one(const struct addrinfo *a, uint64_t deadline, const atomic_bool *stop, int *why) {
    int fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
    int flags = fd >= 0 ? fcntl(fd, F_GETFL) : -1;
    if (flags < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) || fcntl(fd, F_SETFL, flags | O_NONBLOCK)) goto failed;
    if (connect(fd, a->ai_addr, a->ai_addrlen) && errno != EINPROGRESS) goto failed;
    errno = await_connect(fd, deadline, stop);
    if (!errno && !fcntl(fd, F_SETFL, flags)) return fd;
failed:
    *why = errno;
    if (fd >= 0) close(fd);
    return -1;
}

int datalink_dial_any(const struct addrinfo *found, uint64_t deadline_ns, const atomic_bool *stop, int *why) {
    unsigned left = 0;
    int fd = -1;
    for (const struct addrinfo *a = found; a; a = a->ai_next) left++;
    *why = EADDRNOTAVAIL;
    for (const struct addrinfo *a = found; a && fd < 0 && *why != ECANCELED; a = a->ai_next) {
        uint64_t now = clock_mono_ns();
        fd = dial_one(a, now < deadline_ns ? now + (deadline_ns - now) / left : now, stop, why);
        left--;
    }
    return fd;
}

int datalink_dial(const char *host, uint16_t port, const atomic_bool *stop, struct err *e) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found = NULL;
    char text[8];
    int why;
    snprintf(text, sizeof text, "%u", port);
    int rc = getaddrinfo(host, text, &hints, &found);
    if (rc) return err_set(e, ERR_UNREACHABLE, "%s is not known: %s", host, gai_strerror(rc));
    int fd = datalink_dial_any(found, clock_mono_ns() + LIMIT_KV_CONNECT_MS * NS_PER_MS, stop, &why);
    freeaddrinfo(found);
    if (fd < 0) err_set(e, ERR_UNREACHABLE, "%s, port %u: %s", host, port, strerror(why));
    return fd;
}

uint64_t datalink_until(uint64_t now_ns, unsigned stall_ms, uint32_t length) {
    return now_ns + stall_ms * NS_PER_MS + length * 1000ull / LIMIT_KV_RATE_LEAST * NS_PER_MS;
}

size_t datalink_unsent(int fd) {
    int n = 0;
#ifdef SIOCOUTQNSD
    if (ioctl(fd, SIOCOUTQNSD, &n)) n = 0;
#else
    (void)fd;
#endif
    return n > 0 ? (size_t)n : 0;
}

bool datalink_hung_up(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

void datalink_wait(const SSL *ssl, int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (SSL_has_pending(ssl)) return;
    while (poll(&p, 1, -1) < 0 && errno == EINTR) continue;
}

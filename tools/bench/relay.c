#include "relay.h"
#include "base/clock.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STEP_BYTES = 80, EVENT_BYTES = 240 }; // about what a worker's step and a streamed event of one token take

struct links {
    int pair[2]; // the ends' and the relay's
    int out, in; // the relay's and the ends' side of the connection
    int result[2];
};

static int connect_loopback(struct links *l) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    l->in = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener >= 0 && l->in >= 0 && !bind(listener, (struct sockaddr *)&a, len) && !listen(listener, 1) &&
        !getsockname(listener, (struct sockaddr *)&a, &len) && !connect(l->in, (struct sockaddr *)&a, len))
        l->out = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (listener >= 0) close(listener);
    return l->out < 0 ? -1 : setsockopt(l->out, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int open_links(struct links *l) {
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, l->pair) || connect_loopback(l) || pipe(l->result);
}

static void close_links(struct links *l) {
    const int fds[] = {l->pair[0], l->pair[1], l->out, l->in, l->result[1]};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0) close(fds[i]);
}

static void run_relay(const struct links *l) {
    char step[STEP_BYTES], event[EVENT_BYTES] = {0};
    struct epoll_event ready = {.events = EPOLLIN};
    struct timespec used;
    int epoll = epoll_create1(0);
    close(l->pair[0]); // so that the end of the ends is seen
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, l->pair[1], &ready)) _exit(1);
    while (epoll_wait(epoll, &ready, 1, -1) == 1 && recv(l->pair[1], step, sizeof step, 0) > 0)
        if (send(l->out, event, sizeof event, MSG_NOSIGNAL) != EVENT_BYTES) _exit(1);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    uint64_t ns = (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
    _exit(write(l->result[1], &ns, sizeof ns) == sizeof ns ? 0 : 1);
}

static void run_ends(const struct links *l, int tokens, uint64_t pace_ns) {
    char step[STEP_BYTES] = {0}, event[EVENT_BYTES];
    struct timespec pause = {.tv_sec = (time_t)(pace_ns / NS_PER_S), .tv_nsec = (long)(pace_ns % NS_PER_S)};
    close(l->out); // so that the relay's end is seen
    for (int i = 0; i < tokens; i++) {
        nanosleep(&pause, NULL);
        if (send(l->pair[0], step, sizeof step, MSG_NOSIGNAL) != STEP_BYTES ||
            recv(l->in, event, sizeof event, MSG_WAITALL) != EVENT_BYTES)
            _exit(1);
    }
    _exit(0);
}

int relay_start(struct relay *r, int tokens, uint64_t pace_ns, struct err *e) {
    struct links l = {.pair = {-1, -1}, .out = -1, .in = -1, .result = {-1, -1}};
    int rc = open_links(&l) ? -1 : 0;
    *r = (struct relay){.result = l.result[0], .tokens = tokens};
    for (int i = 0; i < 2 && !rc; i++) {
        if ((r->pids[i] = fork()) < 0) rc = -1;
        if (r->pids[i]) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (i == 0) run_relay(&l);
        run_ends(&l, tokens, pace_ns);
    }
    if (rc) err_errno(e, "cannot start the bare relay");
    close_links(&l);
    return rc;
}

bool relay_done(const struct relay *r) {
    struct pollfd p = {.fd = r->result, .events = POLLIN};
    return poll(&p, 1, 0) != 0;
}

int relay_end(struct relay *r, double *us_per_token, struct err *e) {
    uint64_t ns = 0;
    bool good = read(r->result, &ns, sizeof ns) == sizeof ns;
    close(r->result);
    for (int i = 0, status; i < 2; i++)
        if (waitpid(r->pids[i], &status, 0) != r->pids[i] || status) good = false;
    *us_per_token = (double)ns / 1e3 / r->tokens;
    return good ? 0 : err_set(e, ERR_INTERNAL, "the bare relay ended early");
}

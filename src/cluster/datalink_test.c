#include "base/clock.h"
#include "cluster/datalink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { TIME_MS = 1000, FILL = 8 };

static atomic_bool stop;

// Listens on loopback at a port of its own.
static int listener(struct sockaddr_in *at, int backlog) {
    socklen_t size = sizeof *at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)at, sizeof *at), 0);
    assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)at, &size), 0);
    return fd;
}

// One whose queue is full and never accepted from: the kernel drops what else comes, as a dead machine would.
static int mute(struct sockaddr_in *at, int fill[FILL]) {
    int fd = listener(at, 0);
    for (int i = 0; i < FILL; i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_true(fill[i] >= 0 && !fcntl(fill[i], F_SETFL, O_NONBLOCK));
        if (connect(fill[i], (struct sockaddr *)at, sizeof *at)) assert_int_equal(errno, EINPROGRESS);
    }
    return fd;
}

static struct addrinfo address(struct sockaddr_in *at, struct addrinfo *next) {
    return (struct addrinfo){.ai_family = AF_INET,
                             .ai_socktype = SOCK_STREAM,
                             .ai_addr = (struct sockaddr *)at,
                             .ai_addrlen = sizeof *at,
                             .ai_next = next};
}

static int dial(const struct addrinfo *first, int *why) {
    return datalink_dial_any(first, clock_mono_ns() + TIME_MS * NS_PER_MS, &stop, why);
}

// A dead address before a good one takes its share of the time, not all of it.
static void dead_address_first(void **arg) {
    (void)arg;
    struct sockaddr_in dead_at, good_at, peer;
    socklen_t size = sizeof peer;
    int fill[FILL], why, dead = mute(&dead_at, fill), good = listener(&good_at, 1);
    struct addrinfo second = address(&good_at, NULL), first = address(&dead_at, &second);
    int fd = dial(&first, &why);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(getpeername(fd, (struct sockaddr *)&peer, &size), 0);
    assert_int_equal(peer.sin_port, good_at.sin_port);
    close(fd);
    first.ai_next = NULL;
    assert_int_equal(dial(&first, &why), -1);
    assert_int_equal(why, ETIMEDOUT);
    for (int i = 0; i < FILL; i++) close(fill[i]);
    close(dead);
    close(good);
}

static void refused_and_stopped(void **arg) {
    (void)arg;
    struct sockaddr_in closed_at, good_at;
    int why, closed = listener(&closed_at, 1), good = listener(&good_at, 1);
    struct addrinfo second = address(&good_at, NULL), first = address(&closed_at, &second);
    close(closed);
    int fd = dial(&first, &why);
    assert_true(fd >= 0);
    close(fd);
    first.ai_next = NULL;
    assert_int_equal(dial(&first, &why), -1);
    assert_int_equal(why, ECONNREFUSED);
    first.ai_next = &second;
    atomic_store(&stop, true);
    assert_int_equal(dial(&first, &why), -1);
    atomic_store(&stop, false);
    close(good);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(dead_address_first), cmocka_unit_test(refused_and_stopped)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// The address it may serve at; and the whole daemon in a process of its own, without a model: how it ends.
#include "base/folder_fixture.h"
#include "serve/daemon.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static pid_t start_daemon(const char *dir, uint16_t *port) {
    int ready[2];
    char text[16] = "";
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (!pid) {
        struct settings s;
        struct paths p = {.data = ""};
        struct err e;
        settings_defaults(&s);
        snprintf(s.api, sizeof s.api, "127.0.0.1:0");
        snprintf(p.data, sizeof p.data, "%s", dir);
        snprintf(p.state, sizeof p.state, "%s", dir);
        close(ready[0]);
        alarm(60); // a daemon that does not end fails the test
        if (!daemon_run(&s, &p, &(struct daemon_options){.ready_fd = ready[1], .quiet = true}, &e)) _exit(0);
        fprintf(stderr, "%s\n", e.msg);
        _exit(9);
    }
    assert_true(pid > 0);
    close(ready[1]);
    assert_true(read(ready[0], text, sizeof text - 1) > 1);
    close(ready[0]);
    *port = (uint16_t)strtoul(text, NULL, 10);
    return pid;
}

// Asks on a connection of its own; false where the daemon does not answer any more.
static bool ask(uint16_t port, const char *path) {
    char request[128], answer[16384] = "";
    size_t got = 0;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", path);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    if (!connect(fd, (struct sockaddr *)&a, sizeof a) && send(fd, request, (size_t)n, MSG_NOSIGNAL) == n)
        for (ssize_t more; (more = recv(fd, answer + got, sizeof answer - 1 - got, 0)) > 0;) got += (size_t)more;
    close(fd);
    if (got && strncmp(answer, "HTTP/1.1 200 ", 13) != 0) fail_msg("%s: %s", path, answer);
    return got > 0;
}

static void test_questions_while_it_stops(void **state) {
    (void)state;
    static const char *const paths[] = {"/metrics", "/nebulus/v1/status", "/v1/models"};
    char dir[] = "/tmp/nebulus-daemon-XXXXXX";
    uint16_t port;
    int status;
    bool open = true;
    assert_non_null(mkdtemp(dir));
    pid_t pid = start_daemon(dir, &port);
    for (size_t i = 0; i < 3; i++) assert_true(ask(port, paths[i]));
    assert_int_equal(kill(pid, SIGTERM), 0);
    while (open) // to the very end
        for (size_t i = 0; i < 3; i++) open = ask(port, paths[i]) && open;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) fail_msg("the daemon ended with status 0x%x", (unsigned)status);
    assert_int_equal(folder_remove(dir), 0);
}

static void test_daemon_address(void **state) {
    (void)state;
    char host[SETTING_SIZE];
    long port;
    struct err e;
    assert_int_equal(daemon_address("[::1]:0", host, &port, &e), 0);
    assert_int_equal(daemon_address("localhost", host, &port, &e), -1);
    assert_int_equal(daemon_address("0.0.0.0:7420", host, &port, &e), -1);
    assert_string_equal(e.param, "api");
    assert_non_null(strstr(e.msg, "loopback"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_daemon_address),
                                       cmocka_unit_test(test_questions_while_it_stops)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

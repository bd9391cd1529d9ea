// Invitations over HTTP against a cluster of one node. How guests prove themselves is tested with real daemons.
#include "base/json.h"
#include "serve/cluster_internal.h"
#include "serve/routes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct world {
    struct serve s;
    struct paths paths;
    char dir[64];
    EVP_PKEY *root;
};

static uint16_t unused_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a) | getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static struct roster *first_roster(const struct cluster *c, EVP_PKEY *root) {
    struct err e = {.code = ERR_NONE};
    struct roster *r = calloc(1, sizeof *r);
    struct roster_node n = {.role = "auto", .name = "alpha"};
    assert_non_null(r);
    snprintf(r->cluster, sizeof r->cluster, "lab");
    snprintf(n.id, sizeof n.id, "%s", c->identity.id);
    memcpy(n.pin, c->identity.pin, sizeof n.pin);
    r->epoch = 1;
    if (roster_add(r, &n, &e) || roster_sign(r, root, &e)) fail_msg("%s", e.msg);
    return r;
}

static int setup(void **state) {
    struct world *w = calloc(1, sizeof *w);
    struct err e = {.code = ERR_NONE};
    if (!w) return -1;
    snprintf(w->dir, sizeof w->dir, "/tmp/nebulus-invite-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->paths.state, sizeof w->paths.state, "%s/state", w->dir);
    settings_defaults(&w->s.settings);
    snprintf(w->s.settings.cluster, SETTING_SIZE, "127.0.0.1:%u", (unsigned)unused_port());
    metrics_init(&w->s.metrics);
    w->s.base = event_base_new();
    w->s.http = http_server_new(w->s.base, routes_handle, &w->s, &e);
    snprintf(w->s.host, sizeof w->s.host, "127.0.0.1");
    if (!w->s.http || http_server_listen(w->s.http, "127.0.0.1", 0, &w->s.port, &e) ||
        !(w->s.cluster = cluster_new(&w->s, &w->paths, &e)) || cluster_prepare(w->s.cluster, &e) ||
        !(w->root = key_new(&e)) || membership_begin(w->s.cluster, first_roster(w->s.cluster, w->root), &e))
        fail_msg("%s", e.msg);
    assert_true(w->s.cluster->listening);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    static const char *const files[] = {"state/cluster.json",       "state/cluster.lock", "state/identity/node.key",
                                        "state/identity/audit.key", "state/identity",     "state"};
    char path[PATH_SIZE];
    http_server_free(w->s.http);
    cluster_free(w->s.cluster);
    event_base_free(w->s.base);
    EVP_PKEY_free(w->root);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", w->dir, files[i]);
        if (unlink(path) && rmdir(path)) fail_msg("%s: %s", path, strerror(errno));
    }
    int rc = rmdir(w->dir);
    free(w);
    return rc;
}

static int ask(const struct world *w, const char *path, const char *body) {
    char request[1024];
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(w->s.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int n = snprintf(request, sizeof request,
                     "POST %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: %zu\r\n\r\n%s", path,
                     strlen(body), body);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(send(fd, request, (size_t)n, MSG_NOSIGNAL), n);
    return fd;
}

// Runs the loop until `words` have been received, or - where it is NULL - the end; gives all that came.
static const char *hear(const struct world *w, int fd, const char *words) {
    static char in[65536];
    size_t got = 0;
    in[0] = 0;
    for (;;) {
        ssize_t n = recv(fd, in + got, sizeof in - 1 - got, MSG_DONTWAIT);
        if (!n) return in;
        if (n > 0) in[got += (size_t)n] = 0;
        if (words && strstr(in, words)) return in;
        if (n > 0) continue;
        assert_int_equal(errno, EAGAIN);
        assert_int_equal(event_base_loop(w->s.base, EVLOOP_NONBLOCK), 0);
        usleep(1000);
    }
}

static const char *past_of(const struct cluster *c) { return c->n_past ? c->past[(c->n_past - 1) % 32].how : NULL; }

static void test_expires(void **state) {
    struct world *w = *state;
    w->s.cluster->invitation_s = 0;
    int fd = ask(w, "/nebulus/v1/cluster/invite", "{}");
    const char *heard = hear(w, fd, NULL);
    assert_non_null(strstr(heard, "\"state\":\"open\""));
    assert_non_null(strstr(heard, "nobody has used the invitation"));
    assert_true(TAILQ_EMPTY(&w->s.cluster->invitations));
    assert_string_equal(past_of(w->s.cluster), "too old");
    close(fd);
}

static void test_token(void **state) {
    struct world *w = *state;
    struct pairing_token t;
    struct err e;
    uint8_t fingerprint[DIGEST_BYTES], root[KEY_PUBLIC];
    char text[PAIRING_TOKEN], own[SETTING_SIZE];
    int fd = ask(w, "/nebulus/v1/cluster/invite", "{}");
    const char *at = strstr(hear(w, fd, "\"state\":\"open\""), "neb1-");
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s", (int)strcspn(at, "\""), at);
    assert_int_equal(pairing_decode(text, &t, &e), 0);
    assert_int_equal(key_public(w->root, root), 0);
    digest_of(root, sizeof root, fingerprint);
    assert_memory_equal(t.root, fingerprint, sizeof fingerprint);
    snprintf(own, sizeof own, "%s", w->s.settings.cluster);
    assert_int_equal(t.n, 1);
    assert_string_equal(t.addresses[0], own);
    close(fd); // whoever opened it has gone: it is withdrawn
    while (!TAILQ_EMPTY(&w->s.cluster->invitations)) assert_int_equal(event_base_loop(w->s.base, EVLOOP_ONCE), 0);
    assert_string_equal(past_of(w->s.cluster), "withdrawn");
}

static void test_addresses_and_names(void **state) {
    struct world *w = *state;
    static const char *const bad[] = {
        "{\"addresses\":[\"a\"]}",
        "{\"addresses\":[1]}",
        "{\"addresses\":{}}",
        "{\"addresses\":[\"\"]}",
        "{\"name\":\"a b\"}",
        "{\"name\":3}",
        "[]",
        "{",
        "{\"addresses\":[\"a:1\",\"a:1\",\"a:1\",\"a:1\",\"a:1\",\"a:1\",\"a:1\",\"a:1\",\"a:1\"]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int fd = ask(w, "/nebulus/v1/cluster/invite", bad[i]);
        if (strncmp(hear(w, fd, NULL), "HTTP/1.1 400 ", 13) != 0) fail_msg("%s was taken", bad[i]);
        close(fd);
    }
    assert_true(TAILQ_EMPTY(&w->s.cluster->invitations));
}

static void test_most(void **state) {
    struct world *w = *state;
    int fds[LIMIT_INVITATIONS + 1];
    for (size_t i = 0; i < LIMIT_INVITATIONS; i++) {
        fds[i] = ask(w, "/nebulus/v1/cluster/invite", "{}");
        hear(w, fds[i], "\"state\":\"open\"");
    }
    fds[LIMIT_INVITATIONS] = ask(w, "/nebulus/v1/cluster/invite", "{}");
    assert_int_equal(strncmp(hear(w, fds[LIMIT_INVITATIONS], NULL), "HTTP/1.1 429 ", 13), 0);
    int fd = ask(w, "/nebulus/v1/cluster/leave", "{}"); // and with the membership they end
    assert_non_null(strstr(hear(w, fd, NULL), "\"left\":\"lab\""));
    close(fd);
    for (size_t i = 0; i < LIMIT_INVITATIONS; i++) assert_non_null(strstr(hear(w, fds[i], NULL), "error"));
    for (size_t i = 0; i <= LIMIT_INVITATIONS; i++) close(fds[i]);
    assert_false(membership_kept(w->s.cluster));
    struct err e; // so that teardown finds the same files again
    assert_int_equal(membership_begin(w->s.cluster, first_roster(w->s.cluster, w->root), &e), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_expires, setup, teardown),
        cmocka_unit_test_setup_teardown(test_token, setup, teardown),
        cmocka_unit_test_setup_teardown(test_addresses_and_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_most, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// The client against a server that says what each test wants said, byte by byte.
#include "cli/api_client.h"
#include "cli/interrupt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct err e;
static char address[64];
static pid_t server;

static int listen_anywhere(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(a.sin_port));
    return fd;
}

// A child that answers one request with `answer`, `piece` bytes at a time, and then closes (or hangs until killed).
static void serve_once(const char *answer, size_t piece, int hang) {
    int fd = listen_anywhere();
    char request[4096];
    assert_int_equal(listen(fd, 1), 0);
    if ((server = fork())) {
        close(fd);
        return;
    }
    int c = accept(fd, NULL, NULL);
    if (read(c, request, sizeof request) <= 0) _exit(1);
    for (size_t n = strlen(answer), at = 0; at < n; at += piece)
        if (write(c, answer + at, n - at < piece ? n - at : piece) < 0) break;
    if (hang) pause();
    close(c);
    _exit(0);
}

static void end_server(void) {
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
}

static struct api_client *client(void) {
    e = (struct err){.code = ERR_NONE};
    struct api_client *c = api_open(address, &e);
    assert_non_null(c);
    return c;
}

static int get(json_t **out) {
    struct api_client *c = client();
    int rc = api_get(c, "/x", out, &e);
    api_close(c);
    end_server();
    return rc;
}

struct heard {
    int n;
    char text[256];
};

static int hear(void *arg, const json_t *event, struct err *why) {
    struct heard *h = arg;
    const char *t = json_string_value(json_object_get(event, "t"));
    if (!t) return err_set(why, ERR_INVALID, "no t");
    h->n++;
    strncat(h->text, t, sizeof h->text - strlen(h->text) - 1);
    return 0;
}

static int stream(struct heard *h) {
    struct api_client *c = client();
    json_t *body = json_pack("{s:i}", "a", 1);
    *h = (struct heard){.n = 0};
    int rc = api_stream(c, "/x", body, hear, h, &e);
    json_decref(body);
    api_close(c);
    end_server();
    return rc;
}

#define HEAD(status) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n"

static void answers_are_parsed(void **state) {
    json_t *out = NULL;
    (void)state;
    serve_once(HEAD("200 OK") "{\"a\":[1,2]}", 3, 0);
    assert_int_equal(get(&out), 0);
    assert_int_equal(json_array_size(json_object_get(out, "a")), 2);
    json_decref(out);
}

static void refusals_keep_their_message(void **state) {
    static const struct {
        const char *answer;
        enum err_code code;
    } cases[] = {
        {HEAD("404 Not Found") "{\"error\":{\"message\":\"why it is\",\"param\":\"model\"}}", ERR_NOT_FOUND},
        {HEAD("403 Forbidden") "{\"error\":{\"message\":\"why it is\",\"param\":\"model\"}}", ERR_DENIED},
        {HEAD("400 Bad") "{\"error\":{\"message\":\"why it is\",\"param\":\"model\"}}", ERR_INVALID},
        {HEAD("429 Busy") "{\"error\":{\"message\":\"why it is\",\"param\":\"model\"}}", ERR_BUSY},
        {HEAD("500 Oops") "{\"error\":{\"message\":\"why it is\",\"param\":\"model\"}}", ERR_INTERNAL},
    };
    json_t *out = NULL;
    struct heard h;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        serve_once(cases[i].answer, 1000, 0);
        assert_int_equal(get(&out), -1);
        assert_null(out);
        assert_int_equal(e.code, cases[i].code);
        assert_string_equal(e.msg, "why it is");
        assert_string_equal(e.param, "model");
        serve_once(cases[i].answer, 1000, 0);
        assert_int_equal(stream(&h), -1);
        assert_int_equal(e.code, cases[i].code);
        assert_int_equal(h.n, 0);
    }
}

static void strangers_are_recognized(void **state) {
    json_t *out = NULL;
    (void)state;
    serve_once(HEAD("200 OK") "<html>hello</html>", 1000, 0);
    assert_int_equal(get(&out), -1);
    assert_int_equal(e.code, ERR_UNREACHABLE);
    assert_non_null(strstr(e.msg, "not a nebulus daemon"));
    serve_once(HEAD("302 Found\r\nLocation: http://127.0.0.1:9/"), 1000, 0); // never followed
    assert_int_equal(get(&out), -1);
    assert_non_null(strstr(e.msg, "HTTP 302"));
    serve_once("220 mail.example.org ESMTP\r\n", 1000, 0);
    assert_int_equal(get(&out), -1);
    assert_int_equal(e.code, ERR_UNREACHABLE);
}

static void nobody_there(void **state) {
    json_t *out = NULL;
    (void)state;
    int fd = listen_anywhere(); // bound, not listening: refused
    struct api_client *c = client();
    assert_int_equal(api_get(c, "/x", &out, &e), -1);
    assert_int_equal(e.code, ERR_UNREACHABLE);
    assert_non_null(strstr(e.msg, "nebulus serve"));
    api_close(c);
    close(fd);
}

static void bad_addresses(void **state) {
    static const char *const bad[] = {"", "a b:1", "host:1/evil", "user@host:1", "http://x", "x?y", "a\nb"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(api_open(bad[i], &e));
        assert_string_equal(e.param, "api");
    }
}

static void streams_of_both_kinds(void **state) {
    static const char *const answers[] = {
        HEAD("200 OK") "data: {\"t\":\"a\"}\n\n: keep-alive\n\ndata:{\"t\":\"\u00E9\"}\r\n\r\nevent: x\ndata: "
                       "[DONE]\n\n",
        HEAD("200 OK") "{\"t\":\"a\"}\n\n{\"t\":\"\u00E9\"}\n",
        HEAD("200 OK") "{\"t\":\"a\"}\n{\"t\":\"\u00E9\"}", // the last newline may be missing
    };
    struct heard h;
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        for (size_t piece = 1; piece < 200; piece += 33) {
            serve_once(answers[i], piece, 0);
            assert_int_equal(stream(&h), 0);
            assert_int_equal(h.n, 2);
            assert_string_equal(h.text, "a\u00E9");
        }
    }
}

static void done_ends_the_events(void **state) {
    struct heard h;
    (void)state;
    serve_once(HEAD("200 OK") "data: {\"t\":\"a\"}\n\ndata: [DONE]\n\ndata: {\"t\":\"b\"}\n\n", 1000, 0);
    assert_int_equal(stream(&h), 0);
    assert_string_equal(h.text, "a");
}

static void errors_within_a_stream(void **state) {
    struct heard h;
    (void)state;
    serve_once(HEAD("200 OK") "data: {\"t\":\"a\"}\n\ndata: {\"error\":{\"message\":\"it "
                              "died\",\"type\":\"server_error\"}}\n\n",
               1000, 0);
    assert_int_equal(stream(&h), -1);
    assert_string_equal(e.msg, "it died");
    assert_int_equal(e.code, ERR_WORKER);
    assert_string_equal(h.text, "a");
    serve_once(HEAD("200 OK") "{\"error\":{\"message\":\"gone\",\"code\":\"model_not_found\"}}\n", 1000, 0);
    assert_int_equal(stream(&h), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    serve_once(HEAD("200 OK") "{\"t\":\"a\"}\n{\"t\":7}\n{\"t\":\"b\"}\n", 1000, 0);
    assert_int_equal(stream(&h), -1);
    assert_string_equal(e.msg, "no t");
    serve_once(HEAD("200 OK") "{\"t\":\"a\"}\n{\"t\":\n", 1000, 0);
    assert_int_equal(stream(&h), -1);
    assert_int_equal(e.code, ERR_INVALID);
}

static void cut_off_answers(void **state) {
    struct heard h;
    (void)state;
    serve_once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"t\":\"a\"}\n{\"t\":", 1000, 0);
    assert_int_equal(stream(&h), -1);
    assert_int_equal(e.code, ERR_UNREACHABLE);
    assert_non_null(strstr(e.msg, "went away"));
    assert_string_equal(h.text, "a");
}

static int hear_and_interrupt(void *arg, const json_t *event, struct err *why) {
    int rc = hear(arg, event, why);
    raise(SIGINT);
    return rc;
}

static void interrupt_ends_a_call(void **state) {
    struct heard h = {.n = 0};
    (void)state;
    serve_once(HEAD("200 OK") "{\"t\":\"a\"}\n", 1000, 1); // and never more
    struct api_client *c = client();
    json_t *body = json_object();
    assert_int_equal(api_stream(c, "/x", body, hear_and_interrupt, &h, &e), -1);
    assert_int_equal(e.code, ERR_CANCELLED);
    assert_string_equal(h.text, "a");
    assert_true(interrupt_pending());
    interrupt_clear();
    assert_false(interrupt_pending());
    json_decref(body);
    api_close(c);
    end_server();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_parsed),
        cmocka_unit_test(refusals_keep_their_message),
        cmocka_unit_test(strangers_are_recognized),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(bad_addresses),
        cmocka_unit_test(streams_of_both_kinds),
        cmocka_unit_test(done_ends_the_events),
        cmocka_unit_test(errors_within_a_stream),
        cmocka_unit_test(cut_off_answers),
        cmocka_unit_test(interrupt_ends_a_call),
    };
    interrupt_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

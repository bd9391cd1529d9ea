// Routes, jobs and models together, over real HTTP, against a fake worker: this program, run with the argument
// "worker". The name of the model's file tells it how to load, the prompt how to answer.
#include "base/folder_fixture.h"
#include "engine/protocol.h"
#include "serve/authority.h"
#include "serve/evidence.h"
#include "serve/routes.h"
#include "serve/serve.h"
#include "trust/agents.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

// ---------------------------------------------------------------- the fake worker
static void say(json_t *msg) {
    struct buf b;
    buf_init(&b, LIMIT_IPC_FROM_WORKER);
    if (frame_append(&b, msg) || write(3, b.data, b.len) != (ssize_t)b.len) _exit(91);
    buf_free(&b);
    json_decref(msg);
}

static json_t *hear(void) {
    static struct buf in = {.max = LIMIT_IPC_TO_WORKER};
    json_t *msg;
    size_t used;
    for (;;) {
        int rc = frame_take(in.data ? in.data : "", in.len, LIMIT_IPC_TO_WORKER, &msg, &used, NULL);
        if (rc > 0) buf_consume(&in, used);
        if (rc > 0) return msg;
        if (rc < 0 || buf_reserve(&in, 4096)) _exit(92);
        ssize_t n = read(3, in.data + in.len, 4096);
        if (n <= 0) _exit(0);
        in.len += (size_t)n;
    }
}

static void answer(json_int_t id, const char *prompt) {
    struct gen_result r = {.finish = FINISH_STOP, .prompt_tokens = 3, .completion_tokens = 2};
    if (!strcmp(prompt, "refuse") || !strcmp(prompt, "echo")) {
        struct err why = {.code = ERR_LIMIT, .msg = "too long"};
        snprintf(why.param, sizeof why.param, "%s", *prompt == 'r' ? "prompt" : prompt);
        say(error_encode((uint64_t)id, &why));
        return;
    }
    say(json_pack("{s:s, s:I, s:i}", "t", "begin", "id", id, "prompt_tokens", 3));
    say(json_pack("{s:s, s:[[I,s,i]]}", "t", "tokens", "d", id, "hel", 1));
    if (!strcmp(prompt, "die")) _exit(7);
    if (!strcmp(prompt, "hold")) return;
    say(json_pack("{s:s, s:[[I,s,i]]}", "t", "tokens", "d", id, "lo", 2));
    say(result_encode((uint64_t)id, &r));
}

static void fake_worker(void) {
    struct engine_options o;
    struct worker_info info = {.arch = "fake", .parallel = 2, .kv = {.form = KV_OPAQUE}};
    struct worker_stats stats = {.requests = 0};
    struct err e;
    if (load_decode(hear(), &o, &e)) _exit(93);
    if (!strcmp(o.model_name, "bad")) {
        say(error_encode(0, &(struct err){.code = ERR_INVALID, .msg = "damaged"}));
        _exit(1);
    }
    say(json_pack("{s:s, s:f}", "t", "progress", "f", 0.5));
    if (strcmp(o.model_name, "slow") != 0) say(info_encode(&info));
    for (;;) {
        json_t *msg = hear();
        const char *type = json_string_value(json_object_get(msg, "t"));
        json_int_t id = json_integer_value(json_object_get(msg, "id"));
        if (!strcmp(type, "gen")) answer(id, json_string_value(json_object_get(msg, "prompt")));
        if (!strcmp(type, "cancel")) { // counted where the test can see it
            stats.requests++;
            say(stats_encode(&stats));
        }
        json_decref(msg);
    }
}

// ---------------------------------------------------------------- the daemon, without its main function
static const char *const stored[] = {"good", "good2", "good3", "bad", "slow", "junk"};

struct world {
    struct serve s;
    char dir[64];
    struct event *net;
    bool late;
};

static void on_late(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    ((struct world *)arg)->late = true;
}

static void store_add(const struct world *w, const char *name) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s.gguf", w->dir, name);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, strcmp(name, "junk") ? "GGUF" : "junk", 4), 4);
    close(fd);
}

static int setup(void **state) {
    struct world *w = calloc(1, sizeof *w);
    struct err e = {.code = ERR_NONE};
    if (!w) return -1;
    snprintf(w->dir, sizeof w->dir, "/tmp/nebulus-serve-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    for (size_t i = 0; i < sizeof stored / sizeof *stored; i++) store_add(w, stored[i]);
    assert_int_equal(serve_init(&w->s, &e), 0);
    settings_defaults(&w->s.settings);
    w->s.settings.max_models = 2;
    w->s.agents = agents_open(w->dir, &e);
    assert_non_null(w->s.agents);
    snprintf(w->s.host, sizeof w->s.host, "127.0.0.1");
    snprintf(w->s.store.dir, sizeof w->s.store.dir, "%s", w->dir);
    assert_int_equal(path_self(w->s.store.program, &e), 0);
    struct paths paths;
    memset(&paths, 0, sizeof paths);
    snprintf(paths.state, sizeof paths.state, "%s", w->dir);
    assert_non_null(w->s.authority = authority_new(&paths, &e));
    assert_non_null(w->s.evidence = evidence_new(&w->s, &paths, &e));
    w->s.models = models_new(w->s.base, &w->s.settings, &w->s.store, &e);
    w->s.http = http_server_new(w->s.base, routes_handle, &w->s, &e);
    assert_int_equal(http_server_listen(w->s.http, "127.0.0.1", 0, &w->s.port, &e), 0);
    w->net = evtimer_new(w->s.base, on_late, w);
    assert_int_equal(event_add(w->net, &(struct timeval){.tv_sec = 60}), 0);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    http_server_free(w->s.http);
    models_free(w->s.models);
    agents_free(w->s.agents);
    evidence_free(w->s.evidence);
    event_free(w->net);
    assert_int_equal(event_base_dispatch(w->s.base), 1); // until the workers are gone
    serve_close(&w->s);
    authority_free(w->s.authority);
    assert_int_equal(folder_remove(w->dir), 0);
    free(w);
    return 0;
}

// ---------------------------------------------------------------- a client
struct client {
    struct world *w;
    int fd;
    char got[32768];
    size_t n;
    bool over; // the server has closed
};

static void client_send_to(struct client *c, struct world *w, in_addr_t at, uint16_t port, const char *method,
                           const char *path, const char *headers, const char *body) {
    char head[1024];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = at};
    *c = (struct client){.w = w, .fd = socket(AF_INET, SOCK_STREAM, 0)};
    assert_true(c->fd >= 0);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&a, sizeof a), 0);
    int n = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\n%sconnection: close\r\ncontent-length: %zu\r\n\r\n", method,
                     path, headers ? headers : "host: localhost\r\n", strlen(body));
    assert_true(n > 0 && n < (int)sizeof head);
    assert_int_equal(write(c->fd, head, (size_t)n), n);
    assert_int_equal(write(c->fd, body, strlen(body)), strlen(body));
}

static void client_send(struct client *c, struct world *w, const char *method, const char *path, const char *headers,
                        const char *body) {
    client_send_to(c, w, htonl(INADDR_LOOPBACK), w->s.port, method, path, headers, body);
}

static void pump(struct client *c) {
    assert_int_equal(event_base_loop(c->w->s.base, EVLOOP_ONCE | EVLOOP_NONBLOCK), 0);
    assert_false(c->w->late);
    ssize_t n = recv(c->fd, c->got + c->n, sizeof c->got - 1 - c->n, MSG_DONTWAIT);
    if (n > 0) c->n += (size_t)n;
    if (n == 0 || (n < 0 && errno != EAGAIN)) c->over = true;
    if (n < 0) usleep(1000);
}

static void client_until(struct client *c, const char *text) {
    while (!strstr(c->got, text) && !c->over) pump(c);
    if (!strstr(c->got, text)) fail_msg("no '%s' in: %s", text, c->got);
}

// Until the server has closed; the whole answer must begin with this status line.
static void client_finish(struct client *c, int status) {
    char line[32];
    while (!c->over) pump(c);
    close(c->fd);
    snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    if (strncmp(c->got, line, strlen(line)) != 0) fail_msg("not %d: %s", status, c->got);
    assert_non_null(strstr(c->got, "x-request-id: req_"));
}

static void expect(struct world *w, const char *path, const char *body, int status, const char *text) {
    struct client c;
    client_send(&c, w, *body ? "POST" : "GET", path, NULL, body);
    client_finish(&c, status);
    if (!strstr(c.got, text)) fail_msg("no '%s' in: %s", text, c.got);
}

#define COMPLETIONS               "/v1/completions"
#define BODY(model, prompt, more) "{\"model\":\"" model "\",\"prompt\":\"" prompt "\"" more "}"

// ---------------------------------------------------------------- tests
static void test_who_may_ask(void **state) {
    static const struct {
        const char *method, *path, *headers;
        int status;
        const char *text;
    } cases[] = {
        {"GET", "/health", "host: evil.com\r\n", 403, "Host header"},
        {"GET", "/health", "host: 127.0.0.1.evil.com:80\r\n", 403, "Host header"},
        {"GET", "/health", "host: localhost\r\norigin: http://evil.com\r\n", 403, "origins"},
        {"GET", "/health", "host: localhost:1\r\norigin: null\r\n", 403, "origins"},
        {"GET", "/health", "host: localhost:1\r\norigin: http://localhost:2\r\n", 403, "origins"},
        {"POST", COMPLETIONS, "host: localhost\r\norigin: https://localhost\r\n", 403, "origins"},
        {"GET", "/health", "host: localhost:1\r\norigin: http://localhost:1\r\n", 200, "ok"},
        {"GET", "/health", "host: [::1]:99\r\n", 200, "ok"},
        {"GET", "/nowhere", "host: a.localhost\r\n", 404, "not_found"},
        {"GET", "/v1/models/", "host: localhost\r\n", 404, "not_found"},
        {"DELETE", "/v1/models", "host: localhost\r\n", 405, "allow: GET, HEAD, OPTIONS"},
        {"GET", COMPLETIONS, "host: localhost\r\n", 405, "allow: POST, OPTIONS"},
        {"HEAD", COMPLETIONS, "host: localhost\r\n", 405, "allow: POST, OPTIONS"},
        {"OPTIONS", COMPLETIONS, "host: localhost\r\n", 204, "allow: POST, OPTIONS"},
        {"OPTIONS", COMPLETIONS, "host: localhost\r\norigin: http://evil.com\r\n", 403, "origins"},
        {"HEAD", "/v1/models", "host: localhost\r\n", 200, "content-length"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct client c;
        client_send(&c, *state, cases[i].method, cases[i].path, cases[i].headers, "");
        client_finish(&c, cases[i].status);
        if (!strstr(c.got, cases[i].text)) fail_msg("no '%s' in: %s", cases[i].text, c.got);
    }
}

// ---------------------------------------------------------------- keys
// What one route answers, without what is of the request alone.
static void answer_of(struct world *w, in_addr_t at, uint16_t port, size_t i, const char *headers, char *out,
                      size_t size) {
    struct client c;
    char path[128];
    const char *method;
    enum gate_access access;
    const char *route = routes_at(i, &method, &access);
    snprintf(path, sizeof path, "%s%s", route, route[strlen(route) - 1] == '/' ? "x" : "");
    client_send_to(&c, w, at, port, method, path, headers, "");
    while (!c.over) pump(&c);
    close(c.fd);
    char *id = strstr(c.got, "x-request-id: req_");
    assert_non_null(id);
    memset(id + 18, '0', 32);
    snprintf(out, size, "%.2047s", c.got);
}

// Every route but one gives strangers the same answer, byte for byte, whatever is wrong with them.
static void expect_closed(struct world *w, in_addr_t at, uint16_t port, const char *headers) {
    static char first[2048];
    char got[2048];
    const char *path, *method;
    enum gate_access access;
    size_t n = 0;
    for (; (path = routes_at(n, &method, &access)); n++) {
        answer_of(w, at, port, n, headers, got, sizeof got);
        if (access == GATE_OPEN) {
            assert_string_equal(path, "/health");
            continue;
        }
        if (strncmp(got, "HTTP/1.1 401 ", 13) != 0) fail_msg("%s %s: %s", method, path, got);
        if (!first[0]) snprintf(first, sizeof first, "%s", got);
        assert_string_equal(got, first);
    }
    assert_true(n > 25);
}

// An address of this machine that is not loopback; 0: it has none.
static in_addr_t own_address(void) {
    struct ifaddrs *all = NULL;
    in_addr_t found = 0;
    if (getifaddrs(&all)) return 0;
    for (struct ifaddrs *one = all; one && !found; one = one->ifa_next) {
        if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET) continue;
        struct sockaddr_in a;
        memcpy(&a, one->ifa_addr, sizeof a);
        if (ntohl(a.sin_addr.s_addr) >> 24 != 127) found = a.sin_addr.s_addr;
    }
    freeifaddrs(all);
    return found;
}

static const char *with_key(const char *key) {
    static char headers[256];
    snprintf(headers, sizeof headers, "host: localhost\r\nauthorization: Bearer %s\r\n", key);
    return headers;
}

static void test_no_route_without_a_key_that_holds(void **state) { // G5
    struct world *w = *state;
    struct err e;
    uint16_t port;
    char revoked[AGENT_SECRET], expired[AGENT_SECRET];
    struct agent gone = {.name = "gone"}, late = {.name = "late", .expires = 1000};
    in_addr_t here = htonl(INADDR_LOOPBACK), far = own_address();
    assert_non_null(agents_create(w->s.agents, &gone, 1, revoked, &e));
    assert_non_null(agents_create(w->s.agents, &late, 1, expired, &e));
    assert_int_equal(agents_revoke(w->s.agents, "gone", 1, &e), 0);
    static const char unknown[] = "neb_0123456789012345678901234567890123456789012";
    const char *const wrong[] = {"", "x", "sk-none", "owner", unknown, revoked, expired};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) expect_closed(w, here, w->s.port, with_key(wrong[i]));
    expect_closed(w, here, w->s.port, "host: localhost\r\nx-api-key: none\r\n");
    expect_closed(w, here, w->s.port, "host: localhost\r\nauthorization: Basic b3duZXI6\r\n");
    if (!far || http_server_listen(w->s.http, "0.0.0.0", 0, &port, &e)) {
        print_message("no address but loopback: requests from elsewhere are not tried\n");
        return;
    }
    expect_closed(w, far, port, "host: localhost\r\n"); // without a key
}

static void test_what_agents_may_call(void **state) {
    struct world *w = *state;
    struct err e;
    struct client c;
    char key[AGENT_SECRET], got[2048];
    struct agent ann = {.name = "ann"};
    const char *path, *method;
    enum gate_access access;
    assert_non_null(agents_create(w->s.agents, &ann, 1, key, &e));
    for (size_t i = 0; (path = routes_at(i, &method, &access)); i++) {
        if (access != GATE_OWNER) continue;
        answer_of(w, htonl(INADDR_LOOPBACK), w->s.port, i, with_key(key), got, sizeof got);
        if (strncmp(got, "HTTP/1.1 403 ", 13) != 0 || !strstr(got, "x-should-retry: false"))
            fail_msg("%s %s: %s", method, path, got);
    }
    client_send(&c, w, "GET", "/v1/models", with_key(key), "");
    client_finish(&c, 200);
    client_send(&c, w, "GET", "/nowhere", with_key(key), "");
    client_finish(&c, 404);
    client_send(&c, w, "GET", "/nowhere", with_key("neb_x"), "");
    client_finish(&c, 401);
    snprintf(got, sizeof got, "%sx-nebulus-label: @home\r\n", with_key(key));
    client_send(&c, w, "POST", COMPLETIONS, got, BODY("good", "hi", ""));
    client_finish(&c, 400);
    snprintf(got, sizeof got, "%sx-nebulus-agent: owner\r\n", with_key(key)); // nobody is who a header says
    client_send(&c, w, "POST", COMPLETIONS, got, BODY("good", "hi", ""));
    client_finish(&c, 403);
    assert_non_null(strstr(c.got, "\"code\":\"denied\""));
    assert_non_null(agents_rotate(w->s.agents, "owner", false, 1, key, &e));
    client_send(&c, w, "POST", COMPLETIONS, with_key(key), BODY("good", "hi", ""));
    client_finish(&c, 200);
}

static void test_agents_over_http(void **state) {
    struct world *w = *state;
    expect(w, "/nebulus/v1/agents", "{\"name\":\"ann\",\"groups\":[\"research\"]}", 200, "\"key\":\"neb_");
    expect(w, "/nebulus/v1/agents", "{\"name\":\"ann\"}", 400, "there is, or was");
    expect(w, "/nebulus/v1/agents", "{\"name\":\"sub\",\"parent\":\"none\"}", 404, "no agent 'none'");
    expect(w, "/nebulus/v1/agents", "{\"name\":5}", 400, "\"param\":\"name\"");
    expect(w, "/nebulus/v1/agents", "{\"name\":\"sub\",\"groups\":[1]}", 400, "\"param\":\"groups\"");
    expect(w, "/nebulus/v1/agents/ann", "", 200, "\"state\":\"active\"");
    expect(w, "/nebulus/v1/agents/a%20b", "", 404, "no agent 'a b'");
    expect(w, "/nebulus/v1/agents/ann/rotate", "{}", 200, "\"key\":\"neb_");
    expect(w, "/nebulus/v1/agents/ann/rename", "{}", 400, "revoked (NAME/revoke)");
    expect(w, "/nebulus/v1/agents/none/revoke", "{}", 404, "no agent 'none'");
    expect(w, "/nebulus/v1/agents/ann/revoke", "{}", 200, "\"state\":\"revoked\"");
    expect(w, "/nebulus/v1/agents", "", 200, "\"name\":\"ann\"");
}

static void test_answers(void **state) {
    struct world *w = *state;
    expect(w, COMPLETIONS, BODY("good", "hi", ""), 200, "\"text\":\"hello\"");
    expect(w, COMPLETIONS, "{\"prompt\":\"hi\"}", 200, "\"model\":\"good\""); // the only one that is loaded
    expect(w, COMPLETIONS, BODY("good", "hi", ",\"stream\":true"), 200, "data: [DONE]");
    expect(w, COMPLETIONS, BODY("good", "hi", ",\"seed\":77"), 200, "\"seed\":77");
    expect(w, COMPLETIONS, BODY("good", "refuse", ""), 400, "context_length_exceeded");
    expect(w, COMPLETIONS, BODY("good", "refuse", ",\"stream\":true"), 400, "context_length_exceeded");
    expect(w, COMPLETIONS, BODY("good", "echo", ""), 400, "limit_exceeded");
    expect(w, COMPLETIONS, BODY("good", "hi", ",\"n\":2"), 400, "\"param\":\"n\"");
    expect(w, COMPLETIONS, BODY("none", "hi", ""), 404, "model_not_found");
    expect(w, COMPLETIONS, BODY("bad", "hi", ""), 503, "damaged");
    expect(w, COMPLETIONS, BODY("bad", "hi", ""), 503, "x-should-retry: false\r\n"); // it is given up
    expect(w, COMPLETIONS, "{", 400, "not valid JSON");
    expect(w, "/v1/models", "", 200, "\"id\":\"good\"");
    expect(w, "/v1/models/go%6Fd", "", 200, "\"id\":\"good\"");
    expect(w, "/v1/models/none", "", 404, "model_not_found");
    expect(w, "/nebulus/v1/status", "", 200, "\"state\":\"failed\"");
    expect(w, "/metrics", "", 200, "nebulus_requests_total{route=\"/v1/completions\",status=\"503\"} 2\n");
    expect(w, "/metrics", "", 200, "nebulus_completion_tokens_total 8\n");
    expect(w, "/metrics", "", 200, "nebulus_requests_active 0\n");
}

static void test_the_worker_dies(void **state) {
    struct world *w = *state;
    struct client c;
    client_send(&c, w, "POST", COMPLETIONS, NULL, BODY("good", "die", ""));
    client_finish(&c, 503);
    assert_non_null(strstr(c.got, "worker_failed"));
    assert_null(strstr(c.got, "x-should-retry"));
    client_send(&c, w, "POST", COMPLETIONS, NULL, BODY("good", "die", ",\"stream\":true"));
    client_finish(&c, 200);
    assert_non_null(strstr(c.got, "hel"));
    assert_non_null(strstr(c.got, "data: {\"error\":{"));
    assert_null(strstr(c.got, "[DONE]"));
    assert_non_null(strstr(c.got, "\r\n0\r\n\r\n"));              // ended in good order
    expect(w, COMPLETIONS, BODY("good", "hi", ""), 200, "hello"); // by the next worker
}

static void test_the_client_leaves(void **state) {
    struct world *w = *state;
    struct client c;
    struct engine_status status;
    for (int streamed = 0; streamed < 2; streamed++) {
        client_send(&c, w, "POST", COMPLETIONS, NULL,
                    streamed ? BODY("good", "hold", ",\"stream\":true") : BODY("good", "hold", ""));
        while (!w->s.metrics.active || !models_find(w->s.models, "good")) pump(&c);
        if (streamed) client_until(&c, "hel");
        engine_get_status(models_find(w->s.models, "good")->engine, &status);
        assert_int_equal(status.requests, 1);
        while (status.state != ENGINE_READY) {
            pump(&c);
            engine_get_status(models_find(w->s.models, "good")->engine, &status);
        }
        close(c.fd);
        while (w->s.metrics.active) pump(&c);
        do {
            pump(&c);
            engine_get_status(models_find(w->s.models, "good")->engine, &status);
        } while (status.stats.requests != streamed + 1); // the worker was told
    }
    assert_int_equal(w->s.metrics.cancelled, 2);
}

static void test_load_and_stop(void **state) {
    struct world *w = *state;
    struct client c, stop;
    expect(w, "/nebulus/v1/load", "{\"model\":\"good\"}", 200, "\"state\":\"ready\",\"model\":{\"name\":\"good\"");
    expect(w, "/nebulus/v1/load", "{\"model\":\"bad\"}", 200, "{\"error\":{\"message\":\"damaged\"");
    expect(w, "/nebulus/v1/load", "{\"model\":\"none\"}", 404, "model_not_found");
    expect(w, "/nebulus/v1/load", "{\"model\":\"/none.gguf\"}", 404, "cannot read");
    expect(w, "/nebulus/v1/load", "{\"model\":\"x/good.gguf\"}", 400, "absolute path");
    expect(w, "/nebulus/v1/load", "{\"model\":5}", 400, "\"param\":\"model\"");
    expect(w, "/nebulus/v1/load", "[]", 400, "JSON object");
    client_send(&c, w, "POST", "/nebulus/v1/load", NULL, "{\"model\":\"slow\"}");
    client_until(&c, "\"progress\":0.5");
    client_send(&stop, w, "POST", "/nebulus/v1/stop", NULL, "{\"model\":\"slow\"}");
    client_finish(&stop, 200);
    client_finish(&c, 200);
    assert_non_null(strstr(c.got, "was stopped"));
    expect(w, "/nebulus/v1/stop", "{\"model\":\"slow\"}", 404, "model_not_found");
    client_send(&c, w, "POST", COMPLETIONS, NULL, BODY("good", "hold", ",\"stream\":true"));
    client_until(&c, "hel");
    expect(w, "/nebulus/v1/stop", "{\"model\":\"good\"}", 200, "\"stopped\":\"good\"");
    client_finish(&c, 200);
    assert_non_null(strstr(c.got, "data: {\"error\":{"));
}

static void test_making_room(void **state) { // for two models
    struct world *w = *state;
    struct client busy, busier;
    expect(w, COMPLETIONS, BODY("good", "hi", ""), 200, "hello");
    expect(w, COMPLETIONS, BODY("good2", "hi", ""), 200, "hello");
    expect(w, COMPLETIONS, BODY("good", "hi", ""), 200, "hello");
    expect(w, COMPLETIONS, BODY("good3", "hi", ""), 200, "hello");
    assert_non_null(models_find(w->s.models, "good"));
    assert_null(models_find(w->s.models, "good2")); // was idle for longest
    client_send(&busy, w, "POST", COMPLETIONS, NULL, BODY("good", "hold", ",\"stream\":true"));
    client_until(&busy, "hel");
    expect(w, COMPLETIONS, BODY("good2", "hi", ""), 200, "hello"); // takes the place of good3, used later but idle
    assert_non_null(models_find(w->s.models, "good"));
    client_send(&busier, w, "POST", COMPLETIONS, NULL, BODY("good2", "hold", ",\"stream\":true"));
    client_until(&busier, "hel");
    expect(w, COMPLETIONS, BODY("good3", "hi", ""), 429, "retry-after: 1");
    close(busy.fd);
    close(busier.fd);
}

// The loop has no time for the files beside the models: opening this one would wait for ever.
static void test_listing_opens_no_sidecar(void **state) {
    struct world *w = *state;
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/good.json", w->dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect(w, "/v1/models", "", 200, "\"id\":\"good\"");
    expect(w, "/v1/models/good", "", 200, "\"id\":\"good\"");
    unlink(path);
}

// What is no model at all costs none of the loaded ones; a model that has failed goes first.
static void test_who_makes_room(void **state) {
    struct world *w = *state;
    char body[PATH_SIZE + 64];
    expect(w, COMPLETIONS, BODY("good", "hi", ""), 200, "hello");
    expect(w, COMPLETIONS, BODY("good2", "hi", ""), 200, "hello");
    snprintf(body, sizeof body, "{\"model\":\"%s/junk.gguf\"}", w->dir);
    expect(w, "/nebulus/v1/load", body, 400, "not a GGUF file");
    expect(w, "/nebulus/v1/load", "{\"model\":\"junk\"}", 400, "not a GGUF file");
    expect(w, COMPLETIONS, BODY("junk", "hi", ""), 400, "not a GGUF file");
    assert_non_null(models_find(w->s.models, "good"));
    assert_non_null(models_find(w->s.models, "good2"));
    expect(w, COMPLETIONS, BODY("bad", "hi", ""), 503, "damaged"); // takes the place of good
    expect(w, COMPLETIONS, BODY("good3", "hi", ""), 200, "hello");
    assert_non_null(models_find(w->s.models, "good2")); // although bad was used later
    assert_null(models_find(w->s.models, "bad"));
}

// Requests that a model's handle has.
static size_t handed_over(const struct world *w, const char *model) {
    struct engine_status status = {.requests = 0};
    const struct model *m = models_find(w->s.models, model);
    if (m) engine_get_status(m->engine, &status);
    return status.requests;
}

static void test_stopped_before_it_was_ready(void **state) {
    struct world *w = *state;
    struct client c[3];
    for (size_t i = 0; i < 3; i++) client_send(&c[i], w, "POST", COMPLETIONS, NULL, BODY("slow", "hi", ""));
    while (handed_over(w, "slow") < 3) pump(&c[0]); // each waits for its record first
    expect(w, "/nebulus/v1/stop", "{\"model\":\"slow\"}", 200, "slow");
    for (size_t i = 0; i < 3; i++) client_finish(&c[i], 499);
    assert_int_equal(w->s.metrics.active, 0);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "worker")) fake_worker();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_may_ask, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_route_without_a_key_that_holds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_agents_may_call, setup, teardown),
        cmocka_unit_test_setup_teardown(test_agents_over_http, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_worker_dies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_client_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_load_and_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_making_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_listing_opens_no_sidecar, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_makes_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stopped_before_it_was_ready, setup, teardown),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// A node and a hand-made other side with a member's key that says what it likes, or with a stranger's.
#include "cluster/peers_world.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>

enum { SILENT_ONES = 40, FLOOD = 60000 };

struct raw {
    struct bufferevent *bev;
    bool connected, closed;
};

static void raw_event(struct bufferevent *bev, short what, void *arg) {
    struct raw *r = arg;
    (void)bev;
    if (what & BEV_EVENT_CONNECTED)
        r->connected = true;
    else
        r->closed = true;
}

static void raw_read(struct bufferevent *bev, void *arg) { (void)bev, (void)arg; } // raw_hear looks into its buffer

// From 127.0.x.y
static int connect_from(unsigned host, uint16_t port) {
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + host)},
                       a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (host != 1) assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static int connect_to(uint16_t port) { return connect_from(1, port); }

static void raw_start(struct world *w, struct raw *r, struct node *as, const struct node *to, enum tls_use use) {
    struct err e;
    *r = (struct raw){.bev = NULL};
    SSL *ssl = tls_client(as->key.tls, use, to->key.pin, &e);
    assert_non_null(ssl);
    r->bev = tls_bufferevent(w->base, connect_to(to->port), ssl, false, &e);
    assert_non_null(r->bev);
    bufferevent_setcb(r->bev, raw_read, NULL, raw_event, r);
    assert_int_equal(bufferevent_enable(r->bev, EV_READ | EV_WRITE), 0);
}

static void raw_open(struct world *w, struct raw *r, struct node *as, const struct node *to) {
    raw_start(w, r, as, to, TLS_CONTROL);
    RUN_UNTIL(w, r->connected || r->closed);
}

static void raw_close(struct raw *r) {
    if (r->bev) bufferevent_free(r->bev);
    r->bev = NULL;
}

static void raw_write(struct raw *r, size_t length, const char *text) {
    uint8_t head[FRAME_HEAD];
    for (int i = 0; i < FRAME_HEAD; i++) head[i] = (uint8_t)(length >> (8 * i));
    bufferevent_write(r->bev, head, sizeof head);
    bufferevent_write(r->bev, text, strlen(text));
}

static void raw_say(struct raw *r, const char *text) { raw_write(r, strlen(text), text); }

static void raw_hello(struct raw *r, const struct node *as, unsigned boot, json_int_t lost) {
    char text[400];
    snprintf(text, sizeof text,
             "{\"t\":\"peer.hello\",\"version\":1,\"id\":\"%s\",\"name\":\"raw\",\"boot\":%u,\"lost\":%lld,"
             "\"about\":{\"is\":\"raw\"}}",
             as->id, boot, (long long)lost);
    raw_say(r, text);
}

// The next message of a type; others are dropped. Returns its number, if it has one.
static json_int_t raw_hear(struct world *w, struct raw *r, const char *type, const char *number) {
    struct evbuffer *in = bufferevent_get_input(r->bev);
    struct err e = {.code = ERR_NONE};
    for (;;) {
        json_t *msg = NULL;
        size_t used = 0;
        RUN_UNTIL(w, evbuffer_get_length(in) || r->closed);
        size_t n = evbuffer_get_length(in);
        if (!n) fail_msg("closed before %s came", type);
        int rc = frame_take((const char *)evbuffer_pullup(in, -1), n, LIMIT_PEER_MESSAGE, &msg, &used, &e);
        assert_true(rc >= 0);
        if (!rc) assert_int_equal(event_base_loop(w->base, EVLOOP_ONCE), 0);
        evbuffer_drain(in, used);
        bool found = rc && !strcmp(json_string_value(json_object_get(msg, "t")), type);
        json_int_t value = json_integer_value(json_object_get(msg, number));
        json_decref(msg);
        if (found) return value;
    }
}

static void know_bob(struct world *w) { // the id of ada is smaller than bob's, that of cyd is greater
    fixture_add(&w->n[0], &w->n[1], "");
    fixture_add(&w->n[2], &w->n[1], "");
}

static struct member *bob_at(const struct node *n, const struct world *w) {
    return peers_member_of(n->p, w->n[1].key.pin);
}

// Up with a hand-made bob; returns the link's number.
static json_int_t come_up(struct world *w, struct raw *r, unsigned boot, json_int_t lost) {
    struct node *a = &w->n[0], *b = &w->n[1];
    unsigned ups = a->ups;
    raw_open(w, r, b, a);
    raw_hello(r, b, boot, lost);
    json_int_t link = raw_hear(w, r, "peer.up", "link");
    RUN_UNTIL(w, a->ups == ups + 1);
    return link;
}

// ---------------------------------------------------------------- greeting
static void test_smaller_id_decides(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0], *b = &w->n[1];
    struct raw r;
    know_bob(w);
    raw_open(w, &r, b, a);
    assert_int_equal(raw_hear(w, &r, "peer.hello", "version"), LINKMSG_VERSION);
    assert_int_equal(a->ups, 0);
    raw_hello(&r, b, 1, 0);
    assert_true(raw_hear(w, &r, "peer.up", "link") > 0);
    raw_say(&r, "{\"t\":\"peer.beat\",\"n\":77}");
    assert_int_equal(raw_hear(w, &r, "peer.echo", "n"), 77);
    json_int_t beat = raw_hear(w, &r, "peer.beat", "n");
    raw_say(&r, "{\"t\":\"peer.echo\",\"n\":9000000}"); // of no beat: no measurement
    raw_say(&r, "{\"t\":\"test\",\"n\":1}");
    RUN_UNTIL(w, a->messages);
    assert_int_equal(bob_at(a, w)->pub.rtt_ns, 0);
    char echo[64];
    snprintf(echo, sizeof echo, "{\"t\":\"peer.echo\",\"n\":%lld}", (long long)beat);
    raw_say(&r, echo);
    raw_say(&r, "{\"t\":\"test\",\"n\":2}");
    RUN_UNTIL(w, a->messages == 2);
    assert_true(bob_at(a, w)->pub.rtt_ns > 0);
    raw_close(&r);
    RUN_UNTIL(w, a->downs == 1); // at once: silence would take a minute
}

static void test_larger_id_waits(void **state) {
    struct world *w = *state;
    struct node *b = &w->n[1], *c = &w->n[2];
    struct raw r;
    know_bob(w);
    raw_open(w, &r, b, c);
    raw_hear(w, &r, "peer.hello", "version");
    raw_hello(&r, b, 1, 0);
    const struct member *m = bob_at(c, w);
    RUN_UNTIL(w, m->controls && m->controls->state == CONTROL_GREETED);
    assert_int_equal(c->ups, 0);
    raw_say(&r, "{\"t\":\"peer.up\",\"link\":5}");
    RUN_UNTIL(w, c->ups == 1);
    raw_close(&r);
    RUN_UNTIL(w, c->downs == 1);
    raw_open(w, &r, b, c);
    json_int_t lost = raw_hear(w, &r, "peer.hello", "lost"); // tells what it saw end
    assert_int_equal(lost, 5);
    raw_close(&r);
}

static void test_which_link_stays(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0], *b = &w->n[1];
    struct raw first, second;
    know_bob(w);
    json_int_t link = come_up(w, &first, 1, 0);
    raw_open(w, &second, b, a); // the same run of bob, which has not lost the first
    raw_hello(&second, b, 1, 0);
    raw_hear(w, &second, "peer.refuse", "msg");
    raw_close(&second);
    raw_say(&first, "{\"t\":\"test\",\"n\":1}");
    RUN_UNTIL(w, a->messages == 1);
    assert_int_equal(a->downs, 0);
    link = come_up(w, &second, 1, link); // it has lost the first
    assert_int_equal(a->downs, 1);
    RUN_UNTIL(w, first.closed);
    raw_close(&first);
    come_up(w, &first, 2, 0); // it has been started anew
    assert_int_equal(a->downs, 2);
    assert_non_null(strstr(a->why.msg, "new one replaces it"));
    raw_close(&first);
    raw_close(&second);
    assert_true(link > 0);
}

static void test_newer_greeting_replaces_older(void **state) {
    struct world *w = *state;
    struct raw first, second;
    know_bob(w);
    raw_open(w, &first, &w->n[1], &w->n[0]);
    come_up(w, &second, 1, 0);
    RUN_UNTIL(w, first.closed);
    assert_int_equal(w->n[0].downs, 0);
    raw_close(&first);
    raw_close(&second);
}

// ---------------------------------------------------------------- faults
static void expect_fault(struct world *w, struct raw *r, const struct node *n) {
    struct member *m = bob_at(n, w);
    RUN_UNTIL(w, r->closed && !m->controls);
    assert_non_null(strstr(m->pub.why.msg, "breaks the protocol"));
    assert_true(m->barred_ns > 0);
    m->barred_ns = 0;
    raw_close(r);
}

static void test_faults_before_up(void **state) {
    static const char *const texts[] = {"",
                                        "garbage",
                                        "[]",
                                        "{\"t\":1,\"t\":1}",
                                        "{\"t\":\"test\"}",
                                        "{\"t\":\"peer.beat\",\"n\":1}",
                                        "{\"t\":\"peer.up\",\"link\":1}",
                                        "{\"t\":\"peer.hello\",\"version\":1}",
                                        "{\"t\":\"peer.hello\",\"version\":2}",
                                        "{\"t\":\"peer.\xff\"}"};
    struct world *w = *state;
    struct node *a = &w->n[0], *b = &w->n[1], *c = &w->n[2];
    struct raw r;
    know_bob(w);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        raw_open(w, &r, b, a);
        raw_say(&r, texts[i]);
        expect_fault(w, &r, a);
    }
    raw_open(w, &r, b, a);
    raw_write(&r, LIMIT_PEER_HELLO + 1, "");
    expect_fault(w, &r, a);
    raw_open(w, &r, b, c);
    raw_hello(&r, b, 1, 0);
    raw_hello(&r, b, 1, 0);
    expect_fault(w, &r, c);
    raw_open(w, &r, b, c);
    raw_hello(&r, b, 1, 0);
    raw_say(&r, "{\"t\":\"test\"}"); // before its word
    expect_fault(w, &r, c);
    assert_int_equal(a->ups + c->ups, 0);
}

static void test_faults_when_up(void **state) {
    static const char *const texts[] = {"garbage", "[1]", "{\"t\":\"peer.up\",\"link\":1}", "{\"t\":\"peer.new\"}",
                                        "{\"t\":\"peer.refuse\",\"code\":\"busy\",\"msg\":\"\"}"};
    struct world *w = *state;
    struct node *a = &w->n[0];
    struct raw r;
    know_bob(w);
    for (unsigned i = 0; i <= sizeof texts / sizeof *texts; i++) {
        come_up(w, &r, i + 1, 0);
        raw_say(&r, "{\"t\":\"test\",\"n\":1}"); // what came before still counts
        if (i < sizeof texts / sizeof *texts)
            raw_say(&r, texts[i]);
        else
            raw_write(&r, LIMIT_PEER_MESSAGE + 1, "");
        raw_say(&r, "{\"t\":\"test\",\"n\":2}");
        expect_fault(w, &r, a);
        RUN_UNTIL(w, a->downs == i + 1);
        assert_non_null(strstr(a->why.msg, "breaks the protocol"));
        assert_int_equal(a->messages, i + 1);
    }
}

static void test_left_alone_after_a_fault(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0];
    struct raw r;
    know_bob(w);
    come_up(w, &r, 1, 0);
    raw_say(&r, "garbage");
    RUN_UNTIL(w, a->downs);
    raw_close(&r);
    struct member *m = bob_at(a, w);
    m->barred_ns = UINT64_MAX;
    raw_open(w, &r, &w->n[1], a);
    RUN_UNTIL(w, r.closed);
    raw_close(&r);
    assert_int_equal(a->ups, 1);
    m->barred_ns = clock_mono_ns(); // the time is over
    come_up(w, &r, 1, 0);
    raw_close(&r);
}

// A fault gives one line, and nothing in it drives a terminal.
static void test_log_line(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0], *b = &w->n[1];
    char text[2000] = "", path[] = "/tmp/nebulus-log-XXXXXX";
    struct err e;
    struct raw r;
    assert_int_equal(peers_add(a->p, b->id, "b\033[2Job", b->key.pin, "", &e), 0);
    come_up(w, &r, 1, 0);
    int log = mkstemp(path), stderr_was = dup(STDERR_FILENO);
    assert_true(log >= 0 && stderr_was >= 0 && dup2(log, STDERR_FILENO) >= 0);
    raw_say(&r, "{\"t\":\"peer.\\u001b[2J\"}");
    RUN_UNTIL(w, a->downs);
    assert_int_equal(dup2(stderr_was, STDERR_FILENO), STDERR_FILENO);
    assert_true(pread(log, text, sizeof text - 1, 0) > 0);
    const char *line = strchr(text, '\n');
    assert_non_null(line);
    assert_int_equal(line[1], 0);
    assert_null(strchr(text, '\033'));
    assert_non_null(strstr(text, "breaks the protocol"));
    assert_null(strchr(bob_at(a, w)->pub.why.msg, '\033'));
    close(log);
    close(stderr_was);
    unlink(path);
    raw_close(&r);
}

static void test_flood(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0], *b = &w->n[1], *c = &w->n[2];
    struct raw r;
    know_bob(w);
    fixture_add(a, c, "");
    fixture_add(c, a, a->address);
    RUN_UNTIL(w, fixture_is_up(c, a) && fixture_is_up(a, c));
    come_up(w, &r, 1, 0);
    for (int i = 0; i < FLOOD; i++) raw_say(&r, "{\"t\":\"test\",\"n\":0}");
    RUN_UNTIL(w, a->messages);
    a->echo = true;
    json_t *msg = json_pack("{s:s, s:i}", "t", "test", "n", 1);
    assert_int_equal(peers_send(c->p, peers_find(c->p, a->id), msg, NULL), 0);
    json_decref(msg);
    RUN_UNTIL(w, c->messages == 1);
    assert_true(a->messages < FLOOD); // others have their turn in between
    a->echo = false;
    RUN_UNTIL(w, a->messages == FLOOD + 1);
    assert_int_equal(a->downs, 0);
    assert_int_equal(b->ups, 0);
    raw_close(&r);
}

// ---------------------------------------------------------------- time and number
static void test_silence_before_up(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0];
    struct peers_timing t = fixture_timing;
    struct raw r;
    char byte;
    know_bob(w);
    raw_open(w, &r, &w->n[1], a); // shakes hands and says nothing
    t.handshake = 50;
    peers_set_timing(a->p, &t);
    int fd = connect_to(a->port); // does not even that
    assert_int_equal(evutil_make_socket_nonblocking(fd), 0);
    RUN_UNTIL(w, a->p->incoming);
    RUN_UNTIL(w, !a->p->incoming);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    raw_close(&r);
    raw_open(w, &r, &w->n[1], a);
    RUN_UNTIL(w, r.closed);
    raw_close(&r);
    close(fd);
    assert_int_equal(a->ups, 0);
}

static void test_silence_when_up(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0];
    struct peers_timing t = fixture_timing;
    struct raw r;
    know_bob(w);
    t.silent = 100;
    peers_set_timing(a->p, &t);
    come_up(w, &r, 1, 0);
    RUN_UNTIL(w, a->downs);
    assert_non_null(strstr(a->why.msg, "silent"));
    raw_close(&r);
}

// The time is over, but this process may just have been paused: what waits to be read decides.
static void test_doubt(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0];
    struct raw r;
    know_bob(w);
    come_up(w, &r, 1, 0);
    const struct control *c = bob_at(a, w)->link;
    event_active(c->deadline, EV_TIMEOUT, 0);
    assert_int_equal(event_base_loop(w->base, EVLOOP_NONBLOCK), 0);
    assert_int_equal(a->downs, 0);
    RUN_UNTIL(w, a->downs); // nothing came
    assert_non_null(strstr(a->why.msg, "silent"));
    raw_close(&r);
}

static void test_many_silent_ones(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0];
    int fds[SILENT_ONES], closed = 0;
    struct raw r;
    char byte;
    know_bob(w);
    for (int i = 0; i < SILENT_ONES; i++) {
        fds[i] = connect_to(a->port);
        assert_int_equal(evutil_make_socket_nonblocking(fds[i]), 0);
    }
    come_up(w, &r, 1, 0); // they keep nobody out
    unsigned count = 0;
    for (const struct incoming *c = a->p->incoming; c; c = c->next) count++;
    assert_true(count <= LIMIT_PEER_HANDSHAKES);
    for (int i = 0; i < SILENT_ONES; i++) {
        closed += recv(fds[i], &byte, 1, 0) == 0;
        close(fds[i]);
    }
    assert_true(closed >= SILENT_ONES - (int)LIMIT_PEER_HANDSHAKES);
    raw_close(&r);
}

#ifdef __linux__ // elsewhere there is one address only
static bool is_cut(int fd) {
    char byte;
    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

static unsigned accepted(const struct node *n) {
    unsigned count = 0;
    for (const struct incoming *c = n->p->incoming; c; c = c->next) count++;
    return count;
}

// One address that comes again and again takes only its own places.
static void test_a_crowd_of_one_address(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0];
    int fds[SILENT_ONES], slow = connect_to(a->port);
    unsigned cut = 0;
    RUN_UNTIL(w, accepted(a) == 1);
    for (int i = 0; i < SILENT_ONES; i++) fds[i] = connect_from(2, a->port);
    while (cut < SILENT_ONES + 1 - LIMIT_PEER_HANDSHAKES && !w->late) {
        assert_int_equal(event_base_loop(w->base, EVLOOP_NONBLOCK), 0);
        for (cut = 0; cut < SILENT_ONES && is_cut(fds[cut]);) cut++; // the oldest
    }
    assert_false(is_cut(slow));
    assert_int_equal(accepted(a), LIMIT_PEER_HANDSHAKES);
    for (int i = 0; i < SILENT_ONES; i++) close(fds[i]);
    close(slow);
}

// Strangers from everywhere do not push a member out that comes back, slowly and with several connections.
static void test_a_crowd_of_strangers(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0];
    int fds[SILENT_ONES], slow[3];
    struct raw r;
    know_bob(w);
    come_up(w, &r, 1, 0);
    for (int i = 0; i < 3; i++) slow[i] = connect_to(a->port);
    RUN_UNTIL(w, accepted(a) == 3);
    for (int i = 0; i < SILENT_ONES; i++) fds[i] = connect_from(2 + (unsigned)i, a->port);
    RUN_UNTIL(w, is_cut(fds[SILENT_ONES - LIMIT_PEER_HANDSHAKES + 2]));
    assert_false(is_cut(fds[SILENT_ONES - 1]));
    for (int i = 0; i < 3; i++) assert_false(is_cut(slow[i]));
    for (int i = 0; i < SILENT_ONES; i++) close(fds[i]);
    for (int i = 0; i < 3; i++) close(slow[i]);
    raw_close(&r);
}
#endif

// A message that comes byte by byte is no silence, and ends the link all the same.
static void test_dripping_message(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0];
    struct peers_timing t = fixture_timing;
    struct raw r;
    know_bob(w);
    come_up(w, &r, 1, 0);
    t.frame = 50;
    peers_set_timing(a->p, &t);
    raw_write(&r, 1000, "");
    while (!a->downs && !w->late) {
        bufferevent_write(r.bev, "x", 1);
        assert_int_equal(event_base_loop(w->base, EVLOOP_NONBLOCK), 0);
        usleep(2000);
    }
    assert_non_null(strstr(a->why.msg, "too long"));
    raw_close(&r);
}

// What answers is no node.
static void test_dialling_the_mute(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0], *b = &w->n[1];
    struct peers_timing t = fixture_timing;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    char address[PEERS_ADDRESS];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    assert_int_equal(listen(fd, 5), 0);
    snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(at.sin_port));
    t.handshake = 50;
    peers_set_timing(a->p, &t);
    fixture_add(a, b, address);
    RUN_UNTIL(w, strstr(bob_at(a, w)->pub.why.msg, "no answer"));
    int got = accept(fd, NULL, NULL); // or closes, in the midst
    close(got);
    close(fd);
    RUN_UNTIL(w, strstr(bob_at(a, w)->pub.why.msg, "refused"));
    assert_int_equal(bob_at(a, w)->pub.why.code, ERR_UNREACHABLE);
}

// ---------------------------------------------------------------- other uses, and strangers
static void test_data(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0], *b = &w->n[1];
    struct raw r;
    struct err e;
    know_bob(w);
    raw_start(w, &r, b, a, TLS_DATA);
    RUN_UNTIL(w, a->datas && r.connected);
    assert_int_equal(fcntl(a->fd, F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(tls_write(a->ssl, "!", 1, &e), 0); // the session goes on
    RUN_UNTIL(w, evbuffer_get_length(bufferevent_get_input(r.bev)) == 1);
    raw_close(&r);
    assert_int_equal(a->ups, 0);
}

static void test_strangers(void **state) {
    struct world *w = *state;
    struct node *a = &w->n[0], *c = &w->n[2];
    struct raw r;
    know_bob(w);
    for (int use = 0; use < TLS_USES; use++) {
        raw_start(w, &r, c, a, (enum tls_use)use);
        if (use == TLS_PAIR)
            RUN_UNTIL(w, a->pairs && r.connected);
        else
            RUN_UNTIL(w, r.closed);
        raw_close(&r);
    }
    assert_int_equal(a->pairs, 1);
    assert_int_equal(a->datas + a->ups, 0);
}

static void free_in_callback(struct node *n, const struct peer *p) {
    (void)p;
    peers_free(n->p);
    n->p = NULL;
}

static void test_freeing_from_data_and_pair(void **state) {
    struct world *w = *state;
    struct raw r;
    know_bob(w);
    w->n[0].react = w->n[2].react = free_in_callback;
    raw_start(w, &r, &w->n[1], &w->n[0], TLS_DATA);
    RUN_UNTIL(w, !w->n[0].p);
    raw_close(&r);
    raw_start(w, &r, &w->n[1], &w->n[2], TLS_PAIR);
    RUN_UNTIL(w, !w->n[2].p);
    raw_close(&r);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {CASE(test_smaller_id_decides),
                                       CASE(test_larger_id_waits),
                                       CASE(test_which_link_stays),
                                       CASE(test_newer_greeting_replaces_older),
                                       CASE(test_faults_before_up),
                                       CASE(test_faults_when_up),
                                       CASE(test_left_alone_after_a_fault),
                                       CASE(test_log_line),
                                       CASE(test_flood),
                                       CASE(test_silence_before_up),
                                       CASE(test_silence_when_up),
                                       CASE(test_doubt),
                                       CASE(test_many_silent_ones),
#ifdef __linux__
                                       CASE(test_a_crowd_of_one_address),
                                       CASE(test_a_crowd_of_strangers),
#endif
                                       CASE(test_dripping_message),
                                       CASE(test_dialling_the_mute),
                                       CASE(test_data),
                                       CASE(test_strangers),
                                       CASE(test_freeing_from_data_and_pair)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Nodes with real sockets and keys, in one process and in several: links that come up, carry messages, and end.
#include "cluster/peers_world.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { MANY = 2000, LONG = 7 << 20 };

static struct node *ada(struct world *w) { return &w->n[0]; }
static struct node *bob(struct world *w) { return &w->n[1]; }
static struct node *cyd(struct world *w) { return &w->n[2]; }

static bool linked(const struct node *a, const struct node *b) { return fixture_is_up(a, b) && fixture_is_up(b, a); }

static const struct peer *at(const struct node *n, const struct node *other) { return peers_find(n->p, other->id); }

static void know_each_other(struct node *a, struct node *b, const char *address_of_b) {
    fixture_add(b, a, "");
    fixture_add(a, b, address_of_b);
}

static int send_number(struct node *n, const struct node *to, int number, const char *text, struct err *e) {
    json_t *msg = json_pack("{s:s, s:i, s:s}", "t", "test", "n", number, "text", text);
    n->calling = true;
    int rc = peers_send(n->p, at(n, to), msg, e);
    n->calling = false;
    json_decref(msg);
    return rc;
}

// ---------------------------------------------------------------- up, and what is known then
static void test_up(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    know_each_other(a, b, b->address);
    assert_false(at(a, b)->up);
    assert_int_equal(at(a, b)->why.code, ERR_NONE);
    RUN_UNTIL(w, linked(a, b) && at(a, b)->rtt_ns && at(b, a)->rtt_ns);
    assert_int_equal(a->ups, 1);
    assert_int_equal(b->ups, 1);
    const struct peer *p = peers_find(a->p, "bob");
    assert_ptr_equal(p, at(a, b));
    assert_ptr_equal(p, peers_of_pin(a->p, b->key.pin));
    assert_ptr_equal(p, peers_next(a->p, NULL));
    assert_null(peers_next(a->p, p));
    assert_null(peers_find(a->p, "cyd"));
    assert_null(peers_of_pin(a->p, cyd(w)->key.pin));
    assert_string_equal(json_string_value(json_object_get(p->hello, "is")), "bob");
    assert_true(p->since_ns > 0);
    assert_int_equal(p->why.code, ERR_NONE);
}

static void test_names_are_looked_up(void **state) {
    struct world *w = *state;
    char address[PEERS_ADDRESS];
    snprintf(address, sizeof address, "localhost:%u", bob(w)->port); // may be ::1 first, where nobody listens
    know_each_other(ada(w), bob(w), address);
    RUN_UNTIL(w, linked(ada(w), bob(w)));
}

static void test_both_dial(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    for (int round = 0; round < 20; round++) {
        a->ups = a->downs = b->ups = b->downs = 0;
        fixture_add(a, b, b->address);
        fixture_add(b, a, a->address);
        RUN_UNTIL(w, linked(a, b));
        for (int i = 1; i <= 50; i++) assert_int_equal(send_number(a, b, i, "", NULL), 0);
        b->messages = 0;
        RUN_UNTIL(w, b->messages == 50 && at(a, b)->rtt_ns && at(b, a)->rtt_ns);
        assert_int_equal(a->ups, 1);
        assert_int_equal(b->ups, 1);
        assert_int_equal(a->downs + b->downs, 0);
        assert_false(b->disordered);
        peers_remove(a->p, b->id, "end of the round");
        peers_remove(b->p, a->id, "end of the round");
        RUN_UNTIL(w, a->downs && b->downs);
    }
}

static void test_three(void **state) {
    struct world *w = *state;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            if (i != j) fixture_add(&w->n[i], &w->n[j], w->n[j].address);
    RUN_UNTIL(w, linked(ada(w), bob(w)) && linked(bob(w), cyd(w)) && linked(cyd(w), ada(w)));
    unsigned count = 0;
    for (const struct peer *p = NULL; (p = peers_next(bob(w)->p, p));) count++;
    assert_int_equal(count, 2);
    for (int i = 0; i < 3; i++) assert_int_equal(w->n[i].ups, 2);
    for (int i = 0; i < 3; i++) assert_int_equal(w->n[i].downs, 0);
}

// ---------------------------------------------------------------- messages
static void test_messages(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    struct err e;
    know_each_other(a, b, b->address);
    assert_int_equal(send_number(a, b, 1, "", &e), -1);
    assert_int_equal(e.code, ERR_UNREACHABLE);
    RUN_UNTIL(w, linked(a, b));
    b->echo = true;
    for (int i = 1; i <= MANY; i++) assert_int_equal(send_number(a, b, i, "some words", &e), 0);
    RUN_UNTIL(w, a->messages == MANY);
    assert_int_equal(b->messages, MANY);
    assert_false(a->disordered);
    assert_false(b->disordered);
    json_t *own = json_pack("{s:s, s:i}", "t", "peer.beat", "n", 1);
    assert_int_equal(peers_send(a->p, at(a, b), own, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    json_decref(own);
}

static void test_long_messages(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    struct err e;
    char *text = malloc(LIMIT_PEER_MESSAGE + 1);
    assert_non_null(text);
    memset(text, 'x', LIMIT_PEER_MESSAGE);
    text[LIMIT_PEER_MESSAGE] = 0;
    know_each_other(a, b, b->address);
    RUN_UNTIL(w, linked(a, b));
    assert_int_equal(send_number(a, b, 1, text, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    text[LONG] = 0;
    assert_int_equal(send_number(a, b, 1, text, &e), 0);
    RUN_UNTIL(w, b->messages == 1);
    assert_int_equal(b->longest, LONG);
    assert_int_equal(a->downs + b->downs, 0);
    free(text);
}

static void test_backlog(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    struct err e = {.code = ERR_NONE};
    char *text = malloc((1 << 20) + 1);
    assert_non_null(text);
    memset(text, 'x', 1 << 20);
    text[1 << 20] = 0;
    know_each_other(a, b, b->address);
    RUN_UNTIL(w, linked(a, b));
    int sent = 0;
    while (!send_number(a, b, sent + 1, text, &e)) sent++; // nothing leaves while the loop does not run
    free(text);
    assert_true(sent >= 8 && sent <= 10);
    assert_int_equal(e.code, ERR_UNREACHABLE);
    assert_false(at(a, b)->up);
    assert_int_equal(a->downs, 0);
    RUN_UNTIL(w, a->downs == 1);
    assert_non_null(strstr(a->why.msg, "does not take"));
    RUN_UNTIL(w, linked(a, b) && a->ups == 2 && b->ups == 2);
}

static void test_cut(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    struct err why;
    err_set(&why, ERR_INTERNAL, "a word was lost");
    know_each_other(a, b, b->address);
    peers_cut(a->p, at(a, b), &why); // not up yet
    RUN_UNTIL(w, linked(a, b));
    peers_cut(a->p, at(a, b), &why);
    assert_false(at(a, b)->up);
    assert_int_equal(a->downs, 0);
    RUN_UNTIL(w, a->downs == 1 && b->downs == 1);
    assert_non_null(strstr(a->why.msg, "a word was lost"));
    RUN_UNTIL(w, linked(a, b) && a->ups == 2 && b->ups == 2);
}

// ---------------------------------------------------------------- not up
static void test_wrong_key(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w), *c = cyd(w);
    struct err e;
    fixture_add(b, a, "");
    uint8_t pin[TLS_PIN] = {1, 2, 3};
    assert_int_equal(peers_add(a->p, b->id, "bob", pin, b->address, &e), 0);
    RUN_UNTIL(w, at(a, b)->why.code);
    assert_int_equal(at(a, b)->why.code, ERR_DENIED);
    assert_non_null(strstr(at(a, b)->why.msg, "another key than bob"));
    fixture_add(a, c, "");
    fixture_add(a, b, c->address); // the right key, another machine's address
    RUN_UNTIL(w, strstr(at(a, b)->why.msg, "cyd answers there"));
    fixture_add(a, b, a->address);
    RUN_UNTIL(w, strstr(at(a, b)->why.msg, "this node itself"));
    fixture_add(a, b, b->address);
    RUN_UNTIL(w, linked(a, b));
    assert_int_equal(a->ups, 1);
}

static void test_not_a_member_there(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    fixture_add(a, b, b->address);
    RUN_UNTIL(w, at(a, b)->why.code);
    assert_int_equal(at(a, b)->why.code, ERR_UNREACHABLE);
    assert_int_equal(a->ups + b->ups, 0);
    fixture_add(b, a, ""); // now it is
    RUN_UNTIL(w, linked(a, b));
}

static void test_two_names_of_one_key(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    struct err e;
    static const char id[] = "00000000000000000000000000000fff";
    fixture_add(b, a, "");
    assert_int_equal(peers_add(a->p, id, "bob", b->key.pin, b->address, &e), 0); // its id here is another
    RUN_UNTIL(w, peers_find(a->p, id)->why.code);
    const char *why = peers_find(a->p, id)->why.msg;
    if (!strstr(why, b->id)) fail_msg("%s", why);
    RUN_UNTIL(w, strstr(at(b, a)->why.msg, "refuses the link"));
    assert_int_equal(a->ups + b->ups, 0);
}

static void test_refused_members(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w), *c = cyd(w);
    struct err e;
    fixture_add(a, b, "");
    assert_int_equal(peers_add(a->p, a->id, "x", c->key.pin, "", &e), -1);
    assert_int_equal(peers_add(a->p, c->id, "x", a->key.pin, "", &e), -1);
    assert_non_null(strstr(e.msg, "this node itself"));
    assert_int_equal(peers_add(a->p, c->id, "x", b->key.pin, "", &e), -1);
    assert_non_null(strstr(e.msg, "same key as bob"));
    assert_int_equal(peers_add(a->p, "short", "x", c->key.pin, "", &e), -1);
    assert_int_equal(peers_add(a->p, c->id, "", c->key.pin, "", &e), -1);
    assert_int_equal(peers_add(a->p, c->id, "\xff", c->key.pin, "", &e), -1);
    static const char *const addresses[] = {"host", "host:0", ":1", "host:x", "host:65536", "::1:1"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        assert_int_equal(peers_add(a->p, c->id, "cyd", c->key.pin, addresses[i], &e), -1);
        assert_string_equal(e.param, "address");
    }
    for (unsigned i = 1; i < PEERS_MOST; i++) {
        char id[NODE_ID];
        uint8_t pin[TLS_PIN] = {0xEE, (uint8_t)i};
        snprintf(id, sizeof id, "%032x", 0x1000 + i);
        assert_int_equal(peers_add(a->p, id, "x", pin, "", &e), 0);
    }
    assert_int_equal(peers_add(a->p, c->id, "cyd", c->key.pin, "", &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    fixture_add(a, b, "127.0.0.1:1"); // known ones can still be changed
}

static void test_listening(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    struct err e;
    uint16_t port = 0;
    assert_int_equal(peers_listen(a->p, "127.0.0.1", b->port, &port, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_non_null(strstr(e.msg, "in use; choose another port"));
    assert_null(strchr(e.msg, '\n'));
    assert_int_equal(peers_listen(a->p, "192.0.2.1", 0, &port, &e), -1); // another machine's
    unsigned more = 1;
    if (!peers_listen(a->p, "::1", 0, &port, &e)) { // where there is IPv6
        char address[PEERS_ADDRESS];
        snprintf(address, sizeof address, "[::1]:%u", port);
        know_each_other(b, a, address);
        RUN_UNTIL(w, linked(a, b));
        more++;
    }
    while (!peers_listen(a->p, "127.0.0.1", 0, &port, &e)) {
        assert_int_not_equal(port, 0);
        more++;
    }
    assert_int_equal(more, LIMIT_PEER_LISTENERS);
    assert_int_equal(e.code, ERR_LIMIT);
}

// ---------------------------------------------------------------- changes
static void test_restart(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    know_each_other(a, b, b->address);
    for (unsigned round = 1; round <= 3; round++) {
        RUN_UNTIL(w, linked(a, b));
        uint16_t port = b->port;
        peers_free(b->p);
        b->ups = b->downs = 0;
        fixture_open(w->base, b, port);
        fixture_add(b, a, round == 2 ? a->address : "");
        RUN_UNTIL(w, a->downs == round);
    }
    RUN_UNTIL(w, linked(a, b));
    assert_int_equal(a->ups, 4);
}

static void test_changes_of_a_member(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w), *c = cyd(w);
    know_each_other(a, b, b->address);
    RUN_UNTIL(w, linked(a, b));
    fixture_add(a, b, "127.0.0.1:1"); // a link that works stays
    RUN_UNTIL(w, at(a, b)->rtt_ns);
    assert_int_equal(a->downs, 0);
    struct err e;
    a->calling = true; // from now on the key is cyd's
    assert_int_equal(peers_add(a->p, b->id, "bob", c->key.pin, "", &e), 0);
    a->calling = false;
    assert_false(at(a, b)->up);
    RUN_UNTIL(w, a->downs && b->downs);
    assert_non_null(strstr(a->why.msg, "key has been changed"));
    fixture_add(a, b, b->address);
    RUN_UNTIL(w, linked(a, b));
    assert_int_equal(a->ups, 2);
}

static void test_pauses_grow(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    struct err e;
    uint16_t port = b->port;
    peers_free(b->p); // nobody listens there
    fixture_add(a, b, b->address);
    struct member *m = peers_member_of(a->p, b->key.pin);
    assert_int_equal(m->dial.pause_ms, fixture_timing.pause_first);
    RUN_UNTIL(w, m->dial.pause_ms == 4 * fixture_timing.pause_first);
    assert_int_equal(m->pub.why.code, ERR_UNREACHABLE);
    assert_non_null(strstr(m->pub.why.msg, b->address));
    RUN_UNTIL(w, m->dial.pause_ms == fixture_timing.pause_most);
    fixture_open(w->base, b, port);
    fixture_add(b, a, "");
    RUN_UNTIL(w, linked(a, b));
    assert_int_equal(m->dial.pause_ms, fixture_timing.pause_most);
    m->pub.since_ns -= 3600 * NS_PER_S; // a link that lasted
    assert_int_equal(peers_add(b->p, a->id, "ada", (const uint8_t[TLS_PIN]){9}, "", &e), 0);
    RUN_UNTIL(w, a->downs);
    assert_int_equal(m->dial.pause_ms, 2 * fixture_timing.pause_first);
}

static void test_removal(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    know_each_other(a, b, b->address);
    RUN_UNTIL(w, linked(a, b));
    a->calling = true;
    peers_remove(a->p, b->id, "revoked by the admin");
    peers_remove(a->p, b->id, "twice");
    a->calling = false;
    assert_null(at(a, b));
    assert_int_equal(a->downs, 0);
    RUN_UNTIL(w, a->downs == 1 && b->downs == 1);
    assert_string_equal(a->why.msg, "revoked by the admin");
    assert_string_equal(a->down_id, b->id);
    fixture_add(a, b, b->address); // and back
    RUN_UNTIL(w, linked(a, b));
}

// At every stage of a connection, from either side.
static void test_removal_while_connecting(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    for (int rounds = 0; rounds < 24; rounds++) {
        know_each_other(a, b, rounds % 3 ? b->address : "localhost:1");
        for (int i = 0; i < rounds / 2; i++) assert_int_not_equal(event_base_loop(w->base, EVLOOP_NONBLOCK), -1);
        peers_remove(rounds % 2 ? a->p : b->p, rounds % 2 ? b->id : a->id, "now");
        for (int i = 0; i < 3; i++) assert_int_not_equal(event_base_loop(w->base, EVLOOP_NONBLOCK), -1);
        peers_remove(a->p, b->id, "now");
        peers_remove(b->p, a->id, "now");
    }
    know_each_other(a, b, b->address);
    RUN_UNTIL(w, linked(a, b));
}

// ---------------------------------------------------------------- callbacks that take the ground away
static void remove_it(struct node *n, const struct peer *p) {
    if (p) peers_remove(n->p, p->id, "from a callback");
    assert_true(!p || strlen(p->name) == 3); // still there
}

static void free_all(struct node *n, const struct peer *p) {
    n->react = NULL;
    peers_free(n->p);
    n->p = NULL;
    assert_true(!p || strlen(p->name) == 3);
}

static void test_removal_from_callbacks(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    b->react = remove_it; // in up
    know_each_other(a, b, b->address);
    RUN_UNTIL(w, a->downs);
    assert_null(at(b, a));
    b->react = NULL;
    b->messages = 0;
    fixture_add(b, a, "");
    RUN_UNTIL(w, linked(a, b));
    b->react = remove_it; // in message, with more of them in the buffer
    for (int i = 1; i <= 100; i++) assert_int_equal(send_number(a, b, i, "", NULL), 0);
    RUN_UNTIL(w, b->messages);
    RUN_UNTIL(w, b->downs == 2);
    assert_int_equal(b->messages, 1);
}

static void test_freeing_from_callbacks(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    know_each_other(a, b, b->address);
    b->react = free_all; // in up
    RUN_UNTIL(w, !b->p);
    fixture_open(w->base, b, b->port);
    fixture_add(b, a, "");
    RUN_UNTIL(w, linked(a, b));
    b->react = free_all; // in message
    for (int i = 1; i <= 100; i++) assert_int_equal(send_number(a, b, i, "", NULL), 0);
    RUN_UNTIL(w, !b->p);
    assert_int_equal(b->messages, 1);
    fixture_open(w->base, b, b->port);
    fixture_add(b, a, "");
    RUN_UNTIL(w, linked(a, b));
    b->react = free_all; // in down, that of a removed member
    peers_remove(b->p, a->id, "gone");
    RUN_UNTIL(w, !b->p);
    fixture_open(w->base, b, b->port);
}

// ---------------------------------------------------------------- other processes
struct child {
    pid_t pid;
    uint16_t port;
};

// bob's life in a process of its own.
static struct child start_bob(struct world *w) {
    struct child c;
    int ready[2];
    peers_free(bob(w)->p);
    bob(w)->p = NULL;
    assert_int_equal(pipe(ready), 0);
    c.pid = fork();
    assert_true(c.pid >= 0);
    if (!c.pid) {
        struct world mine = {.base = event_base_new()};
        alarm(100); // the end, should the parent fail
        mine.n[1] = *bob(w);
        fixture_open(mine.base, bob(&mine), 0);
        bob(&mine)->echo = true;
        fixture_add(bob(&mine), ada(w), "");
        if (write(ready[1], &bob(&mine)->port, sizeof(uint16_t)) != sizeof(uint16_t)) _exit(1);
        event_base_dispatch(mine.base);
        _exit(2);
    }
    assert_int_equal(read(ready[0], &c.port, sizeof c.port), sizeof c.port);
    close(ready[0]);
    close(ready[1]);
    snprintf(bob(w)->address, PEERS_ADDRESS, "127.0.0.1:%u", c.port);
    return c;
}

static void end_child(struct child c) {
    assert_int_equal(kill(c.pid, SIGKILL), 0);
    assert_int_equal(waitpid(c.pid, NULL, 0), c.pid);
}

static void test_killed(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    struct child c = start_bob(w);
    fixture_add(a, b, b->address);
    RUN_UNTIL(w, fixture_is_up(a, b));
    assert_int_equal(send_number(a, b, 1, "", NULL), 0);
    RUN_UNTIL(w, a->messages == 1);
    end_child(c);
    RUN_UNTIL(w, a->downs); // silence would take a minute here, and the test's patience is shorter than two of them
    assert_null(strstr(a->why.msg, "silent"));
}

static void test_stopped(void **state) {
    struct world *w = *state;
    struct node *a = ada(w), *b = bob(w);
    struct child c = start_bob(w);
    struct peers_timing t = fixture_timing;
    t.silent = PEERS_SILENT_MS;
    t.beat = PEERS_BEAT_MS;
    peers_set_timing(a->p, &t);
    fixture_add(a, b, b->address);
    RUN_UNTIL(w, fixture_is_up(a, b));
    assert_int_equal(kill(c.pid, SIGSTOP), 0);
    RUN_UNTIL(w, a->downs);
    assert_non_null(strstr(a->why.msg, "silent"));
    assert_int_equal(kill(c.pid, SIGCONT), 0);
    RUN_UNTIL(w, fixture_is_up(a, b));
    assert_int_equal(send_number(a, b, 1, "", NULL), 0);
    RUN_UNTIL(w, a->messages == 1);
    end_child(c);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {CASE(test_up),
                                       CASE(test_names_are_looked_up),
                                       CASE(test_both_dial),
                                       CASE(test_three),
                                       CASE(test_messages),
                                       CASE(test_long_messages),
                                       CASE(test_backlog),
                                       CASE(test_cut),
                                       CASE(test_wrong_key),
                                       CASE(test_not_a_member_there),
                                       CASE(test_two_names_of_one_key),
                                       CASE(test_refused_members),
                                       CASE(test_listening),
                                       CASE(test_restart),
                                       CASE(test_changes_of_a_member),
                                       CASE(test_pauses_grow),
                                       CASE(test_removal),
                                       CASE(test_removal_while_connecting),
                                       CASE(test_removal_from_callbacks),
                                       CASE(test_freeing_from_callbacks),
                                       CASE(test_killed),
                                       CASE(test_stopped)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Who may keep connections for KV rows, where more come than there are places for.
#include "base/limits.h"
#include "base/log.h"
#include "cluster/datalink.h"
#include "cluster/transfer_fixture.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { EACH = LIMIT_KV_CONNECTIONS_EACH, ALL = LIMIT_KV_CONNECTIONS, MOST = 2 * ALL };

static struct event_base *base;
static struct side side[SIDES];

struct guest {
    SSL *ssl;
    int fd, rc;
    atomic_bool done;
};
static struct guest guests[MOST];
static int n_guests;

static void *connect_guest(void *arg) {
    struct guest *g = arg;
    struct err why;
    atomic_bool stop = false;
    char byte;
    g->fd = datalink_dial("127.0.0.1", side[1].port, &stop, &why);
    g->rc = g->fd < 0 || tls_connect(g->ssl, g->fd, 0, &why) || tls_read(g->ssl, &byte, 1, &why);
    atomic_store(&g->done, true);
    return NULL;
}

// A connection as that node; returns its number.
static int come(const char *node) {
    struct guest *g = &guests[n_guests];
    struct err why;
    pthread_t thread;
    assert_true(n_guests < MOST);
    side[1].guise = node;
    *g = (struct guest){.ssl = tls_client(side[0].key.tls, TLS_DATA, side[1].key.pin, &why)};
    assert_non_null(g->ssl);
    assert_int_equal(pthread_create(&thread, NULL, connect_guest, g), 0);
    while (!atomic_load(&g->done)) {
        assert_true(event_base_loop(base, EVLOOP_NONBLOCK) >= 0);
        usleep(200);
    }
    pthread_join(thread, NULL);
    return n_guests++;
}

static bool is_in(int guest) { return !guests[guest].rc && !datalink_hung_up(guests[guest].fd); }

static int setup(void **arg) {
    (void)arg;
    n_guests = 0;
    base = event_base_new();
    if (!base) return -1;
    for (int i = 0; i < SIDES; i++) side_init(&side[i], side, i, base, 2, 1ull << 40);
    return 0;
}

static int teardown(void **arg) {
    (void)arg;
    for (int i = 0; i < n_guests; i++) tls_close(guests[i].ssl, guests[i].fd);
    for (int i = 0; i < SIDES; i++) side_close(&side[i]);
    if (event_base_loop(base, EVLOOP_NONBLOCK) < 0) return -1;
    event_base_free(base);
    return 0;
}

static void one_node_has_its_share(void **arg) {
    (void)arg;
    int other = come("other");
    for (int i = 0; i < EACH; i++) assert_true(is_in(come("greedy")));
    for (int more = 1; more <= 3; more++) {
        assert_true(is_in(come("greedy")));
        for (int i = 1; i < n_guests; i++) assert_int_equal(is_in(i), i > more); // its own oldest went
    }
    assert_true(is_in(other));
}

static void the_greedy_make_room(void **arg) {
    (void)arg;
    static const char *const nodes[] = {"a", "b", "c", "d"};
    for (int i = 0; i < ALL; i++) assert_true(is_in(come(nodes[i % 4])));
    assert_true(is_in(come("e")));
    assert_false(is_in(0)); // a's
    assert_true(is_in(come("a")));
    assert_false(is_in(1)); // b's
    assert_true(is_in(come("e")) && is_in(come("e")));
    assert_false(is_in(2) || is_in(3)); // of those that have most, the oldest
    assert_true(is_in(4) && is_in(5));
}

// Nobody gives way to a node that would then have more.
static void equal_shares_stay(void **arg) {
    (void)arg;
    char node[NODE_ID];
    for (int i = 0; i < ALL; i++) {
        snprintf(node, sizeof node, "%02d", i);
        assert_true(is_in(come(node)));
    }
    assert_false(is_in(come("00")));
    for (int i = 0; i < ALL; i++) assert_true(is_in(i));
}

int main(void) {
    log_set_level(LOG_ERROR); // refusals are what this is about
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_node_has_its_share, setup, teardown),
        cmocka_unit_test_setup_teardown(the_greedy_make_room, setup, teardown),
        cmocka_unit_test_setup_teardown(equal_shares_stay, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

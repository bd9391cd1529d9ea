// For tests: three nodes on one event loop.
#pragma once

#include "cluster/peers_fixture.h"

struct world {
    struct event_base *base;
    struct event *net; // a hang ends the test
    bool late;
    struct node n[3];
};

#define RUN_UNTIL(w, condition)                                                                                        \
    do {                                                                                                               \
        while (!(condition) && !(w)->late) assert_int_equal(event_base_loop((w)->base, EVLOOP_ONCE), 0);               \
        assert_false((w)->late);                                                                                       \
    } while (0)

static inline void fixture_late(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    ((struct world *)arg)->late = true;
}

static inline int fixture_setup(void **state) {
    static const char *const names[] = {"ada", "bob", "cyd"};
    struct world *w = calloc(1, sizeof *w);
    struct timeval most = {90, 0};
    assert_non_null(w);
    w->base = event_base_new();
    w->net = event_new(w->base, -1, 0, fixture_late, w);
    assert_int_equal(event_add(w->net, &most), 0);
    for (int i = 0; i < 3; i++) {
        struct node *n = &w->n[i];
        fixture_node_init(&n->key);
        snprintf(n->id, sizeof n->id, "%031d%x", 0, (unsigned)i + 10);
        snprintf(n->name, sizeof n->name, "%s", names[i]);
        n->fd = -1;
        fixture_open(w->base, n, 0);
    }
    *state = w;
    return 0;
}

static inline int fixture_teardown(void **state) {
    struct world *w = *state;
    for (int i = 0; i < 3; i++) {
        struct node *n = &w->n[i];
        peers_free(n->p);
        if (n->ssl) tls_close(n->ssl, n->fd);
        if (n->pair) bufferevent_free(n->pair);
        fixture_node_close(&n->key);
    }
    event_free(w->net);
    event_base_free(w->base);
    free(w);
    return 0;
}

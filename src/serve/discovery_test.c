// At which of the discovered addresses members that are down are looked for. The network and the cluster are made up.
#include "base/bytes.h"
#include "discover/discover.h"
#include "serve/cluster_internal.h"
#include "serve/discovery.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { PEERS = 2, PORT = 7421 };

static struct serve s;
static struct cluster cluster;
static struct roster roster;
static struct peer peers[PEERS];
static struct mdns_node heard[LIMIT_DISCOVERED];
static size_t n_heard;
static char own[ABOUT_CLUSTER];
static struct discovery *discovery;

// ---------------------------------------------------------------- the world
struct discover *discover_new(struct event_base *base, struct err *e) {
    (void)e;
    return (struct discover *)base; // only passed on
}

void discover_free(struct discover *d) { (void)d; }
void discover_count(const struct discover *d, struct mdns_counts *out) { (void)d, (void)out; }
bool discover_works(const struct discover *d) { return d; }

void discover_publish(struct discover *d, const struct about *about, uint16_t port, const struct multicast_filter *f) {
    (void)d, (void)about, (void)port, (void)f;
}

size_t discover_nodes(const struct discover *d, struct mdns_node *out, size_t max) {
    (void)d;
    assert_true(n_heard <= max);
    memcpy(out, heard, n_heard * sizeof *heard);
    return n_heard;
}

void discover_address(const struct mdns_place *p, uint16_t port, char out[DISCOVER_ADDRESS]) {
    const uint8_t *ip = p->address.ip;
    snprintf(out, DISCOVER_ADDRESS, "%u.%u.%u.%u:%u", ip[0], ip[1], ip[2], ip[3], (unsigned)port);
}

const struct peer *peers_next(const struct peers *p, const struct peer *after) {
    (void)p;
    size_t next = after ? (size_t)(after - peers) + 1 : 0;
    return next < PEERS ? &peers[next] : NULL;
}

const struct roster_node *cluster_self(const struct cluster *c) {
    (void)c;
    return NULL;
}

struct model *models_next(const struct models *m, const struct model *after) {
    (void)m, (void)after;
    return NULL;
}

// Heard from 10.0.0.`sender`: that node is at 10.0.1.`at`, and at 10.0.2.`at`.
static void hear(const char *id, uint8_t sender, uint8_t at) {
    struct mdns_node *n = &heard[n_heard++];
    *n = (struct mdns_node){.port = PORT, .from = {.family = MDNS_FOUR, .ip = {10, 0, 0, sender}}, .n_places = 2};
    for (uint8_t i = 0; i < 2; i++)
        n->places[i].address = (struct mdns_address){.family = MDNS_FOUR, .ip = {10, 0, (uint8_t)(i + 1), at}};
    snprintf(n->about.id, sizeof n->about.id, "%s", id);
    snprintf(n->about.cluster, sizeof n->about.cluster, "%s", own);
}

static int setup(void **state) {
    uint8_t digest[DIGEST_BYTES];
    (void)state;
    settings_defaults(&s.settings);
    s.base = event_base_new();
    s.models = (struct models *)peers; // only passed on
    s.cluster = &cluster;
    cluster.roster = &roster;
    digest_of(roster.root, KEY_PUBLIC, digest);
    hex_encode(digest, (ABOUT_CLUSTER - 1) / 2, own);
    for (size_t i = 0; i < PEERS; i++) {
        peers[i] = (struct peer){.up = false};
        memset(peers[i].id, (char)('b' + i), 4);
    }
    n_heard = 0;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    discovery_free(discovery);
    event_base_free(s.base);
    return 0;
}

static void look(void) {
    struct err e;
    assert_non_null(discovery = discovery_new(&s, &e));
}

// In how many of so many turns it is tried.
static size_t tries(const char *address, size_t turns) {
    char out[ROSTER_ADDRESS];
    size_t n = 0;
    for (size_t i = 0; i < turns; i++) n += discovery_candidate(discovery, i, out) && !strcmp(out, address);
    return n;
}

// ---------------------------------------------------------------- tests
static void test_only_members_that_are_down(void **state) {
    char out[ROSTER_ADDRESS];
    (void)state;
    peers[1].up = true;
    hear("bbbb", 2, 2);
    hear("cccc", 3, 3);
    hear("dddd", 4, 4); // no member
    hear("bbbb", 5, 5);
    heard[3].about.cluster[0] ^= 1; // of another cluster
    hear("bbbb", 6, 6);
    heard[4].gone = true;
    hear("bbbb", 7, 7);
    heard[5].port = 0;
    hear("bbbb", 8, 8);
    heard[6].n_places = 0;
    snprintf(peers[0].address, sizeof peers[0].address, "10.0.2.2:7421"); // it is dialled there
    look();
    assert_int_equal(tries("10.0.1.2:7421", 10), 5);
    assert_int_equal(tries("10.0.2.2:7421", 10), 0);
    for (size_t i = 0; i < 100; i++)
        if (discovery_candidate(discovery, i, out)) assert_string_equal(out, "10.0.1.2:7421");
    assert_false(discovery_candidate(NULL, 0, out));
}

static void test_liars_crowd_nobody_out(void **state) {
    (void)state;
    while (n_heard < LIMIT_DISCOVERED - 2) hear("bbbb", 66, (uint8_t)(100 + n_heard % 100));
    hear("bbbb", 2, 2); // the real ones come last
    hear("cccc", 3, 3);
    look();
    assert_int_equal(tries("10.0.1.2:7421", 800), 100); // of two members, of two senders, of two addresses
    assert_int_equal(tries("10.0.2.3:7421", 800), 200);
}

// Whoever joins looks for the inviter among those who say that they are of its cluster.
static void test_those_of_a_cluster(void **state) {
    uint8_t digest[DIGEST_BYTES];
    char out[ROSTER_ADDRESS];
    bool found = false;
    (void)state;
    while (n_heard < LIMIT_DISCOVERED - 1) hear("", 66, (uint8_t)(100 + n_heard % 100));
    hear("", 2, 2);
    look();
    digest_of(roster.root, KEY_PUBLIC, digest);
    for (size_t i = 0; i < 4; i++)
        found |= discovery_of_cluster(discovery, digest, i, out) && !strcmp(out, "10.0.1.2:7421");
    assert_true(found);
    digest[0] ^= 1;
    assert_false(discovery_of_cluster(discovery, digest, 0, out));
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_only_members_that_are_down), TEST(test_liars_crowd_nobody_out),
                                       TEST(test_those_of_a_cluster)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

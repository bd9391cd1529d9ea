// Nodes on a fake network with a fake clock: what one sends the others of its link hear half a millisecond later, and
// it itself, too, as with real sockets.
#include "base/clock.h"
#include "discover/mdns.h"
#include "discover/mdns_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NODES = 6, FLYING = 256, LINK = 3, LOG = 4096 };
#define DELAY (NS_PER_MS / 2)

struct flying {
    uint64_t at_ns;
    int from;
    unsigned family;
    size_t n;
    uint8_t data[DNS_SEND];
};
struct told { // a record that was sent to the group as an answer
    uint64_t ns;
    int from;
    unsigned family;
    bool probe; // after a probe, so that it may come sooner
    struct dns_record rr;
};

static struct world {
    uint64_t now_ns, random;
    struct node {
        struct world *w;
        int number;
        struct mdns *mdns;
        bool deaf;          // killed, or unplugged
        uint64_t behind_ns; // its clock stood still for so long
    } nodes[NODES];
    struct flying flying[FLYING];
    size_t n_flying;
    unsigned lost_percent;
    uint64_t packets, probe_ns;
    // to one asker, the newest
    uint8_t single[DNS_SEND];
    size_t n_single, singles;
    struct told told[LOG];
    size_t n_told;
} world;

static uint32_t on_random(void *arg) {
    (void)arg;
    world.random = world.random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(world.random >> 33);
}

static void note_told(int from, unsigned families, const void *data, size_t n) {
    struct dns_reader r;
    struct dns_record rr;
    assert_int_equal(dns_read(&r, data, n), 0); // what is sent is well-formed
    if (!(r.flags & DNS_RESPONSE) && r.counts[DNS_AUTHORITY]) world.probe_ns = world.now_ns;
    if (!(r.flags & DNS_RESPONSE)) return;
    while (dns_next_record(&r, &rr))
        if (rr.section == DNS_ANSWER && rr.ttl)
            world.told[world.n_told++ % LOG] = (struct told){.ns = world.now_ns,
                                                             .from = from,
                                                             .family = families,
                                                             .probe = world.probe_ns + NS_PER_S > world.now_ns,
                                                             .rr = rr};
}

static void on_send(void *arg, unsigned link, unsigned families, const struct mdns_from *to, const void *data,
                    size_t n) {
    const struct node *node = arg;
    assert_int_equal(link, LINK);
    assert_true(n <= DNS_SEND);
    if (node->deaf) return;
    if (to) {
        memcpy(world.single, data, n);
        world.n_single = n;
        world.singles++;
        return;
    }
    note_told(node->number, families, data, n);
    for (unsigned family = MDNS_FOUR; family <= MDNS_SIX; family++) {
        if (!(families & family)) continue;
        world.packets++;
        assert_true(world.n_flying < FLYING);
        struct flying *f = &world.flying[world.n_flying++];
        *f = (struct flying){.at_ns = world.now_ns + DELAY, .from = node->number, .family = family, .n = n};
        memcpy(f->data, data, n);
    }
}

static struct mdns_from from_node(int number, unsigned family) {
    struct mdns_from from = {.port = 5353, .address = {.family = (uint8_t)family}};
    from.address.ip[0] = family == MDNS_FOUR ? 10 : 0xFE;
    from.address.ip[family == MDNS_FOUR ? 3 : 15] = (uint8_t)(number + 1);
    return from;
}

static uint64_t clock_of(const struct node *n) { return world.now_ns - n->behind_ns; }

static void deliver(const struct flying *f) {
    const struct mdns_from from = from_node(f->from, f->family);
    for (int i = 0; i < NODES; i++) {
        struct node *node = &world.nodes[i];
        bool lost = i != f->from && on_random(NULL) % 100 < world.lost_percent;
        if (node->mdns && !node->deaf && !lost) mdns_receive(node->mdns, LINK, &from, f->data, f->n, clock_of(node));
    }
}

// Lets time pass, event by event.
static void pass_ms(uint64_t ms) {
    uint64_t end = world.now_ns + ms * NS_PER_MS;
    for (;;) {
        uint64_t next = end;
        for (int i = 0; i < NODES; i++) {
            if (!world.nodes[i].mdns || world.nodes[i].deaf) continue;
            const struct node *node = &world.nodes[i];
            uint64_t due = mdns_run(node->mdns, clock_of(node));
            if (due != MDNS_NEVER) due += node->behind_ns;
            assert_true(due > world.now_ns); // what was due is done
            if (due < next) next = due;
        }
        for (size_t i = 0; i < world.n_flying; i++)
            if (world.flying[i].at_ns < next) next = world.flying[i].at_ns;
        if (next >= end) break;
        world.now_ns = next;
        for (size_t i = 0; i < world.n_flying; i++) {
            if (world.flying[i].at_ns > world.now_ns) continue;
            const struct flying f = world.flying[i];
            world.flying[i--] = world.flying[--world.n_flying];
            deliver(&f);
        }
    }
    world.now_ns = end;
}

static void pass(uint64_t seconds) { pass_ms(seconds * 1000); }

static void set_addresses(int i, int last) {
    const struct mdns_address own[] = {
        {.family = MDNS_FOUR, .prefix = 24, .ip = {10, 0, 0, (uint8_t)last}},
        {.family = MDNS_SIX, .prefix = 64, .ip = {0xFE, 0x80, [15] = (uint8_t)last}},
    };
    mdns_link(world.nodes[i].mdns, LINK, own, 2, 2, world.now_ns);
}

static struct mdns *start(int i, const char *name) {
    struct about about;
    struct node *node = &world.nodes[i];
    const struct mdns_io io = {.send = on_send, .random = on_random, .arg = node};
    *node = (struct node){.w = &world, .number = i, .mdns = mdns_new(&io)};
    assert_non_null(node->mdns);
    memset(&about, 0, sizeof about);
    snprintf(about.name, sizeof about.name, "%s", name);
    snprintf(about.version, sizeof about.version, "1.%d", i);
    set_addresses(i, i + 1);
    mdns_publish(node->mdns, &about, (uint16_t)(7000 + i), world.now_ns);
    return node->mdns;
}

static int begin(void **state) {
    (void)state;
    memset(&world, 0, sizeof world);
    world.now_ns = 1000 * NS_PER_S;
    world.random = 42;
    return 0;
}

static int end(void **state) {
    (void)state;
    for (int i = 0; i < NODES; i++) free(world.nodes[i].mdns);
    return 0;
}

static struct mdns_node seen[MDNS_SERVICES];

// What node i knows of the instance; NULL: nothing.
static const struct mdns_node *see(int i, const char *label) {
    size_t n = mdns_nodes(world.nodes[i].mdns, seen, MDNS_SERVICES);
    for (size_t k = 0; k < n; k++)
        if (!strcmp(seen[k].label, label)) return &seen[k];
    return NULL;
}

static bool is_there(int i, const char *label) {
    const struct mdns_node *n = see(i, label);
    return n && !n->gone;
}

static struct mdns_counts count(int i) {
    struct mdns_counts c;
    mdns_count(world.nodes[i].mdns, &c);
    return c;
}

// ---------------------------------------------------------------- coming and going
static void test_two_find_each_other(void **state) {
    (void)state;
    start(0, "prime");
    pass(10);
    start(1, "edge");
    pass(3);
    assert_true(is_there(0, "edge"));
    assert_true(is_there(1, "prime"));
    const struct mdns_node *n = see(1, "prime");
    assert_string_equal(n->about.name, "prime");
    assert_string_equal(n->about.version, "1.0");
    assert_int_equal(n->port, 7000);
    assert_int_equal(n->n_places, 2);
    assert_int_equal(n->places[0].link, LINK);
    assert_null(see(0, "prime")); // not itself
    assert_true(count(0).claimed);
}

static void test_goodbye(void **state) {
    (void)state;
    start(0, "prime");
    start(1, "edge");
    pass(5);
    mdns_goodbye(world.nodes[1].mdns, world.now_ns);
    world.nodes[1].deaf = true;
    pass(2);
    const struct mdns_node *n = see(0, "edge");
    assert_non_null(n);
    assert_true(n->gone);
    assert_int_equal(n->n_places, 0);
    pass(MDNS_GONE_S);
    assert_null(see(0, "edge"));
}

static void test_killed_at_any_moment(void **state) {
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        end(state);
        begin(state);
        world.random = i;
        start(0, "prime");
        start(1, "edge");
        pass_ms(30000 + 1013 * i);
        assert_true(is_there(0, "edge"));
        world.nodes[1].deaf = true;
        pass(25);
        assert_false(is_there(0, "edge"));
    }
}

static void start_all(void) {
    char name[] = "node-0";
    for (int i = 0; i < NODES; i++, name[5]++) {
        start(i, name);
        pass_ms(1700);
    }
}

static void assert_all_see_all(void) {
    char name[] = "node-0";
    for (int k = 0; k < NODES; k++, name[5]++)
        for (int i = 0; i < NODES; i++)
            if (i != k && world.nodes[i].mdns && world.nodes[k].mdns && !is_there(i, name))
                fail_msg("node %d does not see %s", i, name);
}

static void test_many_stay_and_cost_little(void **state) {
    (void)state;
    start_all();
    pass(60);
    uint64_t before = world.packets;
    for (int i = 0; i < 60; i++) {
        pass(10);
        assert_all_see_all();
    }
    uint64_t per_minute = (world.packets - before) / 10;
    if (per_minute > 4 * (NODES + 1)) fail_msg("%u packets a minute", (unsigned)per_minute);
}

// However the losses fall: each question and each answer may be among them, for each one that hears it. At the end one
// is killed: all others miss it, and it alone.
static void test_losses(void **state) {
    for (unsigned seed = 0; seed < 40; seed++) {
        end(state);
        begin(state);
        world.random = seed;
        world.lost_percent = 10;
        start_all();
        pass(30);
        for (int i = 0; i < 15; i++) {
            pass(20);
            assert_all_see_all();
        }
        pass_ms(497 * seed);
        world.nodes[0].deaf = true;
        pass(25);
        for (int i = 1; i < NODES; i++) assert_false(is_there(i, "node-0"));
        free(world.nodes[0].mdns);
        world.nodes[0].mdns = NULL;
        assert_all_see_all();
    }
}

// RFC 6762, section 6: but for answers to probes, no record twice in a second.
static void no_record_twice_in_a_second(void) {
    start_all();
    set_addresses(1, 99);
    pass(300);
    assert_true(world.n_told > 100 && world.n_told <= LOG);
    for (size_t i = 0; i < world.n_told; i++)
        for (size_t k = i + 1; k < world.n_told && world.told[k].ns - world.told[i].ns < NS_PER_S; k++) {
            const struct told *a = &world.told[i], *b = &world.told[k];
            if (a->from == b->from && a->family & b->family && !b->probe && dns_same_data(&a->rr, &b->rr) &&
                dns_name_same(&a->rr.name, &b->rr.name))
                fail_msg("node %d: type %d after %u ms", a->from, a->rr.type, (unsigned)((b->ns - a->ns) / NS_PER_MS));
        }
}

static void test_no_record_twice_in_a_second(void **state) {
    for (unsigned seed = 1; seed <= 6; seed++) {
        end(state);
        begin(state);
        world.random = seed;
        no_record_twice_in_a_second();
    }
}

static void test_unplugged_and_back(void **state) {
    (void)state;
    start(0, "prime");
    start(1, "edge");
    pass(300);
    world.nodes[1].deaf = true;
    pass(3600);
    assert_false(is_there(0, "edge"));
    world.nodes[1].deaf = false;
    pass(MDNS_ASK_MOST_S + 5); // neither noticed anything: the questions of one find the other
    assert_true(is_there(0, "edge") && is_there(1, "prime"));
    world.nodes[1].deaf = true;
    pass(3600);
    world.nodes[1].deaf = false;
    mdns_wake(world.nodes[1].mdns, world.now_ns);
    pass(3);
    assert_true(is_there(0, "edge") && is_there(1, "prime"));
}

static void sleep_s(int i, uint64_t seconds) {
    world.nodes[i].deaf = true;
    pass(seconds);
    world.nodes[i].deaf = false;
    world.nodes[i].behind_ns += seconds * NS_PER_S;
}

// The monotonic clock stands still meanwhile: nothing of what it knew has become too old, and nobody is there any more.
static void test_sleep(void **state) {
    (void)state;
    start(0, "prime");
    start(1, "edge");
    start(2, "third");
    pass(300);
    sleep_s(1, 3600);
    assert_false(is_there(0, "edge"));
    mdns_wake(world.nodes[1].mdns, clock_of(&world.nodes[1]));
    pass(3);
    assert_true(is_there(0, "edge") && is_there(1, "prime") && is_there(1, "third"));
    world.nodes[2].deaf = true; // what went meanwhile is missed as soon as if it went now
    sleep_s(1, 600);
    mdns_wake(world.nodes[1].mdns, clock_of(&world.nodes[1]));
    pass(MDNS_TTL_S + 5);
    assert_true(is_there(1, "prime") && !is_there(1, "third") && is_there(0, "edge"));
    assert_string_equal(count(1).label, "edge"); // its name is its own still
}

static void test_interface_goes(void **state) {
    (void)state;
    start(0, "prime");
    start(1, "edge");
    pass(5);
    mdns_unlink(world.nodes[0].mdns, LINK, world.now_ns);
    assert_true(see(0, "edge")->gone);
    pass(1);
    set_addresses(0, 1);
    pass(4);
    assert_true(is_there(0, "edge"));
}

static void test_other_address_and_port(void **state) {
    static const uint8_t there[] = {10, 0, 0, 77};
    (void)state;
    start(0, "prime");
    struct mdns *edge = start(1, "edge");
    pass(10);
    set_addresses(1, 77);
    pass(3);
    const struct mdns_node *n = see(0, "edge");
    assert_int_equal(n->n_places, 2);
    for (size_t i = 0; i < 2; i++)
        if (n->places[i].address.family == MDNS_FOUR) assert_memory_equal(n->places[i].address.ip, there, 4);
    struct about about = edge->about;
    about_add_model(&about, "llama");
    mdns_publish(edge, &about, 8000, world.now_ns);
    pass(3);
    n = see(0, "edge");
    assert_int_equal(n->port, 8000);
    assert_string_equal(n->about.models, "llama");
    mdns_publish(edge, &about, 8001, world.now_ns);
    mdns_run(edge, world.now_ns);
    mdns_publish(edge, &about, 8002, world.now_ns); // while its old words are on their way
    pass_ms(2);
    assert_true(count(1).claimed); // they are no conflict
    assert_string_equal(count(1).label, "edge");
}

// ---------------------------------------------------------------- names
static void test_second_of_a_name(void **state) {
    (void)state;
    start(0, "node");
    pass(10);
    start(1, "node");
    pass(5);
    assert_string_equal(count(0).label, "node");
    assert_string_equal(count(1).label, "node (2)");
    assert_true(is_there(0, "node (2)") && is_there(1, "node"));
    assert_string_equal(see(0, "node (2)")->about.name, "node");
    start(2, "node");
    pass(5);
    assert_string_equal(count(2).label, "node (3)");
}

static void test_two_at_the_same_time(void **state) {
    (void)state;
    for (unsigned i = 0; i < 30; i++) {
        end(state);
        begin(state);
        world.random = i;
        start(0, "node");
        start(1, "node");
        pass(6);
        assert_true(count(0).claimed && count(1).claimed);
        if (!strcmp(count(0).label, count(1).label)) fail_msg("seed %u: both are %s", i, count(0).label);
        assert_true(is_there(0, count(1).label) && is_there(1, count(0).label));
    }
}

enum { STRANGER = 90 };

static void send_from(int stranger, int i, struct dns_writer *w) {
    const struct mdns_from from = from_node(stranger, MDNS_FOUR);
    mdns_receive(world.nodes[i].mdns, LINK, &from, w->data, w->n, world.now_ns);
}

static void send_to(int i, struct dns_writer *w) { send_from(STRANGER, i, w); }

static struct dns_record service(const char *label, const char *host, uint16_t port) {
    struct dns_record rr = {.type = DNS_SRV, .class = DNS_IN, .flush = true, .ttl = 120, .port = port};
    assert_int_equal(dns_name_make(&rr.name, label, "_nebulus", "_tcp", "local", (char *)NULL), 0);
    assert_int_equal(dns_name_make(&rr.target, host, "local", (char *)NULL), 0);
    return rr;
}

static void say_from(int stranger, int i, const struct dns_record *rr) {
    struct dns_writer w;
    dns_write(&w, 0, DNS_RESPONSE | DNS_AUTHORITATIVE);
    assert_int_equal(dns_add_record(&w, DNS_ANSWER, rr), 0);
    send_from(stranger, i, &w);
}

static void say(int i, const struct dns_record *rr) { say_from(STRANGER, i, rr); }

// RFC 6762, section 8.2: of two that probe at the same time the one with the lesser data waits for a second.
static void test_tie_break(void **state) {
    (void)state;
    for (int greater = 0; greater < 2; greater++) {
        struct dns_writer w;
        end(state);
        begin(state);
        struct mdns *m = start(0, "node");
        struct dns_record rr = service("node", "other", 1);
        rr.type = DNS_TXT; // ours begins with a length of 9
        rr.target.len = 0;
        rr.data[0] = greater ? 10 : 1;
        rr.len = (uint16_t)(rr.data[0] + 1);
        const struct dns_question q = {.name = rr.name, .type = DNS_ANY, .class = DNS_IN};
        while (m->links[0].step < 2) pass_ms(10); // probes sent
        dns_write(&w, 0, 0);
        assert_int_equal(dns_add_question(&w, &q), 0);
        assert_int_equal(dns_add_record(&w, DNS_AUTHORITY, &rr), 0);
        send_to(0, &w);
        pass_ms(900);
        assert_int_equal(count(0).claimed, !greater);
        pass(2);
        assert_true(count(0).claimed); // nobody has it
        assert_string_equal(count(0).label, "node");
    }
}

// One forged answer costs a probe; one to each probe costs the name, ever slower.
static void test_conflicts(void **state) {
    (void)state;
    const struct dns_record evil = service("prime", "evil", 1);
    start(0, "prime");
    pass(10);
    say(0, &evil);
    assert_false(count(0).claimed);
    pass(5);
    assert_true(count(0).claimed);
    assert_string_equal(count(0).label, "prime");
    say(0, &evil);
    say(0, &evil);
    pass(5);
    assert_string_equal(count(0).label, "prime (2)");
    uint64_t before = world.packets;
    for (int i = 0; i < 600; i++) {
        const struct dns_record each = service(count(0).label, "evil", 1);
        say(0, &each);
        pass_ms(100);
    }
    assert_true(world.packets - before < 200); // a minute
    pass(10);
    assert_true(count(0).claimed);
}

// ---------------------------------------------------------------- answers
static struct dns_question question(enum dns_type type, const struct dns_name *name) {
    return (struct dns_question){.name = *name, .type = type, .class = DNS_IN};
}

static void ask(int i, const struct dns_question *q, const struct dns_record *known, const struct mdns_from *from) {
    struct dns_writer w;
    dns_write(&w, 4711, 0);
    assert_int_equal(dns_add_question(&w, q), 0);
    if (known) assert_int_equal(dns_add_record(&w, DNS_ANSWER, known), 0);
    mdns_receive(world.nodes[i].mdns, LINK, from, w.data, w.n, world.now_ns);
}

static size_t answers_since(size_t before, enum dns_type type) {
    size_t n = 0;
    for (size_t i = before; i < world.n_told; i++) n += world.told[i].rr.type == type;
    return n;
}

static void test_known_answers(void **state) {
    (void)state;
    const struct mdns *m = start(0, "prime");
    const struct mdns_from from = from_node(8, MDNS_FOUR);
    struct dns_question q = question(DNS_PTR, &m->type);
    struct dns_record known = {.name = m->type, .type = DNS_PTR, .class = DNS_IN, .target = m->instance, .ttl = 20};
    pass(10);
    size_t before = world.n_told;
    ask(0, &q, &known, &from);
    pass(1);
    assert_int_equal(world.n_told, before);
    known.ttl = 9; // less than half of its time
    ask(0, &q, &known, &from);
    assert_int_equal(world.n_told, before); // shared ones wait
    pass_ms(200);
    assert_int_equal(answers_since(before, DNS_PTR), 1);
    ask(0, &q, NULL, &from);
    pass_ms(800);
    assert_int_equal(answers_since(before, DNS_PTR), 1); // told less than a second ago
    pass_ms(200);
    assert_int_equal(answers_since(before, DNS_PTR), 2); // but that one may have missed it
    pass(2);
    assert_int_equal(answers_since(before, DNS_PTR), 2);
}

static void test_what_there_is_not(void **state) {
    (void)state;
    const struct mdns *m = start(0, "prime");
    const struct mdns_from from = from_node(8, MDNS_FOUR);
    struct dns_question q = question(DNS_A, &m->instance);
    pass(10);
    size_t before = world.n_told;
    ask(0, &q, NULL, &from);
    pass_ms(10);
    assert_int_equal(answers_since(before, DNS_NSEC), 1);
    q = question(DNS_PTR, &m->host);
    ask(0, &q, NULL, &from);
    pass_ms(10);
    assert_int_equal(answers_since(before, DNS_NSEC), 2);
    q.name = m->instance;
    q.name.wire[1] = 'x';
    ask(0, &q, NULL, &from);
    pass(1);
    assert_int_equal(answers_since(before, DNS_NSEC), 2); // another one's
}

static void test_single_askers(void **state) {
    struct dns_reader r;
    struct dns_question back;
    struct dns_record rr;
    (void)state;
    const struct mdns *m = start(0, "prime");
    struct mdns_from from = from_node(8, MDNS_FOUR);
    struct dns_question q = question(DNS_SRV, &m->instance);
    pass(10);
    from.port = 40000;
    ask(0, &q, NULL, &from);
    assert_int_equal(world.singles, 1);
    assert_int_equal(dns_read(&r, world.single, world.n_single), 0);
    assert_int_equal(r.id, 4711);
    assert_true(dns_next_question(&r, &back) && dns_name_same(&back.name, &q.name));
    assert_true(dns_next_record(&r, &rr));
    assert_int_equal(rr.ttl, 10);
    assert_false(rr.flush);
    for (int i = 0; i < 100; i++) ask(0, &q, NULL, &from);
    assert_int_equal(world.singles, MDNS_UNICASTS); // in a second
    pass(3);
    from.address.ip[1] = 1; // from another network
    ask(0, &q, NULL, &from);
    assert_int_equal(world.singles, MDNS_UNICASTS);
    from = from_node(8, MDNS_FOUR);
    q.unicast = true;
    size_t before = world.n_told;
    ask(0, &q, NULL, &from); // told to all more than TTL/4 ago
    pass_ms(10);
    assert_int_equal(answers_since(before, DNS_SRV), 1);
    assert_int_equal(world.singles, MDNS_UNICASTS);
    ask(0, &q, NULL, &from);
    assert_int_equal(world.singles, MDNS_UNICASTS + 1);
}

// More known answers follow a truncated question: they count.
static void test_truncated_question(void **state) {
    struct dns_writer w;
    (void)state;
    const struct mdns *m = start(0, "prime");
    struct dns_question q = question(DNS_PTR, &m->type);
    struct dns_record known = {.name = m->type, .type = DNS_PTR, .class = DNS_IN, .target = m->instance, .ttl = 20};
    pass(10);
    size_t before = world.n_told;
    dns_write(&w, 0, DNS_TRUNCATED);
    assert_int_equal(dns_add_question(&w, &q), 0);
    send_to(0, &w);
    pass_ms(300);
    assert_int_equal(world.n_told, before);
    dns_write(&w, 0, 0);
    assert_int_equal(dns_add_record(&w, DNS_ANSWER, &known), 0);
    send_to(0, &w);
    pass(1);
    assert_int_equal(world.n_told, before);
}

// ---------------------------------------------------------------- hostile neighbours
static void test_flood(void **state) {
    char label[32];
    (void)state;
    start(0, "prime");
    start(1, "edge");
    pass(5);
    for (int i = 0; i < 3 * MDNS_SERVICES; i++) {
        struct dns_record srv, ptr;
        snprintf(label, sizeof label, "flood-%d", i);
        srv = service(label, label, 1);
        srv.ttl = 1 << 30;
        ptr = (struct dns_record){.name = world.nodes[0].mdns->type, .type = DNS_PTR, .class = DNS_IN, .ttl = 1 << 30};
        ptr.target = srv.name;
        say(0, &ptr);
        say(0, &srv);
        pass_ms(20);
    }
    assert_true(is_there(0, "edge"));
    assert_true(count(0).refused >= MDNS_SERVICES);
    pass(30);
    assert_true(is_there(0, "edge") && is_there(1, "prime"));
    uint64_t before = world.packets;
    pass(60);
    assert_true(world.packets - before < 600); // also while all of them are asked after
    pass(2 * MDNS_TTL_MOST_S);
    assert_true(is_there(0, "edge") && is_there(1, "prime"));
    assert_false(is_there(0, "flood-3")); // whatever it claimed its time to be
}

// A fake instance of node 0's service, with a host and addresses of its own.
static void fake(int stranger, int number, int addresses) {
    char label[32];
    snprintf(label, sizeof label, "fake-%d", number);
    const struct dns_record srv = service(label, label, 1);
    struct dns_record ptr = {.name = world.nodes[0].mdns->type, .type = DNS_PTR, .class = DNS_IN, .ttl = 120};
    struct dns_record a = {.name = srv.target, .type = DNS_A, .class = DNS_IN, .ttl = 120, .len = 4};
    ptr.target = srv.name;
    say_from(stranger, 0, &ptr);
    say_from(stranger, 0, &srv);
    for (int k = 0; k < addresses; k++) {
        memcpy(a.data, (const uint8_t[]){10, 0, 0, (uint8_t)(number + 31 * k)}, 4);
        say_from(stranger, 0, &a);
    }
}

// Fakes that are refreshed all the time hide neither those who were there before nor those who come, whether they come
// from one address or from many.
static void test_newcomers_during_a_flood(void **state) {
    static const int senders[] = {1, 20, 100};
    enum { FAKES = 2 * MDNS_SERVICES, ROUNDS = 6 };
    for (size_t n = 0; n < sizeof senders / sizeof *senders; n++) {
        end(state);
        begin(state);
        start(0, "prime");
        start(1, "edge");
        pass(5);
        for (int i = 0; i < ROUNDS * FAKES; i++) {
            fake(STRANGER + i % senders[n], i % FAKES, 1);
            pass_ms(50);
            if (i == 2 * FAKES) start(2, "third");
            if (i % 20) continue;
            if (!is_there(0, "edge")) fail_msg("%d senders, fake %d: one that was there", senders[n], i);
            const struct mdns_node *third = i > 2 * FAKES + 60 ? see(0, "third") : NULL; // it came 3 s ago
            if (i > 2 * FAKES + 60 && (!third || third->gone || !third->n_places))
                fail_msg("%d senders, fake %d: a newcomer", senders[n], i);
        }
        assert_true(count(0).refused > FAKES);
        assert_true(is_there(0, "fake-1")); // some of them are shown
    }
}

// As many senders as there are places, and more: none of those who were there is hidden, a newcomer is heard again and
// again, with its address, and nobody is made to ask more.
static void test_more_senders_than_places(void **state) {
    enum { FORGED = 2 * MDNS_HOSTS, EACH_MS = 40, ROUNDS = 4 };
    size_t heard = 0, looks = 0;
    (void)state;
    start(0, "prime");
    start(1, "edge");
    pass(5);
    uint64_t before = 0;
    for (int i = 0; i < ROUNDS * FORGED; i++) {
        fake(STRANGER + i % FORGED, i % FORGED, MDNS_ADDRESSES);
        pass_ms(EACH_MS);
        if (i == FORGED) start(2, "third");
        if (i == FORGED) before = world.packets;
        if (!is_there(0, "edge")) fail_msg("fake %d: one that was there", i);
        if (i <= FORGED) continue;
        const struct mdns_node *third = see(0, "third");
        heard += third && !third->gone && third->n_places;
        looks++;
    }
    if (heard < looks / 100) fail_msg("a newcomer was heard at %zu of %zu looks", heard, looks);
    uint64_t per_s = (world.packets - before) * 1000 / ((uint64_t)looks * EACH_MS);
    if (per_s > 10) fail_msg("%u packets a second", (unsigned)per_s);
}

// One instance is enough for it: each of its hosts, of which it names one after another, has addresses.
static void test_flood_of_addresses(void **state) {
    (void)state;
    start(0, "prime");
    pass(5);
    for (int i = 0; i < 2 * MDNS_HOSTS / MDNS_ADDRESSES; i++) {
        char host[24];
        snprintf(host, sizeof host, "host-%d", i);
        const struct dns_record srv = service("fake", host, 1);
        struct dns_record a = {.name = srv.target, .type = DNS_A, .class = DNS_IN, .ttl = 120, .len = 4};
        say(0, &srv);
        for (uint8_t k = 0; k < MDNS_ADDRESSES; k++) {
            memcpy(a.data, (const uint8_t[]){10, 0, 0, k}, 4);
            say(0, &a);
        }
        pass_ms(100);
    }
    start(1, "edge");
    pass(3);
    assert_true(is_there(0, "edge"));
    assert_int_equal(see(0, "edge")->n_places, 2);
}

// More than is looked at, all of it from one address.
static void test_much_from_one_hides_nobody(void **state) {
    struct dns_writer w;
    (void)state;
    const struct mdns *m = start(0, "prime");
    start(1, "edge");
    pass(5);
    const struct dns_record junk = service("junk", "junk", 1);
    struct dns_record ptr = {.name = m->type, .type = DNS_PTR, .class = DNS_IN, .target = junk.name, .ttl = 120};
    dns_write(&w, 0, DNS_RESPONSE);
    while (!dns_add_record(&w, DNS_ANSWER, &ptr)) {
    }
    const size_t each = MDNS_SHARES * MDNS_BYTES_S / w.n / 5; // in a tenth of a second: twice what is looked at
    for (int i = 0; i < 1200; i++) {
        for (size_t k = 0; k < each; k++) send_to(0, &w);
        pass_ms(100);
        if (i == 600) start(2, "third");
        if (!is_there(0, "edge") || (i > 700 && !is_there(0, "third"))) fail_msg("a node is not seen in step %d", i);
    }
}

// Only of this link, or the sender's own.
static void test_addresses_elsewhere(void **state) {
    static const struct {
        uint8_t from[4], told[4];
        bool counts;
    } cases[] = {{{10, 0, 0, 9}, {10, 0, 0, 77}, true},
                 {{10, 0, 0, 9}, {10, 0, 1, 77}, false},
                 {{10, 0, 0, 9}, {127, 0, 0, 1}, false},
                 {{192, 168, 5, 7}, {192, 168, 5, 7}, true},
                 {{192, 168, 5, 7}, {192, 168, 5, 8}, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        end(state);
        begin(state);
        start(0, "prime");
        pass(5);
        struct mdns_from from = {.port = 5353, .address.family = MDNS_FOUR};
        struct dns_writer w;
        const struct dns_record edge = service("edge", "edge", 1);
        struct dns_record ptr = {.name = world.nodes[0].mdns->type, .type = DNS_PTR, .class = DNS_IN, .ttl = 120};
        struct dns_record a = {.name = edge.target, .type = DNS_A, .class = DNS_IN, .ttl = 120, .len = 4};
        ptr.target = edge.name;
        memcpy(from.address.ip, cases[i].from, 4);
        memcpy(a.data, cases[i].told, 4);
        dns_write(&w, 0, DNS_RESPONSE);
        assert_int_equal(dns_add_record(&w, DNS_ANSWER, &ptr), 0);
        assert_int_equal(dns_add_record(&w, DNS_ANSWER, &edge), 0);
        assert_int_equal(dns_add_record(&w, DNS_ANSWER, &a), 0);
        mdns_receive(world.nodes[0].mdns, LINK, &from, w.data, w.n, world.now_ns);
        assert_true(is_there(0, "edge"));
        const struct mdns_node *n = see(0, "edge");
        assert_int_equal(n->n_places, cases[i].counts);
        assert_memory_equal(n->from.ip, cases[i].from, 4);
        assert_int_equal(count(0).refused, !cases[i].counts);
    }
}

static void test_many_addresses(void **state) {
    (void)state;
    start(0, "prime");
    pass(5);
    const struct dns_record edge = service("edge", "edge", 1);
    struct dns_record a = {.name = edge.target, .type = DNS_A, .class = DNS_IN, .ttl = 120, .len = 4};
    say(0, &edge);
    for (uint8_t i = 0; i < 20; i++) {
        memcpy(a.data, (const uint8_t[]){10, 0, 0, i}, 4);
        say(0, &a);
    }
    assert_int_equal(count(0).refused, 20 - MDNS_ADDRESSES);
}

static void test_too_much_at_once(void **state) {
    struct dns_writer w;
    const struct dns_record edge = service("edge", "edge", 1);
    (void)state;
    const struct mdns *m = start(0, "prime");
    pass(5);
    dns_write(&w, 0, DNS_RESPONSE);
    struct dns_record ptr = {.name = m->type, .type = DNS_PTR, .class = DNS_IN, .target = edge.name, .ttl = 120};
    while (!dns_add_record(&w, DNS_ANSWER, &ptr)) {
    }
    size_t most = MDNS_BYTES_S / w.n;
    for (size_t i = 0; i < most + 10; i++) send_to(0, &w);
    assert_in_range(count(0).refused, 10, 11);
    pass(2);
    send_to(0, &w);
    say(0, &edge);
    assert_true(is_there(0, "edge"));
    assert_in_range(count(0).refused, 10, 14); // its own questions of that second came back too late, too
}

static void test_noise(void **state) {
    uint8_t noise[200];
    const struct mdns_from from = from_node(9, MDNS_SIX);
    (void)state;
    start(0, "prime");
    start(1, "edge");
    pass(5);
    for (int i = 0; i < 1000; i++) {
        for (size_t k = 0; k < sizeof noise; k++) noise[k] = (uint8_t)on_random(NULL);
        mdns_receive(world.nodes[0].mdns, LINK, &from, noise, on_random(NULL) % sizeof noise, world.now_ns);
        pass_ms(10);
    }
    assert_true(count(0).malformed > 900);
    assert_true(is_there(0, "edge"));
    struct dns_record bye = service("edge", "x", 1);
    bye.ttl = 0;
    struct dns_writer w;
    struct mdns_from elsewhere = from;
    elsewhere.port = 1024; // answers come from port 5353 alone
    dns_write(&w, 0, DNS_RESPONSE);
    assert_int_equal(dns_add_record(&w, DNS_ANSWER, &bye), 0);
    mdns_receive(world.nodes[0].mdns, LINK, &elsewhere, w.data, w.n, world.now_ns);
    pass(2);
    assert_true(is_there(0, "edge"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_two_find_each_other),
        TEST(test_goodbye),
        TEST(test_killed_at_any_moment),
        TEST(test_many_stay_and_cost_little),
        TEST(test_losses),
        TEST(test_no_record_twice_in_a_second),
        TEST(test_unplugged_and_back),
        TEST(test_sleep),
        TEST(test_interface_goes),
        TEST(test_other_address_and_port),
        TEST(test_second_of_a_name),
        TEST(test_two_at_the_same_time),
        TEST(test_conflicts),
        TEST(test_known_answers),
        TEST(test_what_there_is_not),
        TEST(test_single_askers),
        TEST(test_truncated_question),
        TEST(test_flood),
        TEST(test_newcomers_during_a_flood),
        TEST(test_more_senders_than_places),
        TEST(test_flood_of_addresses),
        TEST(test_much_from_one_hides_nobody),
        TEST(test_addresses_elsewhere),
        TEST(test_tie_break),
        TEST(test_many_addresses),
        TEST(test_too_much_at_once),
        TEST(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// The captured messages are avahi-daemon 0.8's (Debian 12), as it ran `avahi-publish -s "Guest café" _nebulus._tcp 7421
// name=guest cluster=abab... version=9.9 models=tiny x` in a network namespace on a bridge with two nodes called
// "node", read there from a packet socket.
#include "base/bytes.h"
#include "discover/dns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char avahi_probe[] =
    "0000000000010000000200000b477565737420636166c3a9085f6e6562756c7573045f746370056c6f63616c0000ff0001c00c00210001"
    "00000078000b000000001cfd02766dc026c00c0010000100001194004e0a6e616d653d677565737428636c75737465723d616261626162"
    "61626162616261626162616261626162616261626162616261620b76657273696f6e3d392e390b6d6f64656c733d74696e790178";
static const char avahi_announcement[] =
    "0000840000000006000000000b477565737420636166c3a9085f6e6562756c7573045f746370056c6f63616c000010800100001194004e"
    "0a6e616d653d677565737428636c75737465723d61626162616261626162616261626162616261626162616261626162616261620b7665"
    "7273696f6e3d392e390b6d6f64656c733d74696e790178c018000c0001000011940002c00cc00c0021800100000078000b000000001cfd"
    "02766dc026c0a5001c8001000000780010fe80000000000000d49502fffe16dbb0c0a5000180010000007800040a4d0004095f73657276"
    "69636573075f646e732d7364045f756470c026000c0001000011940002c018";
static const char avahi_question[] =
    "000000000001000300000000085f6e6562756c7573045f746370056c6f63616c00000c0001c00c000c0001000000140007046e6f6465c0"
    "0cc00c000c000100001194000e0b477565737420636166c3a9c00cc00c000c000100000014000b086e6f646520283229c00c";
static const char avahi_goodbye[] =
    "000084000000000600000000095f7365727669636573075f646e732d7364045f756470056c6f63616c00000c0001000000000010085f6e"
    "6562756c7573045f746370c023c034000c000100000000000e0b477565737420636166c3a9c034c0500021800100000000000b00000000"
    "1cfd02766dc023c070001c8001000000780010fe80000000000000d49502fffe16dbb0c070000180010000007800040a4d0004c0500010"
    "800100000000004e0a6e616d653d677565737428636c75737465723d616261626162616261626162616261626162616261626162616261"
    "62616261620b76657273696f6e3d392e390b6d6f64656c733d74696e790178";

static uint8_t bytes[DNS_RECEIVE];

static size_t from_hex(const char *hex) {
    size_t n = strlen(hex) / 2;
    assert_int_equal(hex_decode(hex, bytes, n), 0);
    return n;
}

static struct dns_name name_of(const char *a, const char *b, const char *c, const char *d) {
    struct dns_name n;
    assert_int_equal(dns_name_make(&n, a, b, c, d, (char *)NULL), 0);
    return n;
}

static void test_avahi_probe(void **state) {
    struct dns_reader r;
    struct dns_question q;
    struct dns_record rr;
    const struct dns_name guest = name_of("Guest caf\xC3\xA9", "_nebulus", "_tcp", "local");
    (void)state;
    assert_int_equal(dns_read(&r, bytes, from_hex(avahi_probe)), 0);
    assert_int_equal(r.flags, 0);
    assert_true(dns_next_question(&r, &q));
    assert_true(dns_name_same(&q.name, &guest));
    assert_int_equal(q.type, DNS_ANY);
    assert_int_equal(q.class, DNS_IN);
    assert_false(q.unicast);
    assert_false(dns_next_question(&r, &q));
    assert_true(dns_next_record(&r, &rr));
    assert_int_equal(rr.section, DNS_AUTHORITY);
    assert_int_equal(rr.type, DNS_SRV);
    assert_int_equal(rr.port, 7421);
    assert_int_equal(rr.ttl, 120);
    assert_false(rr.flush);
    const struct dns_name host = name_of("vm", "local", NULL, NULL);
    assert_true(dns_name_same(&rr.target, &host));
    assert_true(dns_next_record(&r, &rr));
    assert_int_equal(rr.type, DNS_TXT);
    assert_int_equal(rr.len, 78);
    assert_memory_equal(rr.data, "\012name=guest", 11);
    assert_false(dns_next_record(&r, &rr));
}

static void test_avahi_announcement(void **state) {
    static const uint16_t types[] = {DNS_TXT, DNS_PTR, DNS_SRV, DNS_AAAA, DNS_A, DNS_PTR};
    static const uint8_t four[] = {10, 77, 0, 4};
    struct dns_reader r;
    struct dns_record rr;
    const struct dns_name type = name_of("_nebulus", "_tcp", "local", NULL);
    (void)state;
    assert_int_equal(dns_read(&r, bytes, from_hex(avahi_announcement)), 0);
    assert_int_equal(r.flags, DNS_RESPONSE | DNS_AUTHORITATIVE);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        assert_true(dns_next_record(&r, &rr));
        assert_int_equal(rr.type, types[i]);
        assert_int_equal(rr.flush, rr.type != DNS_PTR);
        if (rr.type == DNS_A) assert_memory_equal(rr.data, four, sizeof four);
        if (i == 1) assert_true(dns_name_same(&rr.name, &type) && dns_name_is_child(&rr.target, &type));
    }
    assert_false(dns_next_record(&r, &rr));
}

static void test_avahi_question_and_goodbye(void **state) {
    struct dns_reader r;
    struct dns_record rr;
    int n = 0;
    (void)state;
    assert_int_equal(dns_read(&r, bytes, from_hex(avahi_question)), 0);
    while (dns_next_record(&r, &rr)) {
        assert_int_equal(rr.section, DNS_ANSWER);
        assert_int_equal(rr.type, DNS_PTR);
        n++;
    }
    assert_int_equal(n, 3); // what it knows already, also our instances "node" and "node (2)"
    assert_int_equal(dns_read(&r, bytes, from_hex(avahi_goodbye)), 0);
    for (n = 0; dns_next_record(&r, &rr); n++) // the host stays, as others' services may be there
        assert_int_equal(rr.ttl, rr.type == DNS_A || rr.type == DNS_AAAA ? 120 : 0);
    assert_int_equal(n, 6);
}

// Every prefix, and every message with one byte too many, is refused.
static void test_cut_messages(void **state) {
    static const char *const all[] = {avahi_probe, avahi_announcement, avahi_question, avahi_goodbye};
    struct dns_reader r;
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        size_t n = from_hex(all[i]);
        for (size_t k = 0; k < n; k++) assert_int_equal(dns_read(&r, bytes, k), -1);
        bytes[n] = 0;
        assert_int_equal(dns_read(&r, bytes, n + 1), -1);
        assert_int_equal(dns_read(&r, bytes, n), 0);
    }
}

static void test_malformed(void **state) {
    static const char *const bad[] = {
        "000000000001000000000000c00c000c0001",                       // a name that points to itself
        "000000000001000000000000c00e0000c00c000c0001",               // forward, and back
        "000000000001000000000000c000000c0001",                       // into the head
        "00000000000100000000000040000c0001",                         // a label of a reserved kind
        "000008000000000000000000",                                   // an operation other than a query
        "000000030000000000000000",                                   // a code other than none
        "00008400000000010000000000000100010000000000030a4d00",       // an address of three bytes
        "000084000000000100000000000010000100000000000405616263",     // a text that is cut off
        "0000840000000001000000000000100001000000000000",             // no text at all
        "00008400000000010000000000002100010000000000060000000000ff", // a service without a target
        "000084000000000100000000000c000100000000000200ff",           // something behind a target
        "000084000000000100000000002f000100000000000400000000",       // types of no bytes
        "0000840000000001000000000001000100000000ffff0a4d0004",       // longer than the message
    };
    struct dns_reader r;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!dns_read(&r, bytes, from_hex(bad[i]))) fail_msg("accepted: %s", bad[i]);
}

static void test_names(void **state) {
    char label[DNS_LABEL + 2];
    struct dns_name a = name_of("A.b", "_TCP", "local", NULL), b = name_of("a.B", "_tcp", "LOCAL", NULL), c;
    const struct dns_name parent = name_of("_tcp", "local", NULL, NULL);
    (void)state;
    assert_true(dns_name_same(&a, &b));
    assert_true(dns_name_is_child(&a, &parent));
    assert_false(dns_name_is_child(&parent, &parent));
    c = name_of("x", "a.b", "_tcp", "local");
    assert_false(dns_name_is_child(&c, &parent)); // a grandchild
    memset(label, 'l', sizeof label);
    label[DNS_LABEL + 1] = 0;
    assert_int_equal(dns_name_make(&c, label, (char *)NULL), -1);
    label[DNS_LABEL] = 0;
    assert_int_equal(dns_name_make(&c, label, label, label, label, (char *)NULL), -1);
    assert_int_equal(dns_name_make(&c, label, label, label, (char *)NULL), 0);
    assert_int_equal(dns_name_make(&c, "", (char *)NULL), -1);
}

static void add(struct dns_writer *w, const struct dns_record *rr) {
    assert_int_equal(dns_add_record(w, DNS_ANSWER, rr), 0);
}

static void test_written_is_read(void **state) {
    struct dns_writer w;
    struct dns_reader r;
    struct dns_record got, srv = {.type = DNS_SRV, .class = DNS_IN, .flush = true, .ttl = 20, .port = 7421};
    struct dns_record ptr = {.type = DNS_PTR, .class = DNS_IN, .ttl = 4500};
    (void)state;
    srv.name = ptr.target = name_of("prime", "_nebulus", "_tcp", "local");
    srv.target = name_of("host", "local", NULL, NULL);
    ptr.name = name_of("_nebulus", "_tcp", "local", NULL);
    dns_write(&w, 7, DNS_RESPONSE);
    add(&w, &ptr);
    add(&w, &srv);
    // 12 head; 21 name + 10 + 8 target; 2 pointer + 10 + 6 + 7 target
    assert_int_equal(w.n, 12 + 39 + 25);
    assert_int_equal(dns_read(&r, w.data, w.n), 0);
    assert_int_equal(r.id, 7);
    assert_true(dns_next_record(&r, &got));
    assert_true(dns_same_data(&got, &ptr) && dns_name_same(&got.name, &ptr.name));
    assert_true(dns_next_record(&r, &got));
    assert_true(dns_same_data(&got, &srv) && got.flush && got.ttl == 20);
    got.port++;
    assert_false(dns_same_data(&got, &srv));
}

// What does not fit leaves the message as it was.
static void test_full(void **state) {
    struct dns_writer w;
    struct dns_reader r;
    struct dns_record rr = {.type = DNS_TXT, .class = DNS_IN, .len = 200}, got;
    size_t n = 0;
    (void)state;
    rr.data[0] = 199;
    dns_write(&w, 0, DNS_RESPONSE);
    for (char label[] = "a"; n < 100; label[0]++, n++) {
        rr.name = name_of(label, "text", "local", NULL);
        if (dns_add_record(&w, DNS_ANSWER, &rr)) break;
    }
    assert_int_equal(n, 6);
    assert_int_equal(dns_read(&r, w.data, w.n), 0);
    for (n = 0; dns_next_record(&r, &got); n++) assert_true(dns_same_data(&got, &rr));
    assert_int_equal(n, 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_avahi_probe),     cmocka_unit_test(test_avahi_announcement),
        cmocka_unit_test(test_cut_messages),    cmocka_unit_test(test_avahi_question_and_goodbye),
        cmocka_unit_test(test_malformed),       cmocka_unit_test(test_names),
        cmocka_unit_test(test_written_is_read), cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// discover/dns and discover/mdns: what comes from port 5353. An input that begins with 0xFF is several messages, each
// behind its length in two bytes; else it is one. What is read must be written as it was read, and a node that hears it
// must go on, within its bounds.
#include "base/clock.h"
#include "discover/dns.h"
#include "discover/mdns.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINK = 1, SENT_MOST = 200 }; // messages in the seconds that an input lasts
static size_t sent;

static void on_send(void *arg, unsigned link, unsigned families, const struct mdns_from *to, const void *data,
                    size_t n) {
    struct dns_reader r;
    (void)arg, (void)to;
    if (link != LINK || !families || dns_read(&r, data, n) || ++sent > SENT_MOST) abort();
}

static uint32_t on_random(void *arg) { return ++*(uint32_t *)arg; }

static void check_same(const struct dns_record *a, const struct dns_record *b) {
    if (!dns_name_same(&a->name, &b->name) || !dns_same_data(a, b) || a->ttl != b->ttl || a->flush != b->flush) abort();
}

static void check_codec(const uint8_t *data, size_t size) {
    struct dns_reader r, again;
    struct dns_writer w;
    struct dns_record rr, other;
    if (dns_read(&r, data, size)) return;
    while (dns_next_record(&r, &rr)) {
        if (rr.class != DNS_IN) continue; // its data are not kept
        dns_write(&w, 0, 0);
        if (dns_add_record(&w, DNS_ANSWER, &rr)) continue; // longer than what is sent
        if (dns_read(&again, w.data, w.n)) {
            bool cut = !rr.len && !rr.target.len; // data beyond DNS_RDATA
            if (!cut && !(rr.type == DNS_NSEC && !rr.len)) abort();
            continue;
        }
        if (!dns_next_record(&again, &other)) abort();
        check_same(&rr, &other);
    }
}

static void hear(struct mdns *m, const uint8_t *data, size_t size, uint64_t *now) {
    struct mdns_from from = {.port = 5353, .address = {.family = MDNS_FOUR, .ip = {10, 0, 0, 9}}};
    if (size && data[0] & 1) from.port = 1234;
    mdns_receive(m, LINK, &from, data, size, *now);
    for (int i = 0; i < 8; i++) {
        uint64_t due = mdns_run(m, *now);
        if (due <= *now) abort();
        *now = due < *now + NS_PER_S ? due : *now + NS_PER_S;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct mdns_address own = {.family = MDNS_FOUR, .prefix = 24, .ip = {10, 0, 0, 1}};
    static const struct about about = {.name = "mine", .version = "1"};
    static struct mdns_node nodes[MDNS_SERVICES];
    uint32_t random = 0;
    uint64_t now = 1000 * NS_PER_S;
    const struct mdns_io io = {.send = on_send, .random = on_random, .arg = &random};
    struct mdns *m = mdns_new(&io);
    if (!m) abort();
    sent = 0;
    mdns_link(m, LINK, &own, 1, 1, now);
    mdns_publish(m, &about, 7421, now);
    if (size && data[0] == 0xFF) {
        for (size_t at = 1, n; at + 2 <= size; at += n) {
            n = (size_t)data[at] << 8 | data[at + 1];
            at += 2;
            if (n > size - at) n = size - at;
            if (sent < SENT_MOST / 2) hear(m, data + at, n, &now);
        }
    } else {
        check_codec(data, size);
        now += 5 * NS_PER_S;
        while (mdns_run(m, now) <= now + NS_PER_S) now += NS_PER_S; // until it has claimed its name
        hear(m, data, size, &now);
    }
    for (size_t n = mdns_nodes(m, nodes, MDNS_SERVICES), i = 0; i < n; i++)
        if (nodes[i].n_places > MDNS_ADDRESSES || strlen(nodes[i].label) > DNS_LABEL) abort();
    mdns_goodbye(m, now);
    free(m);
    return 0;
}

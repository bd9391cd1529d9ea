#include "discover/mdns.h"
#include "discover/mdns_internal.h"

#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- sending
// FNV-1a (64 bits): enough to know one's own words again.
static uint64_t hash(const uint8_t *p, size_t n) {
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001B3u;
    return h;
}

void mdns_send(struct mdns *m, unsigned link, unsigned families, const struct mdns_from *to, struct dns_writer *w) {
    // a question may be another node's, word for word; it is no harm to hear one's own
    bool own = w->data[2] & DNS_RESPONSE >> 8 || w->counts[DNS_AUTHORITY];
    if (own) m->echoes[m->n_echoes++ % ECHOES] = hash(w->data, w->n);
    m->counts.sent++;
    m->io.send(m->io.arg, link, families, to, w->data, w->n);
}

static bool is_echo(const struct mdns *m, const uint8_t *data, size_t n) {
    uint64_t h = hash(data, n);
    for (size_t i = 0; i < ECHOES && i < m->n_echoes; i++)
        if (m->echoes[i] == h) return true;
    return false;
}

uint64_t mdns_between(struct mdns *m, unsigned least_ms, unsigned most_ms) {
    return least_ms * NS_PER_MS + m->io.random(m->io.arg) % ((most_ms - least_ms) * NS_PER_MS);
}

// ---------------------------------------------------------------- links
struct link *mdns_find_link(struct mdns *m, unsigned number) {
    for (size_t i = 0; i < MDNS_LINKS; i++)
        if (m->links[i].used && m->links[i].number == number) return &m->links[i];
    return NULL;
}

static struct link *spare_link(struct mdns *m) {
    for (size_t i = 0; i < MDNS_LINKS; i++)
        if (!m->links[i].used) return &m->links[i];
    return NULL;
}

static bool same_addresses(const struct link *l, const struct mdns_address *own, size_t n, size_t n_told) {
    return l->n_own == n && l->n_told == n_told && !memcmp(l->own, own, n * sizeof *own);
}

void mdns_link(struct mdns *m, unsigned number, const struct mdns_address *own, size_t n, size_t n_told, uint64_t now) {
    struct link *l = mdns_find_link(m, number);
    bool is_new = !l;
    if (n > MDNS_ADDRESSES) n = MDNS_ADDRESSES;
    if (n_told > n) n_told = n;
    if (!l && !(l = spare_link(m))) return;
    if (is_new) *l = (struct link){.used = true, .number = number};
    if (!is_new && same_addresses(l, own, n, n_told)) return;
    bool silent = !l->n_told;
    memcpy(l->own, own, n * sizeof *own);
    l->n_own = n;
    l->n_told = n_told;
    ask_restart(m, l, now);
    if (is_new || silent || !n_told)
        claim_restart(m, l, now);
    else
        claim_announce(m, l, now);
}

void mdns_unlink(struct mdns *m, unsigned number, uint64_t now) {
    struct link *l = mdns_find_link(m, number);
    if (!l) return;
    l->used = false;
    heard_unlink(m, number, now);
}

// ---------------------------------------------------------------- this node
static void restart_all(struct mdns *m, uint64_t now) {
    for (size_t i = 0; i < MDNS_LINKS; i++)
        if (m->links[i].used) claim_restart(m, &m->links[i], now);
}

static void goodbye_all(struct mdns *m, uint64_t now) {
    for (size_t i = 0; i < MDNS_LINKS; i++)
        if (m->links[i].used) claim_goodbye(m, &m->links[i], now);
}

void mdns_publish(struct mdns *m, const struct about *about, uint16_t port, uint64_t now) {
    bool publishing = about && *about->name, was = m->publishing;
    if (m->left || (!publishing && !was)) return;
    bool renamed = publishing != was || (was && strcmp(about->name, m->about.name) != 0);
    if (was && publishing && !renamed && port == m->port && !memcmp(about, &m->about, sizeof *about)) return;
    if (renamed && was) goodbye_all(m, now);
    m->publishing = publishing;
    if (!publishing) return;
    m->about = *about;
    m->text_len = about_write(about, m->text);
    m->port = port;
    if (renamed) {
        m->suffix = 0;
        own_name(m);
        restart_all(m, now);
        return;
    }
    for (size_t i = 0; i < MDNS_LINKS; i++)
        if (m->links[i].used) claim_announce(m, &m->links[i], now);
}

void mdns_goodbye(struct mdns *m, uint64_t now) {
    if (m->publishing && !m->left) goodbye_all(m, now);
    m->left = true;
}

void mdns_wake(struct mdns *m, uint64_t now) {
    restart_all(m, now);
    for (size_t i = 0; i < MDNS_LINKS; i++)
        if (m->links[i].used) ask_restart(m, &m->links[i], now);
}

bool mdns_is_near(const struct link *l, const struct mdns_address *a) {
    for (size_t i = 0; i < l->n_own; i++) {
        const struct mdns_address *own = &l->own[i];
        unsigned bytes = own->prefix / 8, rest = own->prefix % 8;
        if (own->family != a->family || memcmp(own->ip, a->ip, bytes) != 0) continue;
        if (!rest || (own->ip[bytes] ^ a->ip[bytes]) >> (8 - rest) == 0) return true;
    }
    return false;
}

bool mdns_same_address(const struct mdns_address *a, const struct mdns_address *b) {
    return a->family == b->family && !memcmp(a->ip, b->ip, sizeof a->ip);
}

// ---------------------------------------------------------------- what comes in
// A flood shall not keep the thread from its other work, nor this node from hearing the others: senders are dealt into
// shares, anew each second, so that who shares with a flood does so for a second (stochastic fairness: McKenney, 1990).
static bool is_too_much(struct link *l, const struct mdns_from *from, size_t n, uint64_t now) {
    if (now - l->second_ns >= NS_PER_S) {
        l->second_ns = now;
        l->deal = hash((const uint8_t *)&now, sizeof now) | 1; // nanoseconds of this machine's, which no sender knows
        memset(l->bytes, 0, sizeof l->bytes);
    }
    uint64_t sender = hash(from->address.ip, sizeof from->address.ip) * l->deal;
    size_t *bytes = &l->bytes[(sender >> 32) % MDNS_SHARES];
    *bytes += n;
    return *bytes > MDNS_BYTES_S;
}

void mdns_receive(struct mdns *m, unsigned number, const struct mdns_from *from, const void *data, size_t n,
                  uint64_t now) {
    struct link *l = mdns_find_link(m, number);
    struct dns_reader r;
    if (!l || m->left || is_echo(m, data, n)) return;
    m->counts.received++;
    if (is_too_much(l, from, n, now)) {
        m->counts.refused++;
        return;
    }
    if (dns_read(&r, data, n)) {
        m->counts.malformed++;
        return;
    }
    if (!(r.flags & DNS_RESPONSE)) {
        claim_probe_heard(m, l, &r, now);
        ask_heard(m, l, from->address.family, &r, now);
        reply_query(m, l, from, &r, now);
    } else if (from->port == MDNS_PORT) { // section 6: others are to be ignored
        claim_response(m, l, &r, now);
        reply_heard(m, l, &r);
        heard_response(m, l, &from->address, &r, now);
    }
}

uint64_t mdns_earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

uint64_t mdns_run(struct mdns *m, uint64_t now) {
    uint64_t due = MDNS_NEVER;
    if (m->left) return due;
    due = mdns_earlier(due, heard_run(m, now));
    for (size_t i = 0; i < MDNS_LINKS; i++) {
        struct link *l = &m->links[i];
        if (!l->used) continue;
        due = mdns_earlier(due, claim_run(m, l, now));
        due = mdns_earlier(due, reply_run(m, l, now));
        due = mdns_earlier(due, ask_run(m, l, now));
    }
    return due;
}

// ---------------------------------------------------------------- the whole
struct mdns *mdns_new(const struct mdns_io *io) {
    struct mdns *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->io = *io;
    if (dns_name_make(&m->type, "_nebulus", "_tcp", "local", (char *)NULL) ||
        dns_name_make(&m->types, "_services", "_dns-sd", "_udp", "local", (char *)NULL)) {
        free(m);
        return NULL;
    }
    own_new_host(m);
    return m;
}

void mdns_count(const struct mdns *m, struct mdns_counts *out) {
    *out = m->counts;
    out->claimed = m->publishing;
    for (size_t i = 0; i < MDNS_LINKS; i++) {
        const struct link *l = &m->links[i];
        if (l->used && l->n_told && l->claim != CLAIM_ANNOUNCE && l->claim != CLAIM_DONE) out->claimed = false;
    }
}

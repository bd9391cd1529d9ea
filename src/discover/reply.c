// Answers to questions (RFC 6762 section 6 and 7).
#include "discover/mdns_internal.h"

#include <string.h>

enum {
    LEGACY_TTL_S = 10,
    SHARED_LEAST_MS = 20,
    SHARED_MOST_MS = 120,
    TRUNCATED_LEAST_MS = 400,
    TRUNCATED_MOST_MS = 500
};
enum { AGAIN_MS = 1000, DEFEND_AGAIN_MS = 250 };

// ---------------------------------------------------------------- to the group
static void add(struct mdns *m, const struct link *l, unsigned families, struct dns_writer *w, enum dns_section section,
                enum own kind, uint32_t ttl) {
    struct dns_record rr[MDNS_ADDRESSES];
    size_t n = own_records(m, l, kind, rr);
    for (size_t i = 0; i < n; i++) {
        rr[i].ttl = ttl;
        if (!dns_add_record(w, section, &rr[i])) continue;
        if (section == DNS_ADDITIONAL) return; // they need not be there
        mdns_send(m, l->number, families, NULL, w);
        dns_write(w, 0, DNS_RESPONSE | DNS_AUTHORITATIVE);
        if (dns_add_record(w, section, &rr[i])) return; // no record is as long as a message
    }
}

void reply_send(struct mdns *m, struct link *l, unsigned families, unsigned set, uint32_t ttl, uint64_t now) {
    struct dns_writer w;
    unsigned beside = ttl ? own_beside(set) : 0;
    dns_write(&w, 0, DNS_RESPONSE | DNS_AUTHORITATIVE);
    for (enum own k = 0; k < OWN_KINDS; k++)
        if (set & OWN_SET(k)) add(m, l, families, &w, DNS_ANSWER, k, ttl);
    for (enum own k = 0; k < OWN_KINDS; k++)
        if (beside & OWN_SET(k)) add(m, l, families, &w, DNS_ADDITIONAL, k, ttl);
    for (enum own k = 0; k < OWN_KINDS; k++) {
        if (!((set | beside) & OWN_SET(k))) continue;
        if (families & MDNS_FOUR) l->sent_ns[0][k] = now;
        if (families & MDNS_SIX) l->sent_ns[1][k] = now;
    }
    if (w.counts[DNS_ANSWER]) mdns_send(m, l->number, families, NULL, &w);
}

// Those of a set that were not sent to the group within the last `ms`.
static unsigned not_sent_within(const struct link *l, unsigned family, unsigned set, unsigned ms, uint64_t now) {
    const uint64_t *sent = l->sent_ns[family == MDNS_SIX];
    unsigned left = 0;
    for (enum own k = 0; k < OWN_KINDS; k++)
        if (set & OWN_SET(k) && (!sent[k] || now - sent[k] >= ms * NS_PER_MS)) left |= OWN_SET(k);
    return left;
}

// ---------------------------------------------------------------- to one asker
static bool may_answer_one(struct link *l, const struct mdns_from *to, uint64_t now) {
    if (!mdns_is_near(l, &to->address)) return false; // a forger may have named it
    if (now - l->unicast_ns >= NS_PER_S) {
        l->unicast_ns = now;
        l->unicasts = 0;
    }
    return l->unicasts++ < MDNS_UNICASTS;
}

static void add_for_one(struct dns_writer *w, enum dns_section section, const struct dns_record *rr, bool legacy) {
    struct dns_record one = *rr;
    if (legacy) {
        one.flush = false;
        one.ttl = LEGACY_TTL_S;
    }
    if (dns_add_record(w, section, &one)) return; // what does not fit is asked for again
}

// `legacy`: a simple resolver, that expects its id and question back (section 6.7).
static void send_to_one(struct mdns *m, struct link *l, const struct mdns_from *to, unsigned set, bool legacy,
                        struct dns_reader *r, uint64_t now) {
    struct dns_writer w;
    struct dns_record rr[MDNS_ADDRESSES];
    struct dns_question q;
    if (!set || !may_answer_one(l, to, now)) return;
    dns_write(&w, legacy ? r->id : 0, DNS_RESPONSE | DNS_AUTHORITATIVE);
    dns_rewind(r);
    while (legacy && dns_next_question(r, &q))
        if (dns_add_question(&w, &q)) break;
    for (int beside = 0; beside < 2; beside++) {
        unsigned now_set = beside ? own_beside(set) : set;
        for (enum own k = 0; k < OWN_KINDS; k++) {
            size_t n = now_set & OWN_SET(k) ? own_records(m, l, k, rr) : 0;
            for (size_t i = 0; i < n; i++) add_for_one(&w, beside ? DNS_ADDITIONAL : DNS_ANSWER, &rr[i], legacy);
        }
    }
    if (w.counts[DNS_ANSWER]) mdns_send(m, l->number, to->address.family, to, &w);
}

// ---------------------------------------------------------------- questions
// What the asker knows already, for at least half of its time, is not told (section 7.1).
static unsigned known(const struct mdns *m, const struct link *l, struct dns_reader *r) {
    struct dns_record have, own[MDNS_ADDRESSES];
    size_t found[OWN_KINDS] = {0};
    unsigned set = 0;
    dns_rewind(r);
    while (dns_next_record(r, &have)) {
        if (have.section != DNS_ANSWER || have.ttl < MDNS_TTL_S / 2) continue;
        for (enum own k = 0; k < OWN_KINDS; k++) {
            size_t n = own_is_of(k, have.type) ? own_records(m, l, k, own) : 0;
            for (size_t i = 0; i < n; i++)
                found[k] += dns_name_same(&own[i].name, &have.name) && dns_same_data(&own[i], &have);
            if (n && found[k] >= n) set |= OWN_SET(k);
        }
    }
    return set;
}

static void wait_with(struct mdns *m, struct link *l, unsigned set, const struct mdns_from *from, bool truncated,
                      uint64_t now) {
    struct pending *p = &l->pending;
    uint64_t wait = 0;
    if (truncated)
        wait = mdns_between(m, TRUNCATED_LEAST_MS, TRUNCATED_MOST_MS);
    else if (set & OWN_SHARED)
        wait = mdns_between(m, SHARED_LEAST_MS, SHARED_MOST_MS);
    if (!p->set || now + wait < p->due_ns || truncated) p->due_ns = now + wait;
    p->asked_ns = now;
    p->set |= set;
    p->families |= from->address.family;
    p->truncated = truncated;
    p->from = *from;
}

static bool same_asker(const struct mdns_from *a, const struct mdns_from *b) {
    return a->port == b->port && !memcmp(a->address.ip, b->address.ip, sizeof a->address.ip);
}

void reply_query(struct mdns *m, struct link *l, const struct mdns_from *from, struct dns_reader *r, uint64_t now) {
    struct dns_question q;
    unsigned family = from->address.family, group = 0, one = 0;
    bool legacy = from->port != MDNS_PORT, probe = r->counts[DNS_AUTHORITY];
    if (!m->publishing || !l->n_told || (l->claim != CLAIM_ANNOUNCE && l->claim != CLAIM_DONE)) return;
    dns_rewind(r);
    while (dns_next_question(r, &q)) *(q.unicast || legacy ? &one : &group) |= own_asked(m, l, &q);
    unsigned has = known(m, l, r);
    if (l->pending.truncated && same_asker(&l->pending.from, from)) l->pending.set &= ~has;
    one &= ~has;
    group &= ~has;
    if (!legacy) { // the group is to hear it now and then, too (section 5.4)
        unsigned seldom = not_sent_within(l, family, one, MDNS_TTL_S * 1000 / 4, now);
        group |= seldom;
        one &= ~seldom;
    }
    send_to_one(m, l, from, one, legacy, r, now);
    if (probe) group = not_sent_within(l, family, group, DEFEND_AGAIN_MS, now);
    if (!group) return;
    if (probe)
        reply_send(m, l, family, group, MDNS_TTL_S, now);
    else
        wait_with(m, l, group, from, r->flags & DNS_TRUNCATED, now);
}

// Of shared records only the one that names the type is the same from every node (section 7.4).
void reply_heard(struct mdns *m, struct link *l, struct dns_reader *r) {
    struct dns_record rr, own[MDNS_ADDRESSES];
    if (!(l->pending.set & OWN_SET(OWN_ENUM)) || !own_records(m, l, OWN_ENUM, own)) return;
    dns_rewind(r);
    while (dns_next_record(r, &rr))
        if (rr.section == DNS_ANSWER && rr.ttl >= MDNS_TTL_S && dns_name_same(&rr.name, &own->name) &&
            dns_same_data(&rr, own))
            l->pending.set &= ~OWN_SET(OWN_ENUM);
}

// Of what waits, that which was not sent since it was asked for; *free_ns: when no record of it was sent within a
// second.
static unsigned unanswered(const struct link *l, uint64_t *free_ns) {
    const struct pending *p = &l->pending;
    unsigned left = 0;
    *free_ns = 0;
    for (enum own k = 0; k < OWN_KINDS; k++)
        for (int f = 0; f < 2 && p->set & OWN_SET(k); f++) {
            uint64_t sent = l->sent_ns[f][k];
            if (!(p->families & (f ? MDNS_SIX : MDNS_FOUR)) || sent > p->asked_ns) continue;
            left |= OWN_SET(k);
            if (sent && sent + AGAIN_MS * NS_PER_MS > *free_ns) *free_ns = sent + AGAIN_MS * NS_PER_MS;
        }
    return left;
}

// Who asks within a second of an answer has missed it: it is not forgotten, but waits until the second is over.
uint64_t reply_run(struct mdns *m, struct link *l, uint64_t now) {
    struct pending *p = &l->pending;
    uint64_t free_ns;
    if (!p->set) return MDNS_NEVER;
    if (p->due_ns > now) return p->due_ns;
    unsigned due = m->publishing && l->n_told ? unanswered(l, &free_ns) : 0; // it may have been announced meanwhile
    if (due && free_ns > now) return p->due_ns = free_ns;
    unsigned families = p->families;
    *p = (struct pending){.set = 0};
    if (due) reply_send(m, l, families, due, MDNS_TTL_S, now);
    return MDNS_NEVER;
}

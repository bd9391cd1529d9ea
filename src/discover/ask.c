// Questions: who is there, who still is, and where they are (RFC 6762 section 5).
#include "discover/mdns_internal.h"

enum { SAME_MS = 900 }; // a question counts as asked for so long: less than the shortest pause between two of ours
// Hardly less than a second apart, in which nobody answers again; one more than RFC 6762 has, as each may be lost.
static const unsigned percents[PERCENTS] = {75, 81, 86, 91, 96};

struct questions {
    struct dns_question list[ASK_MOST];
    size_t n;
    unsigned families;
    unsigned who; // families over which the type itself is asked for
};

static void ask_for(struct questions *q, const struct dns_name *name, enum dns_type type, unsigned families) {
    q->families |= families;
    for (size_t i = 0; i < q->n; i++)
        if (q->list[i].type == type && dns_name_same(&q->list[i].name, name)) return;
    if (q->n < ASK_MOST) q->list[q->n++] = (struct dns_question){.name = *name, .type = type, .class = DNS_IN};
}

// When it is to be asked for next, if it lives.
static uint64_t refresh_at(const struct life *life) {
    if (!life->ttl_ms || life->asked >= PERCENTS) return MDNS_NEVER;
    return life->heard_ns + life->ttl_ms * (percents[life->asked] * 10 + life->jitter) / 1000 * NS_PER_MS;
}

// Whether it is due now, and over which families; it counts as asked for then.
static unsigned take_due(struct life *life, unsigned first, uint64_t now, uint64_t *next) {
    unsigned families = 0;
    while (refresh_at(life) <= now) {
        families |= life->asked > first ? MDNS_BOTH : life->families;
        life->asked++;
    }
    *next = mdns_earlier(*next, refresh_at(life));
    return families;
}

// What is missing of an instance that was named: asked for after longer and longer pauses.
static uint64_t ask_missing(const struct mdns *m, struct heard *h, struct questions *q, uint64_t now) {
    enum { DOUBLINGS = 6 };
    bool located = false;
    if (!h->ptr.ttl_ms) return MDNS_NEVER;
    if (h->want_ns > now) return h->complete ? MDNS_NEVER : h->want_ns;
    for (size_t i = 0; i < MDNS_HOSTS && !located && h->srv.ttl_ms; i++)
        located = m->hosts[i].life.ttl_ms && m->hosts[i].link == h->link && dns_name_same(&m->hosts[i].host, &h->host);
    h->complete = h->srv.ttl_ms && h->txt.ttl_ms && located;
    if (h->complete) {
        h->want_ns = now + NS_PER_S; // the search above is not for every message that comes in
        return MDNS_NEVER;
    }
    if (!h->srv.ttl_ms) ask_for(q, &h->name, DNS_SRV, MDNS_BOTH);
    if (!h->txt.ttl_ms) ask_for(q, &h->name, DNS_TXT, MDNS_BOTH);
    if (h->srv.ttl_ms && !located) {
        ask_for(q, &h->host, DNS_A, MDNS_BOTH);
        ask_for(q, &h->host, DNS_AAAA, MDNS_BOTH);
    }
    h->want_ns = now + (NS_PER_S << h->wanted);
    if (h->wanted < DOUBLINGS) h->wanted++;
    return h->want_ns;
}

static uint64_t gather(struct mdns *m, struct link *l, struct questions *q, uint64_t now) {
    uint64_t next = MDNS_NEVER;
    for (size_t i = 0; i < MDNS_SERVICES; i++) {
        struct heard *h = &m->heard[i];
        if (!h->used || h->guest || h->link != l->number) continue;
        q->who |= take_due(&h->ptr, 0, now, &next);
        unsigned srv = take_due(&h->srv, 1, now, &next), txt = take_due(&h->txt, 1, now, &next);
        if (srv) ask_for(q, &h->name, DNS_SRV, srv);
        if (txt) ask_for(q, &h->name, DNS_TXT, txt);
        next = mdns_earlier(next, ask_missing(m, h, q, now));
    }
    for (size_t i = 0; i < MDNS_HOSTS; i++) {
        struct heard_host *a = &m->hosts[i];
        unsigned due = a->link == l->number ? take_due(&a->life, 1, now, &next) : 0;
        if (due) ask_for(q, &a->host, a->address.family == MDNS_FOUR ? DNS_A : DNS_AAAA, due);
    }
    if (l->ask_ns <= now) {
        uint64_t asked = l->asked_ns[0] > l->asked_ns[1] ? l->asked_ns[0] : l->asked_ns[1];
        bool needless =
            l->pause_ns > MDNS_TTL_S * NS_PER_S && asked && now - asked < l->pause_ns; // it is, for those known
        if (!needless) q->who = MDNS_BOTH;
        l->ask_ns = now + l->pause_ns;
        l->pause_ns = mdns_earlier(2 * l->pause_ns, MDNS_ASK_MOST_S * NS_PER_S);
    }
    return mdns_earlier(next, l->ask_ns);
}

// So one question serves all whose time is coming. This node itself is not among them: it hears its question, and
// answers with the others.
static void add_known(const struct mdns *m, const struct link *l, struct dns_writer *w, uint64_t now) {
    for (size_t i = 0; i < MDNS_SERVICES; i++) {
        const struct heard *h = &m->heard[i];
        uint64_t left_ms = h->link == l->number ? heard_known_ms(h, now) : 0;
        if (!left_ms) continue;
        struct dns_record rr = {.name = m->type, .type = DNS_PTR, .class = DNS_IN, .target = h->name};
        rr.ttl = (uint32_t)(left_ms / 1000);
        if (dns_add_record(w, DNS_ANSWER, &rr)) return;
    }
}

static void send(struct mdns *m, struct link *l, const struct questions *q, uint64_t now) {
    const struct dns_question who = {.name = m->type, .type = DNS_PTR, .class = DNS_IN};
    struct dns_writer w;
    dns_write(&w, 0, 0);
    if (q->who && dns_add_question(&w, &who)) return; // it fits
    for (size_t i = 0; i < q->n; i++) {
        if (!dns_add_question(&w, &q->list[i])) continue;
        mdns_send(m, l->number, q->families | q->who, NULL, &w);
        dns_write(&w, 0, 0);
        if (dns_add_question(&w, &q->list[i])) return; // likewise
    }
    if (q->who) add_known(m, l, &w, now);
    mdns_send(m, l->number, q->families | q->who, NULL, &w);
    for (int f = 0; f < 2; f++)
        if (q->who & (f ? MDNS_SIX : MDNS_FOUR)) l->asked_ns[f] = now;
}

uint64_t ask_run(struct mdns *m, struct link *l, uint64_t now) {
    struct questions q = {.n = 0};
    uint64_t next = gather(m, l, &q, now);
    for (int f = 0; f < 2; f++) // another one has just asked the same (section 7.3)
        if (l->asked_ns[f] && now - l->asked_ns[f] < SAME_MS * NS_PER_MS) q.who &= ~(f ? MDNS_SIX : MDNS_FOUR);
    if (q.who || q.n) send(m, l, &q, now);
    return next;
}

void ask_restart(struct mdns *m, struct link *l, uint64_t now) {
    l->ask_ns = now + mdns_between(m, 20, 120);
    l->pause_ns = NS_PER_S;
}

// Counts as our own question where its asker knows nothing that we would not tell as known, too (section 7.3): what it
// knows is not answered, and where we have missed the last answer, nobody else asks for us.
void ask_heard(struct mdns *m, struct link *l, unsigned family, struct dns_reader *r, uint64_t now) {
    struct dns_question q;
    struct dns_record rr;
    bool same = false;
    if (r->flags & DNS_TRUNCATED) return;
    dns_rewind(r);
    while (dns_next_question(r, &q))
        same = same || (q.type == DNS_PTR && !q.unicast && dns_name_same(&q.name, &m->type));
    while (same && dns_next_record(r, &rr))
        if (rr.section == DNS_ANSWER && rr.type == DNS_PTR && !heard_knows(m, l->number, &rr.target, now) &&
            !(m->publishing && dns_name_same(&rr.target, &m->instance)))
            same = false;
    if (same) l->asked_ns[family == MDNS_SIX] = now;
}

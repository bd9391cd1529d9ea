// Names of this node's own: probing for them, announcing them, defending them (RFC 6762 sections 8 and 9).
#include "discover/mdns_internal.h"

#include <string.h>

enum { PROBES = 3, PROBE_MS = 250, ANNOUNCEMENTS = 3, ANNOUNCE_MS = 1000, LOST_MS = 1000 };
enum { CONFLICTS_WITHIN_S = 10, CONFLICTS_PAUSE_S = 5, TIE_MOST = 2 + MDNS_ADDRESSES };
static const unsigned announced = OWN_SET(OWN_ENUM) | OWN_SERVICE | OWN_HOST;

void claim_restart(struct mdns *m, struct link *l, uint64_t now) {
    bool often = m->conflicts >= CONFLICTS_MOST && now - m->conflict_ns < CONFLICTS_WITHIN_S * NS_PER_S;
    l->claim = m->publishing && l->n_told ? CLAIM_PROBE : CLAIM_NONE;
    l->step = 0;
    l->due_ns = now + (often ? CONFLICTS_PAUSE_S * NS_PER_S : mdns_between(m, 0, PROBE_MS));
    l->pending = (struct pending){.set = 0};
}

void claim_announce(struct mdns *m, struct link *l, uint64_t now) {
    (void)m;
    if (l->claim != CLAIM_ANNOUNCE && l->claim != CLAIM_DONE) return; // it will be, with what is new
    l->claim = CLAIM_ANNOUNCE;
    l->step = 0;
    l->due_ns = now;
    for (int family = 0; family < 2; family++)
        for (enum own k = 0; k < OWN_KINDS; k++) { // none of them twice in a second
            uint64_t sent = l->sent_ns[family][k];
            if (sent && announced & OWN_SET(k) && sent + ANNOUNCE_MS * NS_PER_MS > l->due_ns)
                l->due_ns = sent + ANNOUNCE_MS * NS_PER_MS;
        }
}

// What a question has brought forth meanwhile: it need not be told again yet.
static unsigned told_lately(const struct link *l, uint64_t now) {
    unsigned set = 0;
    for (int family = 0; family < 2; family++)
        for (enum own k = 0; k < OWN_KINDS; k++)
            if (l->sent_ns[family][k] && now - l->sent_ns[family][k] < ANNOUNCE_MS * NS_PER_MS) set |= OWN_SET(k);
    return set;
}

void claim_goodbye(struct mdns *m, struct link *l, uint64_t now) {
    if (l->claim == CLAIM_DONE || (l->claim == CLAIM_ANNOUNCE && l->step))
        reply_send(m, l, MDNS_BOTH, OWN_SERVICE | OWN_HOST, 0, now);
    l->claim = CLAIM_NONE;
}

// ---------------------------------------------------------------- conflicts
static void count_conflict(struct mdns *m, uint64_t now) {
    if (now - m->conflict_ns >= CONFLICTS_WITHIN_S * NS_PER_S) m->conflicts = 0;
    m->conflict_ns = now;
    m->conflicts++;
}

static void restart_links(struct mdns *m, uint64_t now) {
    for (size_t i = 0; i < MDNS_LINKS; i++)
        if (m->links[i].used && m->links[i].claim != CLAIM_NONE) claim_restart(m, &m->links[i], now);
}

// The same address of this node may be heard from another interface (section 14).
static bool is_own_address(const struct mdns *m, const struct dns_record *rr) {
    unsigned family = rr->type == DNS_A ? MDNS_FOUR : MDNS_SIX;
    if (rr->type != DNS_A && rr->type != DNS_AAAA) return false;
    for (size_t i = 0; i < MDNS_LINKS; i++)
        for (size_t k = 0; m->links[i].used && k < m->links[i].n_own; k++)
            if (m->links[i].own[k].family == family && !memcmp(m->links[i].own[k].ip, rr->data, rr->len)) return true;
    return false;
}

static bool contradicts(const struct mdns *m, const struct link *l, const struct dns_record *rr) {
    struct dns_record own[MDNS_ADDRESSES];
    bool instance = dns_name_same(&rr->name, &m->instance), host = dns_name_same(&rr->name, &m->host);
    if ((!instance && !host) || rr->class != DNS_IN || !rr->ttl || is_own_address(m, rr)) return false;
    bool ours = false; // a type that this node has there, too
    for (enum own k = OWN_SRV; k < OWN_KINDS; k++) {
        size_t n = own_is_of(k, rr->type) ? own_records(m, l, k, own) : 0;
        for (size_t i = 0; i < n; i++) {
            if (!dns_name_same(&own[i].name, &rr->name)) continue;
            if (dns_same_data(&own[i], rr)) return false;
            ours = ours || rr->type != DNS_NSEC;
        }
    }
    return ours || l->claim == CLAIM_PROBE;
}

void claim_response(struct mdns *m, struct link *l, struct dns_reader *r, uint64_t now) {
    struct dns_record rr;
    if (l->claim == CLAIM_NONE) return;
    dns_rewind(r);
    while (dns_next_record(r, &rr)) {
        if (!contradicts(m, l, &rr)) continue;
        count_conflict(m, now);
        if (l->claim == CLAIM_PROBE) { // it was somebody's first
            if (dns_name_same(&rr.name, &m->host))
                own_new_host(m);
            else {
                m->suffix++;
                own_name(m);
            }
        }
        restart_links(m, now);
        return;
    }
}

// ---------------------------------------------------------------- two that probe at the same time
struct proposal {
    struct dns_record rr[TIE_MOST];
    size_t n;
};

static int compare(const struct dns_record *a, const struct dns_record *b) {
    uint8_t x[DNS_RDATA + DNS_NAME], y[DNS_RDATA + DNS_NAME];
    if (a->class != b->class) return a->class < b->class ? -1 : 1;
    if (a->type != b->type) return a->type < b->type ? -1 : 1;
    size_t n = dns_rdata(a, x), k = dns_rdata(b, y);
    int order = memcmp(x, y, n < k ? n : k);
    return order ? order : n < k ? -1 : n > k;
}

static void propose(struct proposal *p, const struct dns_record *rr) {
    size_t at = p->n;
    if (p->n == TIE_MOST) return;
    while (at && compare(rr, &p->rr[at - 1]) < 0) at--;
    memmove(&p->rr[at + 1], &p->rr[at], (p->n++ - at) * sizeof *rr);
    p->rr[at] = *rr;
}

static int compare_all(const struct proposal *a, const struct proposal *b) {
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        int order = compare(&a->rr[i], &b->rr[i]);
        if (order) return order;
    }
    return a->n < b->n ? -1 : a->n > b->n;
}

// Section 8.2: the greater data win; whoever loses waits, and asks again.
static bool loses(const struct mdns *m, const struct link *l, struct dns_reader *r, const struct dns_name *name) {
    struct proposal theirs = {.n = 0}, ours = {.n = 0};
    struct dns_record rr, own[MDNS_ADDRESSES];
    dns_rewind(r);
    while (dns_next_record(r, &rr))
        if (rr.section == DNS_AUTHORITY && dns_name_same(&rr.name, name)) propose(&theirs, &rr);
    for (enum own k = OWN_SRV; k <= OWN_AAAA; k++) {
        size_t n = own_records(m, l, k, own);
        for (size_t i = 0; i < n; i++)
            if (dns_name_same(&own[i].name, name)) propose(&ours, &own[i]);
    }
    return theirs.n && compare_all(&ours, &theirs) < 0;
}

void claim_probe_heard(struct mdns *m, struct link *l, struct dns_reader *r, uint64_t now) {
    if (l->claim != CLAIM_PROBE || !r->counts[DNS_AUTHORITY]) return;
    if (!loses(m, l, r, &m->instance) && !loses(m, l, r, &m->host)) return;
    l->step = 0;
    l->due_ns = now + LOST_MS * NS_PER_MS;
}

// ---------------------------------------------------------------- the course
static void send_probe(struct mdns *m, const struct link *l) {
    struct dns_writer w;
    struct dns_record own[MDNS_ADDRESSES];
    struct dns_question q[] = {{.name = m->instance, .type = DNS_ANY, .class = DNS_IN},
                               {.name = m->host, .type = DNS_ANY, .class = DNS_IN}};
    dns_write(&w, 0, 0);
    for (int i = 0; i < 2; i++)
        if (dns_add_question(&w, &q[i])) return; // they fit
    for (enum own k = OWN_SRV; k <= OWN_AAAA; k++) {
        size_t n = own_records(m, l, k, own);
        for (size_t i = 0; i < n; i++) {
            own[i].flush = false;
            if (dns_add_record(&w, DNS_AUTHORITY, &own[i])) return; // likewise
        }
    }
    mdns_send(m, l->number, MDNS_BOTH, NULL, &w);
}

uint64_t claim_run(struct mdns *m, struct link *l, uint64_t now) {
    if (l->claim == CLAIM_NONE || l->claim == CLAIM_DONE) return MDNS_NEVER;
    if (l->due_ns > now) return l->due_ns;
    if (l->claim == CLAIM_PROBE && l->step < PROBES) {
        send_probe(m, l);
        l->step++;
        return l->due_ns = now + PROBE_MS * NS_PER_MS;
    }
    if (l->claim == CLAIM_PROBE) {
        l->claim = CLAIM_ANNOUNCE;
        l->step = 0;
    }
    reply_send(m, l, MDNS_BOTH, l->step ? announced & ~told_lately(l, now) : announced, MDNS_TTL_S, now);
    l->due_ns = now + (ANNOUNCE_MS * NS_PER_MS << l->step);
    if (++l->step < ANNOUNCEMENTS) return l->due_ns;
    l->claim = CLAIM_DONE;
    return MDNS_NEVER;
}

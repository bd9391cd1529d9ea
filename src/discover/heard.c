// What others say: instances of the service, and where they are.
#include "discover/mdns_internal.h"

#include <string.h>

enum { TTL_LEAST_S = 5, GOODBYE_MS = 1000 }; // shorter lives would have us ask without end
enum { SHARE = 8 };

// Where a record comes from.
struct source {
    struct mdns *m;
    const struct link *l;
    const struct mdns_address *address;
    uint64_t now;
};

// A sender that has n places gets another one while more than SHARE times as many are free: so there is always one for
// those that have none, without a fixed quota (dynamic thresholds: Choudhury and Hahne, 1998).
static bool may_have_more(size_t n, size_t spare) { return spare > SHARE * n; }

// The place of the next guest.
static size_t guest(const struct mdns *m) { return m->io.random(m->io.arg) % MDNS_GUESTS; }

uint64_t life_end(const struct life *life) {
    return life->ttl_ms ? life->heard_ns + life->ttl_ms * NS_PER_MS : MDNS_NEVER;
}

static void end_soon(struct life *life, uint64_t now) {
    if (life_end(life) <= now + GOODBYE_MS * NS_PER_MS || !life->ttl_ms) return;
    *life = (struct life){.heard_ns = now, .ttl_ms = GOODBYE_MS, .asked = PERCENTS};
}

// `first` of PERCENTS is when it is asked for again.
static void hear(struct mdns *m, struct life *life, uint32_t ttl, unsigned family, unsigned first, uint64_t now) {
    bool just = life->ttl_ms && now - life->heard_ns < NS_PER_S;
    if (!ttl) {
        end_soon(life, now);
        return;
    }
    if (ttl > MDNS_TTL_MOST_S) ttl = MDNS_TTL_MOST_S;
    if (ttl < TTL_LEAST_S) ttl = TTL_LEAST_S;
    // what comes over both families is asked for over one
    unsigned families = just && life->families == MDNS_FOUR ? MDNS_FOUR : family;
    *life = (struct life){.heard_ns = now,
                          .ttl_ms = ttl * 1000,
                          .families = (uint8_t)families,
                          .asked = (uint8_t)first,
                          .jitter = (uint8_t)(m->io.random(m->io.arg) % 21)};
}

// ---------------------------------------------------------------- instances
static struct heard *find(const struct mdns *m, unsigned link, const struct dns_name *name) {
    for (size_t i = 0; i < MDNS_SERVICES; i++) {
        const struct heard *h = &m->heard[i];
        if (h->used && h->link == link && dns_name_same(&h->name, name)) return (struct heard *)(uintptr_t)h;
    }
    return NULL;
}

uint64_t heard_known_ms(const struct heard *h, uint64_t now) {
    uint64_t end = life_end(&h->ptr);
    if (!h->used || end == MDNS_NEVER || end <= now) return 0;
    uint64_t left_ms = (end - now) / NS_PER_MS;
    return left_ms > h->ptr.ttl_ms * 3 / 4 ? left_ms : 0;
}

bool heard_knows(const struct mdns *m, unsigned link, const struct dns_name *instance, uint64_t now) {
    const struct heard *h = find(m, link, instance);
    return h && heard_known_ms(h, now);
}

static bool is_over(const struct heard *h) { return !h->ptr.ttl_ms && !h->srv.ttl_ms && !h->txt.ttl_ms; }

// A free place, or that of the one that is gone for longest; else a guest's.
static struct heard *spare(const struct source *s) {
    struct heard *best = NULL;
    size_t has = 0, vacant = 0;
    for (size_t i = MDNS_GUESTS; i < MDNS_SERVICES; i++) {
        struct heard *h = &s->m->heard[i];
        if (h->used && !is_over(h)) {
            has += h->link == s->l->number && mdns_same_address(&h->from, s->address);
            continue;
        }
        vacant++;
        if (!best || (best->used && (!h->used || h->since_ns < best->since_ns))) best = h;
    }
    if (may_have_more(has, vacant)) return best;
    s->m->counts.refused++;
    return &s->m->heard[guest(s->m)];
}

static struct heard *find_or_make(const struct source *s, const struct dns_name *name, uint32_t ttl) {
    struct heard *h = find(s->m, s->l->number, name);
    if (h || !ttl || !(h = spare(s))) return h;
    *h = (struct heard){.used = true, .link = s->l->number, .name = *name, .from = *s->address};
    h->guest = h < s->m->heard + MDNS_GUESTS;
    h->want_ns = s->now + mdns_between(s->m, 20, 120); // the rest may come by itself
    return h;
}

static bool is_own(const struct mdns *m, const struct dns_name *instance) {
    return m->publishing && dns_name_same(instance, &m->instance);
}

static void hear_service(const struct source *s, const struct dns_record *rr) {
    struct mdns *m = s->m;
    unsigned family = s->address->family;
    const struct dns_name *name = rr->type == DNS_PTR ? &rr->target : &rr->name;
    bool listed = rr->type != DNS_PTR || dns_name_same(&rr->name, &m->type);
    if (!listed || !dns_name_is_child(name, &m->type) || is_own(m, name)) return;
    struct heard *h = find_or_make(s, name, rr->ttl);
    if (!h) return;
    if (rr->type == DNS_PTR)
        hear(m, &h->ptr, rr->ttl, family, 0, s->now);
    else if (rr->type == DNS_SRV) {
        hear(m, &h->srv, rr->ttl, family, 1, s->now);
        h->host = rr->target;
        h->port = rr->port;
    } else if (rr->len) {
        hear(m, &h->txt, rr->ttl, family, 1, s->now);
        memcpy(h->text, rr->data, rr->len);
        h->text_len = rr->len;
    }
}

// ---------------------------------------------------------------- hosts
static bool is_wanted_host(const struct mdns *m, unsigned link, const struct dns_name *host) {
    for (size_t i = 0; i < MDNS_SERVICES; i++) {
        const struct heard *h = &m->heard[i];
        if (h->used && h->link == link && h->srv.ttl_ms && dns_name_same(&h->host, host)) return true;
    }
    return false;
}

static struct heard_host *host_place(const struct source *s, const struct dns_name *host,
                                     const struct mdns_address *address, uint32_t ttl) {
    struct heard_host *spare = NULL;
    size_t n = 0, has = 0, vacant = 0;
    for (size_t i = 0; i < MDNS_HOSTS; i++) {
        struct heard_host *a = &s->m->hosts[i];
        if (!a->life.ttl_ms) {
            if (i < MDNS_GUESTS) continue;
            if (!spare) spare = a;
            vacant++;
            continue;
        }
        if (a->link != s->l->number) continue;
        has += mdns_same_address(&a->from, s->address);
        if (!dns_name_same(&a->host, host)) continue;
        n++;
        if (mdns_same_address(&a->address, address)) return a;
    }
    if (!ttl) return NULL;
    if (n < MDNS_ADDRESSES && may_have_more(has, vacant)) return spare;
    s->m->counts.refused++;
    return n < MDNS_ADDRESSES ? &s->m->hosts[guest(s->m)] : NULL;
}

static void flush_others(struct mdns *m, unsigned link, const struct dns_record *rr, unsigned family, uint64_t now) {
    for (size_t i = 0; i < MDNS_HOSTS; i++) {
        struct heard_host *a = &m->hosts[i];
        if (a->life.ttl_ms && a->link == link && a->address.family == family && now - a->life.heard_ns >= NS_PER_S &&
            dns_name_same(&a->host, &rr->name))
            end_soon(&a->life, now);
    }
}

// Else anybody could have us knock at the doors of others.
static bool may_be_there(const struct source *s, const struct mdns_address *address) {
    if (mdns_is_near(s->l, address) || mdns_same_address(address, s->address)) return true;
    s->m->counts.refused++;
    return false;
}

static bool same_host(const struct heard_host *a, const struct dns_record *rr, const struct mdns_address *address) {
    return dns_name_same(&a->host, &rr->name) && mdns_same_address(&a->address, address);
}

static void hear_host(const struct source *s, const struct dns_record *rr) {
    struct mdns_address address = {.family = rr->type == DNS_A ? MDNS_FOUR : MDNS_SIX};
    unsigned link = s->l->number;
    memcpy(address.ip, rr->data, rr->len);
    if (!is_wanted_host(s->m, link, &rr->name) || !may_be_there(s, &address)) return;
    struct heard_host *a = host_place(s, &rr->name, &address, rr->ttl);
    if (a) {
        if (!a->life.ttl_ms || !same_host(a, rr, &address))
            *a = (struct heard_host){.link = link, .host = rr->name, .address = address, .from = *s->address};
        hear(s->m, &a->life, rr->ttl, s->address->family, 1, s->now);
    }
    if (rr->flush) flush_others(s->m, link, rr, address.family, s->now);
}

void heard_response(struct mdns *m, struct link *l, const struct mdns_address *from, struct dns_reader *r,
                    uint64_t now) {
    const struct source s = {.m = m, .l = l, .address = from, .now = now};
    struct dns_record rr;
    for (int hosts = 0; hosts < 2; hosts++) { // addresses count once it is known whose they are
        dns_rewind(r);
        while (dns_next_record(r, &rr)) {
            bool address = rr.type == DNS_A || rr.type == DNS_AAAA;
            if (rr.class != DNS_IN || rr.section == DNS_AUTHORITY || address != hosts) continue;
            if (address)
                hear_host(&s, &rr);
            else if (rr.type == DNS_PTR || rr.type == DNS_SRV || rr.type == DNS_TXT)
                hear_service(&s, &rr);
        }
    }
    heard_run(m, now);
}

// ---------------------------------------------------------------- time
static uint64_t expire(struct life *life, uint64_t now) {
    if (life_end(life) <= now) life->ttl_ms = 0;
    return life_end(life);
}

static uint64_t run_one(struct heard *h, uint64_t now) {
    uint64_t due = mdns_earlier(expire(&h->ptr, now), mdns_earlier(expire(&h->srv, now), expire(&h->txt, now)));
    bool there = h->ptr.ttl_ms && h->srv.ttl_ms;
    if (there != h->there) h->since_ns = now;
    h->there = there;
    if (!is_over(h)) return due;
    uint64_t forget = h->since_ns + MDNS_GONE_S * NS_PER_S;
    if (h->since_ns && forget > now) return forget;
    h->used = false;
    return MDNS_NEVER;
}

uint64_t heard_run(struct mdns *m, uint64_t now) {
    uint64_t due = MDNS_NEVER;
    for (size_t i = 0; i < MDNS_HOSTS; i++) due = mdns_earlier(due, expire(&m->hosts[i].life, now));
    for (size_t i = 0; i < MDNS_SERVICES; i++)
        if (m->heard[i].used) due = mdns_earlier(due, run_one(&m->heard[i], now));
    return due;
}

void heard_unlink(struct mdns *m, unsigned link, uint64_t now) {
    for (size_t i = 0; i < MDNS_HOSTS; i++)
        if (m->hosts[i].link == link) m->hosts[i].life.ttl_ms = 0;
    for (size_t i = 0; i < MDNS_SERVICES; i++) {
        struct heard *h = &m->heard[i];
        if (h->used && h->link == link) h->ptr.ttl_ms = h->srv.ttl_ms = h->txt.ttl_ms = 0;
    }
    heard_run(m, now);
}

// ---------------------------------------------------------------- the list
static void add_places(const struct mdns *m, const struct heard *h, struct mdns_node *out) {
    for (size_t i = 0; i < MDNS_HOSTS && out->n_places < MDNS_ADDRESSES; i++) {
        const struct heard_host *a = &m->hosts[i];
        if (a->life.ttl_ms && a->link == h->link && dns_name_same(&a->host, &h->host))
            out->places[out->n_places++] = (struct mdns_place){.link = h->link, .address = a->address};
    }
}

static void show(const struct heard *h, struct mdns_node *out) {
    size_t n = h->name.wire[0];
    *out = (struct mdns_node){.port = h->port, .from = h->from, .gone = !h->there, .since_ns = h->since_ns};
    for (size_t i = 0; i < n; i++) out->label[i] = h->name.wire[1 + i] ? (char)h->name.wire[1 + i] : ' ';
    about_read(&out->about, h->text, h->text_len);
}

// Whether another entry, of another interface, stands for this node: one that is there before one that is gone.
static bool is_told_elsewhere(const struct mdns *m, const struct heard *h) {
    for (size_t i = 0; i < MDNS_SERVICES; i++) {
        const struct heard *other = &m->heard[i];
        if (other == h || !other->used || !other->since_ns || !dns_name_same(&other->name, &h->name)) continue;
        if (other->there != h->there ? other->there : other < h) return true;
    }
    return false;
}

size_t mdns_nodes(const struct mdns *m, struct mdns_node *out, size_t max) {
    size_t n = 0;
    for (size_t i = 0; i < MDNS_SERVICES && n < max; i++) {
        const struct heard *h = &m->heard[i];
        if (!h->used || !h->since_ns || is_told_elsewhere(m, h)) continue;
        show(h, &out[n]);
        for (size_t k = 0; k < MDNS_SERVICES; k++)
            if (m->heard[k].used && m->heard[k].there && dns_name_same(&m->heard[k].name, &h->name))
                add_places(m, &m->heard[k], &out[n]);
        n++;
    }
    return n;
}

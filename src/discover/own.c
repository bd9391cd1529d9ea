// This node's own records.
#include "discover/mdns_internal.h"

#include <stdio.h>
#include <string.h>

enum { SUFFIX_COUNTED = 20, SUFFIX_MOST = 9999 };

// Counted up first; where many are taken, or somebody takes each, at random.
void own_name(struct mdns *m) {
    char label[DNS_LABEL + 1];
    unsigned number =
        m->suffix < SUFFIX_COUNTED ? m->suffix + 1 : SUFFIX_COUNTED + m->io.random(m->io.arg) % SUFFIX_MOST;
    if (m->suffix)
        snprintf(label, sizeof label, "%.*s (%u)", MDNS_LABEL - 1, m->about.name, number);
    else
        snprintf(label, sizeof label, "%.*s", MDNS_LABEL - 1, m->about.name);
    if (dns_name_make(&m->instance, label, "_nebulus", "_tcp", "local", (char *)NULL)) m->publishing = false;
    snprintf(m->counts.label, sizeof m->counts.label, "%s", label);
}

void own_new_host(struct mdns *m) {
    char label[DNS_LABEL + 1];
    uint32_t high = m->io.random(m->io.arg), low = m->io.random(m->io.arg);
    snprintf(label, sizeof label, "nebulus-%08x%08x", high, low);
    if (dns_name_make(&m->host, label, "local", (char *)NULL)) m->publishing = false;
}

static struct dns_record record(const struct dns_name *name, enum dns_type type, bool unique) {
    return (struct dns_record){.name = *name, .type = type, .class = DNS_IN, .flush = unique, .ttl = MDNS_TTL_S};
}

static size_t pointer(struct dns_record *out, const struct dns_name *name, const struct dns_name *to) {
    *out = record(name, DNS_PTR, false);
    out->target = *to;
    return 1;
}

static size_t addresses(const struct mdns *m, const struct link *l, unsigned family, struct dns_record *out) {
    size_t n = 0;
    for (size_t i = 0; i < l->n_told; i++) {
        if (l->own[i].family != family) continue;
        out[n] = record(&m->host, family == MDNS_FOUR ? DNS_A : DNS_AAAA, true);
        out[n].len = family == MDNS_FOUR ? 4 : 16;
        memcpy(out[n].data, l->own[i].ip, out[n].len);
        n++;
    }
    return n;
}

static bool has(const struct link *l, unsigned family) {
    for (size_t i = 0; i < l->n_told; i++)
        if (l->own[i].family == family) return true;
    return false;
}

static void set_type(struct dns_record *rr, unsigned type) { rr->data[2 + type / 8] |= (uint8_t)(0x80 >> type % 8); }

// That there are records of these types alone (RFC 6762 section 6.1).
static size_t others(struct dns_record *out, const struct dns_name *name, unsigned a, unsigned b) {
    *out = record(name, DNS_NSEC, true);
    out->target = *name;
    set_type(out, a);
    if (b) set_type(out, b);
    out->data[1] = (uint8_t)((a > b ? a : b) / 8 + 1);
    out->len = out->data[1] + 2;
    return 1;
}

bool own_is_of(enum own kind, unsigned type) {
    static const enum dns_type types[OWN_KINDS] = {
        [OWN_ENUM] = DNS_PTR, [OWN_PTR] = DNS_PTR,   [OWN_SRV] = DNS_SRV,         [OWN_TXT] = DNS_TXT,
        [OWN_A] = DNS_A,      [OWN_AAAA] = DNS_AAAA, [OWN_NO_SERVICE] = DNS_NSEC, [OWN_NO_HOST] = DNS_NSEC};
    return types[kind] == type;
}

size_t own_records(const struct mdns *m, const struct link *l, enum own kind, struct dns_record *out) {
    bool four = has(l, MDNS_FOUR), six = has(l, MDNS_SIX);
    switch (kind) {
    case OWN_ENUM: return pointer(out, &m->types, &m->type);
    case OWN_PTR: return pointer(out, &m->type, &m->instance);
    case OWN_SRV:
        *out = record(&m->instance, DNS_SRV, true);
        out->port = m->port;
        out->target = m->host;
        return 1;
    case OWN_TXT:
        *out = record(&m->instance, DNS_TXT, true);
        memcpy(out->data, m->text, m->text_len);
        out->len = (uint16_t)m->text_len;
        return 1;
    case OWN_A: return addresses(m, l, MDNS_FOUR, out);
    case OWN_AAAA: return addresses(m, l, MDNS_SIX, out);
    case OWN_NO_SERVICE: return others(out, &m->instance, DNS_TXT, DNS_SRV);
    case OWN_NO_HOST: return others(out, &m->host, four ? DNS_A : DNS_AAAA, four && six ? DNS_AAAA : 0);
    case OWN_KINDS: break;
    }
    return 0;
}

unsigned own_asked(const struct mdns *m, const struct link *l, const struct dns_question *q) {
    bool any = q->type == DNS_ANY;
    if (q->class != DNS_IN && q->class != DNS_ANY) return 0;
    if (dns_name_same(&q->name, &m->types)) return any || q->type == DNS_PTR ? OWN_SET(OWN_ENUM) : 0;
    if (dns_name_same(&q->name, &m->type)) return any || q->type == DNS_PTR ? OWN_SET(OWN_PTR) : 0;
    if (dns_name_same(&q->name, &m->instance)) {
        if (any) return OWN_SET(OWN_SRV) | OWN_SET(OWN_TXT);
        return q->type == DNS_SRV ? OWN_SET(OWN_SRV) : q->type == DNS_TXT ? OWN_SET(OWN_TXT) : OWN_SET(OWN_NO_SERVICE);
    }
    if (!dns_name_same(&q->name, &m->host)) return 0;
    unsigned have = (has(l, MDNS_FOUR) ? OWN_SET(OWN_A) : 0) | (has(l, MDNS_SIX) ? OWN_SET(OWN_AAAA) : 0);
    unsigned want = any ? OWN_HOST : q->type == DNS_A ? OWN_SET(OWN_A) : q->type == DNS_AAAA ? OWN_SET(OWN_AAAA) : 0;
    return have & want ? have & want : OWN_SET(OWN_NO_HOST);
}

unsigned own_beside(unsigned set) {
    unsigned more = 0;
    if (set & OWN_SET(OWN_PTR)) more |= OWN_SET(OWN_SRV) | OWN_SET(OWN_TXT) | OWN_HOST;
    if (set & (OWN_SET(OWN_SRV) | OWN_HOST)) more |= OWN_HOST;
    return more & ~set;
}

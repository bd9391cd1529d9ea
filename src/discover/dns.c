#include "discover/dns.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>

enum { HEAD = 12, POINTER = 0xC0, OPCODE_AND_CODE = 0x780F, TOP_BIT = 0x8000, SRV_HEAD = 6 };

static uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

static void put16(uint8_t *p, unsigned v) {
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

// ---------------------------------------------------------------- names
int dns_name_make(struct dns_name *out, ...) {
    va_list labels;
    size_t n = 0;
    int rc = 0;
    va_start(labels, out);
    for (const char *label; !rc && (label = va_arg(labels, const char *));) {
        size_t len = strlen(label);
        if (!len || len > DNS_LABEL || n + 1 + len + 1 > DNS_NAME) {
            rc = -1;
            break;
        }
        out->wire[n++] = (uint8_t)len;
        memcpy(out->wire + n, label, len);
        n += len;
    }
    va_end(labels);
    out->wire[n++] = 0;
    out->len = (uint8_t)n;
    return rc;
}

// Lengths are below 64 and so no letters: they may be compared like the text.
static bool same_bytes(const uint8_t *a, const uint8_t *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (tolower(a[i]) != tolower(b[i])) return false;
    return true;
}

bool dns_name_same(const struct dns_name *a, const struct dns_name *b) {
    return a->len == b->len && same_bytes(a->wire, b->wire, a->len);
}

bool dns_name_is_child(const struct dns_name *name, const struct dns_name *parent) {
    size_t skip = (size_t)name->wire[0] + 1;
    return skip > 1 && name->len == skip + parent->len && same_bytes(name->wire + skip, parent->wire, parent->len);
}

// A pointer must lead to before the beginning of the part that it ends: that bounds the loop.
static int read_name(const uint8_t *data, size_t n, size_t *at, struct dns_name *out) {
    size_t i = *at, begin = i, len = 0;
    bool jumped = false;
    for (;;) {
        if (i >= n) return -1;
        size_t label = data[i];
        if ((label & POINTER) == POINTER) {
            if (i + 1 >= n) return -1;
            size_t to = (size_t)get16(data + i) & 0x3FFF;
            if (to < HEAD || to >= begin) return -1;
            if (!jumped) *at = i + 2;
            jumped = true;
            i = begin = to;
            continue;
        }
        if (label & POINTER || i + 1 + label > n || len + 1 + label > DNS_NAME) return -1;
        memcpy(out->wire + len, data + i, label + 1);
        len += label + 1;
        i += label + 1;
        if (label) continue;
        out->len = (uint8_t)len;
        if (!jumped) *at = i;
        return 0;
    }
}

// ---------------------------------------------------------------- reading
static int read_question(struct dns_reader *r, struct dns_question *q) {
    if (read_name(r->data, r->n, &r->at, &q->name) || r->n - r->at < 4) return -1;
    q->type = get16(r->data + r->at);
    q->class = get16(r->data + r->at + 2) & ~TOP_BIT;
    q->unicast = get16(r->data + r->at + 2) & TOP_BIT;
    r->at += 4;
    return 0;
}

// TXT is a list of counted strings that fills its record (RFC 1035 section 3.3.14).
static int check_text(const uint8_t *p, size_t n) {
    size_t i = 0;
    while (i < n) i += (size_t)p[i] + 1;
    return i == n && n ? 0 : -1;
}

// Blocks of types in rising order, each of 1 to 32 bytes (RFC 4034 section 4.1.2).
static int check_types(const uint8_t *p, size_t n) {
    int last = -1;
    for (size_t i = 0; i < n; i += (size_t)p[i + 1] + 2) {
        if (n - i < 2 || p[i] <= last || !p[i + 1] || p[i + 1] > 32 || n - i - 2 < p[i + 1]) return -1;
        last = p[i];
    }
    return 0;
}

static int read_data(const struct dns_reader *r, size_t at, size_t end, struct dns_record *rr) {
    rr->len = 0;
    rr->target.len = 0;
    if (rr->class != DNS_IN) return 0; // such as OPT, whose class is something else
    if (rr->type == DNS_SRV) {
        if (end - at <= SRV_HEAD) return -1;
        rr->priority = get16(r->data + at);
        rr->weight = get16(r->data + at + 2);
        rr->port = get16(r->data + at + 4);
        at += SRV_HEAD;
    }
    if (rr->type == DNS_SRV || rr->type == DNS_PTR || rr->type == DNS_NSEC) {
        if (read_name(r->data, end, &at, &rr->target)) return -1;
        if (rr->type != DNS_NSEC) return at == end ? 0 : -1;
    }
    const uint8_t *p = r->data + at;
    size_t n = end - at;
    if ((rr->type == DNS_A && n != 4) || (rr->type == DNS_AAAA && n != 16)) return -1;
    if ((rr->type == DNS_TXT && check_text(p, n)) || (rr->type == DNS_NSEC && check_types(p, n))) return -1;
    if (n > DNS_RDATA) return 0;
    memcpy(rr->data, p, n);
    rr->len = (uint16_t)n;
    return 0;
}

static int read_record(struct dns_reader *r, struct dns_record *rr) {
    if (read_name(r->data, r->n, &r->at, &rr->name) || r->n - r->at < 10) return -1;
    const uint8_t *p = r->data + r->at;
    size_t len = get16(p + 8), at = r->at + 10;
    rr->type = get16(p);
    rr->class = get16(p + 2) & ~TOP_BIT;
    rr->flush = get16(p + 2) & TOP_BIT;
    rr->ttl = (uint32_t)get16(p + 4) << 16 | get16(p + 6);
    if (rr->ttl > INT32_MAX) rr->ttl = 0; // RFC 2181 section 8
    rr->section = r->section;
    if (r->n - at < len) return -1;
    r->at = at + len;
    return read_data(r, at, r->at, rr);
}

void dns_rewind(struct dns_reader *r) {
    r->at = HEAD;
    r->section = DNS_QUESTION;
    r->taken = 0;
}

bool dns_next_question(struct dns_reader *r, struct dns_question *q) {
    if (r->section != DNS_QUESTION || r->taken == r->counts[DNS_QUESTION]) return false;
    r->taken++;
    return !read_question(r, q);
}

bool dns_next_record(struct dns_reader *r, struct dns_record *rr) {
    struct dns_question skipped;
    while (dns_next_question(r, &skipped)) {
    }
    while (r->section < DNS_SECTIONS && (r->section == DNS_QUESTION || r->taken == r->counts[r->section])) {
        r->section++;
        r->taken = 0;
    }
    if (r->section == DNS_SECTIONS) return false;
    r->taken++;
    return !read_record(r, rr);
}

int dns_read(struct dns_reader *r, const void *data, size_t n) {
    struct dns_question q;
    struct dns_record rr;
    size_t promised = 0, found = 0;
    *r = (struct dns_reader){.data = data, .n = n};
    if (n < HEAD || n > DNS_RECEIVE) return -1;
    r->id = get16(r->data);
    r->flags = get16(r->data + 2);
    for (int i = 0; i < DNS_SECTIONS; i++) promised += r->counts[i] = get16(r->data + 4 + 2 * i);
    if (r->flags & OPCODE_AND_CODE) return -1;
    dns_rewind(r);
    while (dns_next_question(r, &q)) found++;
    while (found >= r->counts[DNS_QUESTION] && dns_next_record(r, &rr)) found++;
    if (found != promised || r->at != n) return -1;
    dns_rewind(r);
    return 0;
}

// ---------------------------------------------------------------- writing
void dns_write(struct dns_writer *w, uint16_t id, uint16_t flags) {
    memset(w->counts, 0, sizeof w->counts);
    memset(w->data, 0, HEAD);
    put16(w->data, id);
    put16(w->data + 2, flags);
    w->n = HEAD;
    w->n_known = 0;
}

static int append(struct dns_writer *w, const void *p, size_t n) {
    if (n > DNS_SEND - w->n) return -1;
    memcpy(w->data + w->n, p, n);
    w->n += n;
    return 0;
}

static int append16(struct dns_writer *w, unsigned v) {
    uint8_t two[2];
    put16(two, v);
    return append(w, two, sizeof two);
}

// Where this end of a name stands already; 0: nowhere. Only bytes that are the same point: whoever compares exactly
// finds the name as it was given.
static size_t find_known(const struct dns_writer *w, const uint8_t *end, size_t len) {
    struct dns_name known;
    for (size_t i = 0; i < w->n_known; i++) {
        size_t at = w->known[i];
        if (!read_name(w->data, w->n, &at, &known) && known.len == len && !memcmp(known.wire, end, len))
            return w->known[i];
    }
    return 0;
}

static int append_name(struct dns_writer *w, const struct dns_name *name) {
    uint16_t begun[DNS_NAME];
    size_t i = 0, n_begun = 0;
    while (name->wire[i]) {
        size_t known = find_known(w, name->wire + i, name->len - i), label = (size_t)name->wire[i] + 1;
        if (known) {
            if (append16(w, POINTER << 8 | (unsigned)known)) return -1;
            break;
        }
        begun[n_begun++] = (uint16_t)w->n;
        if (append(w, name->wire + i, label)) return -1;
        i += label;
    }
    if (!name->wire[i] && append(w, "", 1)) return -1;
    for (size_t k = 0; k < n_begun && w->n_known < DNS_KNOWN; k++) w->known[w->n_known++] = begun[k];
    return 0;
}

static int done(struct dns_writer *w, const struct dns_writer *before, enum dns_section section, int rc) {
    if (rc) {
        w->n = before->n;
        w->n_known = before->n_known;
        return -1;
    }
    put16(w->data + 4 + 2 * section, ++w->counts[section]);
    return 0;
}

int dns_add_question(struct dns_writer *w, const struct dns_question *q) {
    const struct dns_writer before = {.n = w->n, .n_known = w->n_known};
    int rc = append_name(w, &q->name) || append16(w, q->type) || append16(w, q->class | (q->unicast ? TOP_BIT : 0));
    return done(w, &before, DNS_QUESTION, rc);
}

static int append_data(struct dns_writer *w, const struct dns_record *rr) {
    if (rr->type == DNS_SRV && (append16(w, rr->priority) || append16(w, rr->weight) || append16(w, rr->port)))
        return -1;
    if (rr->target.len && append_name(w, &rr->target)) return -1;
    return append(w, rr->data, rr->len);
}

int dns_add_record(struct dns_writer *w, enum dns_section section, const struct dns_record *rr) {
    const struct dns_writer before = {.n = w->n, .n_known = w->n_known};
    int rc = append_name(w, &rr->name) || append16(w, rr->type) || append16(w, rr->class | (rr->flush ? TOP_BIT : 0)) ||
             append16(w, rr->ttl >> 16) || append16(w, rr->ttl & 0xFFFF) || append16(w, 0);
    size_t begin = w->n;
    rc = rc || append_data(w, rr);
    if (!rc) put16(w->data + begin - 2, (unsigned)(w->n - begin));
    return done(w, &before, section, rc);
}

// ---------------------------------------------------------------- comparing
size_t dns_rdata(const struct dns_record *rr, uint8_t out[DNS_RDATA + DNS_NAME]) {
    size_t n = 0;
    if (rr->type == DNS_SRV) {
        put16(out, rr->priority);
        put16(out + 2, rr->weight);
        put16(out + 4, rr->port);
        n = SRV_HEAD;
    }
    memcpy(out + n, rr->target.wire, rr->target.len);
    n += rr->target.len;
    memcpy(out + n, rr->data, rr->len);
    return n + rr->len;
}

bool dns_same_data(const struct dns_record *a, const struct dns_record *b) {
    return a->type == b->type && a->class == b->class && a->len == b->len && !memcmp(a->data, b->data, a->len) &&
           dns_name_same(&a->target, &b->target) &&
           (a->type != DNS_SRV || (a->priority == b->priority && a->weight == b->weight && a->port == b->port));
}

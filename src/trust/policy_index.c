#include "trust/policy_internal.h"

#include <stdlib.h>
#include <string.h>

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-*?";

// The classic walk: where a piece does not fit, the latest star takes one character more.
bool policy_glob(const char *pattern, const char *name) {
    const char *star = NULL, *from = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            from = name;
        } else if (*pattern == '?' || *pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star + 1;
            name = ++from;
        } else
            return false;
    }
    while (*pattern == '*') pattern++;
    return !*pattern;
}

int policy_ref_read(const char *item, struct policy_ref *out) {
    const char *s = item;
    if (strlen(item) >= POLICY_NAME) return -1;
    out->out = *s == '!';
    if (out->out) s++;
    out->kind = *s == '@' ? AT : PLAIN;
    if (out->kind == AT) s++;
    out->name = s;
    out->glob = strpbrk(s, "*?");
    return *s && strspn(s, letters) == strlen(s) ? 0 : -1;
}

// ---------------------------------------------------------------- making
static int by_name(const struct policy_ref *a, const struct policy_ref *b) {
    if (a->kind != b->kind) return a->kind - b->kind;
    if (a->glob != b->glob) return a->glob - b->glob;
    return strcmp(a->name, b->name);
}

static int compare_refs(const void *a, const void *b) { return by_name(a, b); }

static void find_bounds(struct policy_index *x) {
    for (int kind = 0; kind < KINDS; kind++) {
        size_t i = kind ? x->end[kind - 1] : 0;
        x->begin[kind] = i;
        while (i < x->n && x->items[i].kind == kind && !x->items[i].glob) i++;
        x->globs[kind] = i;
        while (i < x->n && x->items[i].kind == kind) i++;
        x->end[kind] = i;
    }
}

int policy_index_make(struct policy_index *x, struct policy_ref *refs, size_t n, size_t rules, struct err *e) {
    size_t distinct = 0;
    if (n) qsort(refs, n, sizeof *refs, compare_refs);
    for (size_t i = 0; i < n; i++) distinct += !i || by_name(&refs[i - 1], &refs[i]) != 0;
    if (distinct > POLICY_DISTINCT)
        return err_set(e, ERR_LIMIT, "more than %d different names in lists of one kind", POLICY_DISTINCT);
    if (!(x->items = calloc(distinct + 1, sizeof *x->items))) return err_set(e, ERR_INTERNAL, "out of memory");
    for (size_t rule = 0; rule < rules; rule++) policy_set(&x->anything, rule);
    for (size_t i = 0; i < n; i++) {
        const struct policy_ref *r = &refs[i];
        if (!i || by_name(r - 1, r) != 0)
            x->items[x->n++] = (struct policy_item){.name = r->name, .kind = r->kind, .glob = r->glob};
        struct policy_item *item = &x->items[x->n - 1];
        policy_set(r->out ? &item->out : &item->in, r->rule);
        policy_set(r->out ? &x->out[r->kind] : &x->in[r->kind], r->rule);
        if (!r->out) x->anything.v[r->rule / 64] &= ~(1ull << r->rule % 64);
    }
    find_bounds(x);
    return 0;
}

// ---------------------------------------------------------------- asking
static void strike(const struct policy *p, const struct policy_item *item, struct policy_hits *hits) {
    for (size_t w = 0; w < p->words; w++) {
        hits->in.v[w] |= item->in.v[w];
        hits->out.v[w] |= item->out.v[w];
    }
}

void policy_index_find(const struct policy *p, enum policy_attribute a, int kind, const char *name,
                       struct policy_hits *hits) {
    const struct policy_index *x = &p->index[a];
    size_t low = x->begin[kind], high = x->globs[kind];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, x->items[middle].name);
        if (!order) strike(p, &x->items[middle], hits);
        if (order <= 0) high = middle;
        if (order >= 0) low = middle + 1;
    }
    for (size_t i = x->globs[kind]; i < x->end[kind]; i++)
        if (policy_glob(x->items[i].name, name)) strike(p, &x->items[i], hits);
}

void policy_index_doubt(const struct policy *p, enum policy_attribute a, int kind, struct policy_hits *hits) {
    const struct policy_index *x = &p->index[a];
    for (size_t w = 0; w < p->words; w++) {
        hits->in.v[w] |= x->in[kind].v[w] & p->forbids.v[w];
        hits->out.v[w] |= x->out[kind].v[w] & p->permits.v[w];
    }
}

void policy_index_settle(const struct policy *p, enum policy_attribute a, const struct policy_hits *hits,
                         struct policy_rules *out) {
    for (size_t w = 0; w < p->words; w++) out->v[w] = (p->index[a].anything.v[w] | hits->in.v[w]) & ~hits->out.v[w];
}

#include "trust/policy_diff.h"
#include "base/buf.h"
#include "trust/policy_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MOST = 384, PLACES_MOST = 1216, VIEWS_MOST = 200000, ROWS_MOST = 50000, NAMES_SHOWN = 4 };
enum dimension { WHO, MODEL, LABEL, WHEN, WHERE, DIMENSIONS };
enum { NAME_WORDS = WORDS_MOST / 64, SET_WORDS = 4 * NAME_WORDS + PLACES_MOST / 64 };

static const char *const phase_words[POLICY_PHASES] = {"prefill on", "decode on", "kv from"};

struct word { // a name of the world, or a group or a node's label
    char name[POLICY_NAME];
    bool at;
};

struct place {
    enum policy_phase phase;
    size_t node, to;
};

struct row {                 // changes that agree: any of these agents with any of these models, and so on
    uint64_t set[SET_WORDS]; // of each dimension, the indices
    int first[DIMENSIONS];   // one of them
    uint64_t kind;           // equal where both decisions are
};

struct world {
    const struct policy *p[2];
    struct word *words[ATTRIBUTES]; // of AGENTS, MODELS, NODES and LABELS; owned
    size_t n[ATTRIBUTES];
    int minutes[WORDS_MOST]; // of the week
    size_t n_minutes;
    struct place places[PLACES_MOST];
    size_t n_places;
    struct policy_node *nodes;    // owned
    struct policy_spot *spots[2]; // of each node, by each policy; owned
    struct row *rows;             // owned
    size_t n_rows, cap;
    size_t whole[DIMENSIONS]; // how many indices there are
    bool too_many;
};

// ---------------------------------------------------------------- the world
static void add_word(struct world *w, enum policy_attribute a, const char *name, bool at) {
    for (size_t i = 0; i < w->n[a]; i++)
        if (w->words[a][i].at == at && !strcmp(w->words[a][i].name, name)) return;
    if (w->n[a] == WORDS_MOST) {
        w->too_many = true;
        return;
    }
    struct word *one = &w->words[a][w->n[a]++];
    snprintf(one->name, sizeof one->name, "%s", name);
    one->at = at;
}

// Of a pattern, one name that it fits.
static void add_item(struct world *w, enum policy_attribute a, const struct policy_item *item) {
    char name[POLICY_NAME];
    size_t n = 0;
    for (const char *c = item->name; *c; c++)
        if (*c != '*') name[n++] = *c == '?' ? 'x' : *c;
    name[n] = 0;
    if (n) add_word(w, a, name, item->kind == AT);
}

static void add_items(struct world *w, enum policy_attribute a, enum policy_attribute from) {
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < w->p[side]->index[from].n; i++) add_item(w, a, &w->p[side]->index[from].items[i]);
}

static int compare_minutes(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static void add_minute(struct world *w, int minute) {
    if (w->n_minutes == WORDS_MOST)
        w->too_many = true;
    else
        w->minutes[w->n_minutes++] = minute % (7 * POLICY_MINUTES);
}

static void add_hours(struct world *w, const struct policy_hours *h) {
    for (size_t i = 0; i < h->n; i++)
        for (int day = 0; day < 7; day++) {
            int from = day * POLICY_MINUTES + h->ranges[i].from, to = day * POLICY_MINUTES + h->ranges[i].to;
            if (!(h->ranges[i].days >> day & 1)) continue;
            add_minute(w, from);
            add_minute(w, to > from ? to : to + POLICY_MINUTES);
        }
}

static void add_moments(struct world *w) {
    size_t kept = 0;
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < w->p[side]->n; i++) add_hours(w, &w->p[side]->rules[i].hours);
    if (!w->n_minutes) add_minute(w, 0);
    qsort(w->minutes, w->n_minutes, sizeof *w->minutes, compare_minutes);
    for (size_t i = 0; i < w->n_minutes; i++)
        if (!i || w->minutes[i] != w->minutes[i - 1]) w->minutes[kept++] = w->minutes[i];
    w->n_minutes = kept;
}

static void add_place(struct world *w, enum policy_phase phase, size_t node, size_t to) {
    if (w->n_places == PLACES_MOST)
        w->too_many = true;
    else
        w->places[w->n_places++] = (struct place){phase, node, to};
}

static void add_places(struct world *w) {
    for (size_t i = 0; i < w->n[NODES]; i++) {
        add_place(w, POLICY_PREFILL, i, i);
        add_place(w, POLICY_DECODE, i, i);
    }
    for (size_t i = 0; i < w->n[NODES]; i++)
        for (size_t k = 0; k < w->n[NODES]; k++)
            if (i != k || w->words[NODES][i].at) add_place(w, POLICY_KV, i, k); // two nodes may have one label
}

static int make_world(struct world *w, struct err *e) {
    static const enum policy_attribute kinds[] = {AGENTS, MODELS, NODES, LABELS};
    for (size_t i = 0; i < 4; i++)
        if (!(w->words[kinds[i]] = calloc(WORDS_MOST, sizeof(struct word))))
            return err_set(e, ERR_INTERNAL, "out of memory");
    add_items(w, AGENTS, AGENTS);
    add_word(w, AGENTS, POLICY_OWNER_AGENT, false);
    add_word(w, AGENTS, "someone else", false);
    add_items(w, MODELS, MODELS);
    add_word(w, MODELS, "another model", false);
    add_word(w, LABELS, "none", true);
    add_items(w, LABELS, LABELS);
    for (int a = NODES; a <= DST; a++) add_items(w, NODES, (enum policy_attribute)a);
    add_word(w, NODES, "another node", false);
    add_word(w, NODES, "a third node", false);
    add_moments(w);
    add_places(w);
    const size_t whole[DIMENSIONS] = {w->n[AGENTS], w->n[MODELS], w->n[LABELS], w->n_minutes, w->n_places};
    memcpy(w->whole, whole, sizeof whole);
    size_t views = whole[WHO] * whole[MODEL] * whole[LABEL] * whole[WHEN];
    if (w->too_many || views > VIEWS_MOST)
        return err_set(e, ERR_LIMIT,
                       "the policies speak of too much to ask all of it: compare them with `policy test`");
    return 0;
}

static struct policy_names label_of(const struct word *word, const char **room) {
    *room = word->name;
    return (struct policy_names){room, word->at ? 1 : 0};
}

static int make_nodes(struct world *w, const char **rooms, struct err *e) {
    size_t n = w->n[NODES];
    w->nodes = calloc(n, sizeof *w->nodes);
    for (int side = 0; side < 2; side++) w->spots[side] = calloc(n, sizeof **w->spots);
    if (!w->nodes || !w->spots[0] || !w->spots[1]) return err_set(e, ERR_INTERNAL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        const struct word *word = &w->words[NODES][i];
        w->nodes[i] = (struct policy_node){.name = word->at ? "a labelled node" : word->name};
        w->nodes[i].labels = label_of(word, &rooms[i]);
        for (int side = 0; side < 2; side++) {
            struct policy_view v = {.policy = w->p[side]};
            policy_view_node(&v, &w->nodes[i], &w->spots[side][i]);
        }
    }
    return 0;
}

// ---------------------------------------------------------------- asking
static struct policy_subject subject(const struct world *w, const int v[DIMENSIONS], struct policy_agent *agent,
                                     const char *rooms[2]) {
    const struct word *who = &w->words[AGENTS][v[WHO]], *label = &w->words[LABELS][v[LABEL]];
    *agent = (struct policy_agent){.id = who->at ? "someone" : who->name, .groups = label_of(who, &rooms[0])};
    rooms[1] = label->name;
    return (struct policy_subject){
        .lineage = agent,
        .n = 1,
        .labels = {&rooms[1], label->at ? 0 : 1}, // "none" is the one that is marked
        .model = w->words[MODELS][v[MODEL]].name,
        .when = {true, w->minutes[v[WHEN]] / POLICY_MINUTES, w->minutes[v[WHEN]] % POLICY_MINUTES}};
}

static void decide_at(const struct world *w, int side, const struct policy_view *v, const struct place *at,
                      struct policy_decision *out) {
    const struct policy_spot *spots = w->spots[side];
    if (at->phase == POLICY_KV)
        policy_view_decide_kv(v, &spots[at->node], &spots[at->to], out);
    else
        policy_view_decide(v, at->phase, &spots[at->node], out);
}

static uint64_t mix(uint64_t hash, const void *data, size_t n) { // FNV-1a
    const uint8_t *bytes = data;
    for (size_t i = 0; i < n; i++) hash = (hash ^ bytes[i]) * 1099511628211ull;
    return hash;
}

static uint64_t kind_of(const struct world *w, const struct policy_decision d[2]) {
    uint64_t hash = 14695981039346656037ull;
    for (int side = 0; side < 2; side++) {
        struct policy_limits l = policy_limits(w->p[side], &d[side]);
        hash = mix(mix(mix(hash, &d[side].allow, 1), d[side].rules, sizeof d[side].rules), &l, sizeof l);
    }
    return hash;
}

// Other rules alone are no change, other limits are.
static bool differ(const struct world *w, const struct policy_decision d[2]) {
    struct policy_limits a = policy_limits(w->p[0], &d[0]), b = policy_limits(w->p[1], &d[1]);
    return d[0].allow != d[1].allow || a.tokens_day != b.tokens_day || a.rpm != b.rpm || a.concurrent != b.concurrent;
}

// ---------------------------------------------------------------- rows
static size_t begin_of(int dimension) { return (size_t)dimension * NAME_WORDS; }
static size_t end_of(int dimension) { return dimension == WHERE ? SET_WORDS : begin_of(dimension + 1); }

static void put(struct row *r, int dimension, int i) { r->set[begin_of(dimension) + (size_t)i / 64] |= 1ull << i % 64; }

static bool has(const struct row *r, int dimension, size_t i) {
    return r->set[begin_of(dimension) + i / 64] >> i % 64 & 1;
}

static size_t count(const struct row *r, int dimension) {
    size_t n = 0;
    for (size_t i = begin_of(dimension); i < end_of(dimension); i++) n += (size_t)__builtin_popcountll(r->set[i]);
    return n;
}

static struct row *new_row(struct world *w, const int v[DIMENSIONS], uint64_t kind, struct err *e) {
    if (w->n_rows == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        struct row *more = cap > ROWS_MOST * 2 ? NULL : realloc(w->rows, cap * sizeof *more);
        if (!more) {
            err_set(e, ERR_LIMIT, "more changes than can be told: %zu", w->n_rows);
            return NULL;
        }
        w->rows = more;
        w->cap = cap;
    }
    struct row *r = &w->rows[w->n_rows++];
    *r = (struct row){.kind = kind};
    memcpy(r->first, v, sizeof r->first);
    for (int d = 0; d < WHERE; d++) put(r, d, v[d]);
    return r;
}

// The places of one subject that agree are one row; `from` is its first one.
static int add_change(struct world *w, size_t from, const int v[DIMENSIONS], uint64_t kind, struct err *e) {
    struct row *r = NULL;
    for (size_t i = from; i < w->n_rows && !r; i++)
        if (w->rows[i].kind == kind) r = &w->rows[i];
    if (!r && !(r = new_row(w, v, kind, e))) return -1;
    put(r, WHERE, v[WHERE]);
    return 0;
}

static int ask_subject(struct world *w, int v[DIMENSIONS], struct err *e) {
    struct policy_view views[2];
    struct policy_decision d[2];
    struct policy_agent agent;
    const char *rooms[2];
    size_t from = w->n_rows;
    struct policy_subject who = subject(w, v, &agent, rooms);
    for (int side = 0; side < 2; side++) policy_view(w->p[side], &who, &views[side]);
    for (size_t i = 0; i < w->n_places; i++) {
        for (int side = 0; side < 2; side++) decide_at(w, side, &views[side], &w->places[i], &d[side]);
        v[WHERE] = (int)i;
        if (differ(w, d) && add_change(w, from, v, kind_of(w, d), e)) return -1;
    }
    return 0;
}

static int ask_all(struct world *w, struct err *e) {
    int v[DIMENSIONS];
    for (v[WHO] = 0; v[WHO] < (int)w->n[AGENTS]; v[WHO]++)
        for (v[MODEL] = 0; v[MODEL] < (int)w->n[MODELS]; v[MODEL]++)
            for (v[LABEL] = 0; v[LABEL] < (int)w->n[LABELS]; v[LABEL]++)
                for (v[WHEN] = 0; v[WHEN] < (int)w->n_minutes; v[WHEN]++)
                    if (ask_subject(w, v, e)) return -1;
    return 0;
}

// ---------------------------------------------------------------- telling
static int merged; // the dimension in which rows may differ; for the comparison

static int compare_rows(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    for (size_t i = 0; i < SET_WORDS; i++)
        if ((i < begin_of(merged) || i >= end_of(merged)) && x->set[i] != y->set[i])
            return x->set[i] < y->set[i] ? -1 : 1;
    return 0;
}

// Rows that differ in one dimension only become one.
static void merge(struct world *w, int dimension) {
    size_t kept = 0;
    merged = dimension;
    if (w->n_rows) qsort(w->rows, w->n_rows, sizeof *w->rows, compare_rows);
    for (size_t i = 0; i < w->n_rows; i++) {
        struct row *last = kept ? &w->rows[kept - 1] : NULL;
        if (last && !compare_rows(last, &w->rows[i]))
            for (size_t k = begin_of(dimension); k < end_of(dimension); k++) last->set[k] |= w->rows[i].set[k];
        else
            w->rows[kept++] = w->rows[i];
    }
    w->n_rows = kept;
}

static int compare_first(const void *a, const void *b) {
    return memcmp(((const struct row *)a)->first, ((const struct row *)b)->first, sizeof((const struct row *)a)->first);
}

static void merge_all(struct world *w) {
    for (int d = WHEN; d >= WHO; d--) merge(w, d);
    if (w->n_rows) qsort(w->rows, w->n_rows, sizeof *w->rows, compare_first);
}

static void name_one(const struct world *w, int dimension, size_t i, struct buf *out) {
    static const enum policy_attribute words[] = {[WHO] = AGENTS, [MODEL] = MODELS, [LABEL] = LABELS};
    char moment[16];
    if (dimension == WHEN) {
        policy_time_text(&(struct policy_time){true, w->minutes[i] / POLICY_MINUTES, w->minutes[i] % POLICY_MINUTES},
                         moment);
        buf_puts(out, moment);
        return;
    }
    const struct word *word = &w->words[words[dimension]][i];
    buf_printf(out, "%s%s", word->at && dimension != LABEL ? "@" : "", word->name);
}

static void name_set(const struct world *w, const struct row *r, int dimension, char out[POLICY_CELL]) {
    size_t n = count(r, dimension), shown = 0;
    struct buf text;
    buf_init(&text, POLICY_CELL - 24);
    for (size_t i = 0; i < w->whole[dimension] && n < w->whole[dimension]; i++) {
        if (!has(r, dimension, i) || shown == NAMES_SHOWN) continue;
        buf_puts(&text, shown++ ? ", " : "");
        name_one(w, dimension, i, &text);
    }
    if (n == w->whole[dimension])
        snprintf(out, POLICY_CELL, "any");
    else if (n > shown)
        snprintf(out, POLICY_CELL, "%s and %zu more", buf_str(&text), n - shown);
    else
        snprintf(out, POLICY_CELL, "%s", buf_str(&text));
    buf_free(&text);
}

static void name_node(const struct world *w, size_t i, struct buf *out) {
    const struct word *word = &w->words[NODES][i];
    buf_printf(out, "%s%s", word->at ? "@" : "", word->name);
}

// "prefill on any" of one phase's places.
static void name_phase(const struct world *w, const struct row *r, enum policy_phase phase, struct buf *out) {
    size_t all = 0, n = 0, shown = 0;
    for (size_t i = 0; i < w->n_places; i++) {
        all += w->places[i].phase == phase;
        n += w->places[i].phase == phase && has(r, WHERE, i);
    }
    if (!n) return;
    buf_printf(out, "%s%s ", out->len ? "; " : "", phase_words[phase]);
    for (size_t i = 0; i < w->n_places && n < all && shown < NAMES_SHOWN; i++) {
        const struct place *at = &w->places[i];
        if (at->phase != phase || !has(r, WHERE, i)) continue;
        buf_puts(out, shown++ ? ", " : "");
        name_node(w, at->node, out);
        if (phase == POLICY_KV) buf_puts(out, " to ");
        if (phase == POLICY_KV) name_node(w, at->to, out);
    }
    if (n == all) buf_puts(out, phase == POLICY_KV ? "any to any" : "any");
    if (n < all && n > shown) buf_printf(out, " and %zu more", n - shown);
}

static void name_limits(const struct policy *p, const struct policy_decision *d, char out[POLICY_IDS]) {
    char ids[POLICY_IDS - 100];
    struct policy_limits l = policy_limits(p, d);
    policy_decision_text(p, d, ids, sizeof ids);
    int n = snprintf(out, POLICY_IDS, "%s", ids);
    if (l.tokens_day) n += snprintf(out + n, POLICY_IDS - (size_t)n, ", %lld tokens/day", (long long)l.tokens_day);
    if (l.rpm) n += snprintf(out + n, POLICY_IDS - (size_t)n, ", %lld requests/min", (long long)l.rpm);
    if (l.concurrent) snprintf(out + n, POLICY_IDS - (size_t)n, ", %lld at once", (long long)l.concurrent);
}

static void tell(const struct world *w, const struct row *r, policy_change_event each, void *arg) {
    struct policy_change c;
    struct policy_decision d[2];
    struct policy_agent agent;
    const char *rooms[2];
    struct policy_subject who = subject(w, r->first, &agent, rooms);
    for (int side = 0; side < 2; side++) {
        struct policy_view v;
        policy_view(w->p[side], &who, &v);
        decide_at(w, side, &v, &w->places[r->first[WHERE]], &d[side]);
        name_limits(w->p[side], &d[side], side ? c.now : c.before);
    }
    c.was = d[0].allow;
    c.is = d[1].allow;
    name_set(w, r, WHO, c.who);
    name_set(w, r, MODEL, c.model);
    name_set(w, r, LABEL, c.label);
    name_set(w, r, WHEN, c.when);
    struct buf where;
    buf_init(&where, 4 * POLICY_CELL);
    for (int phase = 0; phase < POLICY_PHASES; phase++) name_phase(w, r, (enum policy_phase)phase, &where);
    snprintf(c.where, sizeof c.where, "%.*s", POLICY_CELL - 1, buf_str(&where));
    buf_free(&where);
    each(arg, &c);
}

long policy_diff(const struct policy *old, const struct policy *now, policy_change_event each, void *arg,
                 struct err *e) {
    struct world *w = calloc(1, sizeof *w);
    const char **rooms = calloc(WORDS_MOST, sizeof *rooms);
    long n = -1;
    if (!w || !rooms)
        err_set(e, ERR_INTERNAL, "out of memory");
    else {
        w->p[0] = old;
        w->p[1] = now;
        if (!make_world(w, e) && !make_nodes(w, rooms, e) && !ask_all(w, e)) {
            merge_all(w);
            n = (long)w->n_rows;
            for (size_t i = 0; i < w->n_rows; i++) tell(w, &w->rows[i], each, arg);
        }
        for (int a = 0; a < ATTRIBUTES; a++) free(w->words[a]);
        for (int side = 0; side < 2; side++) free(w->spots[side]);
        free(w->nodes);
        free(w->rows);
    }
    free(rooms);
    free(w);
    return n;
}

#include "cli/options.h"
#include "base/text.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NEAREST_BYTES = 40 }; // longer words are not compared

static bool is_of_a_lasting_daemon(const struct setting *one) {
    static const char *const names[] = {"model", "max_models", "cluster", "name", "peers"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(one->name, names[i])) return true;
    return false;
}

bool settings_use_has(enum settings_use use, const struct setting *one) {
    switch (use) {
    case SETTINGS_ALL: return true;
    case SETTINGS_RUN: return !is_of_a_lasting_daemon(one);
    case SETTINGS_API: return !strcmp(one->name, "api");
    default: return false;
    }
}

void setting_flag_name(const struct setting *one, char out[64]) {
    snprintf(out, 64, "%s", one->flag ? one->flag : one->name);
    for (char *p = out; *p; p++)
        if (*p == '_') *p = '-';
}

// The edit distance where swapping two neighbours counts as one change.
static size_t edit_distance(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b), d[NEAREST_BYTES + 1][NEAREST_BYTES + 1];
    if (n > NEAREST_BYTES || m > NEAREST_BYTES) return SIZE_MAX;
    for (size_t i = 0; i <= n; i++) {
        for (size_t j = 0; j <= m; j++) {
            if (!i || !j) {
                d[i][j] = i + j;
                continue;
            }
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && d[i - 2][j - 2] + 1 < best) best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[n][m];
}

void nearest_init(struct nearest *n, const char *word) {
    size_t len = strlen(word);
    *n = (struct nearest){.word = word, .distance = len < 4 ? 2 : 3}; // one change in a short word, two in a long one
}

void nearest_offer(struct nearest *n, const char *candidate) {
    size_t len = strlen(n->word);
    size_t distance = edit_distance(n->word, candidate);
    if (len >= 2 && !strncmp(n->word, candidate, len)) distance = 0; // an abbreviation
    if (distance >= n->distance) return;
    n->distance = distance;
    n->best = candidate;
}

static int parse_real(const char *s, double min, double max) {
    char *end;
    double v = strtod(s, &end);
    return *s && !*end && isfinite(v) && v >= min && v <= max ? 0 : -1;
}

static int check_value(const struct option *o, const char *value, struct err *e) {
    long number;
    if (o->type == OPTION_INT && text_parse_long(value, (long)o->min, (long)o->max, &number))
        return err_param(e, o->name, "--%s takes a whole number from %ld to %ld, not '%.40s'", o->name, (long)o->min,
                         (long)o->max, value);
    if (o->type == OPTION_REAL && parse_real(value, o->min, o->max))
        return err_param(e, o->name, "--%s takes a number from %g to %g, not '%.40s'", o->name, o->min, o->max, value);
    return 0;
}

struct parsing {
    struct args *args;
    const struct option *table;
    size_t n;
    enum settings_use use;
    int argc, at; // argv[at] is the next one
    const char *const *argv;
};

static int keep(struct parsing *p, const struct option *o, const struct setting *s, const char *value, struct err *e) {
    if (p->args->n_given == ARGS_MAX) return err_set(e, ERR_LIMIT, "more than %d options", ARGS_MAX);
    if (o && check_value(o, value, e)) return -1;
    p->args->given[p->args->n_given++] = (struct given){.option = o, .setting = s, .value = value};
    return 0;
}

// The value of an option: what stands behind '=' (or the letter), else the next argument.
static int take_value(struct parsing *p, const char *shown, const char *attached, const char **value, struct err *e) {
    *value = attached;
    if (attached) return 0;
    const char *next = p->at < p->argc ? p->argv[p->at] : NULL;
    if (!next || (!strncmp(next, "--", 2) && next[2]))
        return err_param(e, shown, "%s needs a value, as in %s=VALUE", shown, shown);
    *value = next;
    p->at++;
    return 0;
}

static int unknown(const struct parsing *p, const char *name, struct err *e) {
    struct nearest near;
    char flags[SETTING_COUNT][64];
    nearest_init(&near, name);
    for (size_t i = 0; i < p->n; i++)
        if (p->table[i].help) nearest_offer(&near, p->table[i].name);
    for (size_t i = 0; i < settings_count; i++) {
        setting_flag_name(&settings_table[i], flags[i]);
        if (settings_use_has(p->use, &settings_table[i])) nearest_offer(&near, flags[i]);
    }
    if (near.best) return err_param(e, name, "unknown option --%.60s: did you mean --%s?", name, near.best);
    return err_param(e, name, "unknown option --%.60s", name);
}

static int parse_long(struct parsing *p, const char *text, struct err *e) {
    char name[64], shown[70];
    const char *equals = strchr(text, '='), *value = "";
    size_t len = equals ? (size_t)(equals - text) : strlen(text);
    if (snprintf(name, sizeof name, "%.*s", (int)len, text) >= (int)sizeof name) return unknown(p, text, e);
    snprintf(shown, sizeof shown, "--%s", name);
    const struct option *o = NULL;
    for (size_t i = 0; i < p->n && !o; i++)
        if (!strcmp(p->table[i].name, name)) o = &p->table[i];
    const struct setting *s = o ? NULL : settings_find(name);
    if (!o && (!s || !settings_use_has(p->use, s))) return unknown(p, name, e);
    if (o && o->type == OPTION_FLAG) {
        if (equals) return err_param(e, name, "--%s takes no value", name);
    } else if (take_value(p, shown, equals ? equals + 1 : NULL, &value, e))
        return -1;
    return keep(p, o, s, value, e);
}

static int parse_short(struct parsing *p, const char *text, struct err *e) {
    for (; *text; text++) {
        char shown[3] = {'-', *text, 0};
        const struct option *o = NULL;
        const char *value = "";
        for (size_t i = 0; i < p->n && !o; i++)
            if (p->table[i].letter == *text) o = &p->table[i];
        if (!o) return err_param(e, shown, "unknown option -%c", *text);
        if (o->type == OPTION_FLAG) {
            if (keep(p, o, NULL, value, e)) return -1;
            continue;
        }
        return take_value(p, shown, text[1] ? text + 1 : NULL, &value, e) ? -1 : keep(p, o, NULL, value, e);
    }
    return 0;
}

int args_parse(struct args *a, const struct option *table, size_t n, enum settings_use use, int argc,
               const char *const *argv, struct err *e) {
    struct parsing p = {.args = a, .table = table, .n = n, .use = use, .argc = argc, .argv = argv};
    bool ended = false;
    a->n_given = a->n_words = 0;
    while (p.at < argc) {
        const char *text = argv[p.at++];
        if (!ended && !strcmp(text, "--"))
            ended = true;
        else if (!ended && !strncmp(text, "--", 2)) {
            if (parse_long(&p, text + 2, e)) return -1;
        } else if (!ended && text[0] == '-' && text[1]) {
            if (parse_short(&p, text + 1, e)) return -1;
        } else if (a->n_words == ARGS_MAX)
            return err_set(e, ERR_LIMIT, "more than %d arguments", ARGS_MAX);
        else
            a->words[a->n_words++] = text;
    }
    return 0;
}

static const struct given *last_given(const struct args *a, const char *name) {
    for (size_t i = a->n_given; i-- > 0;)
        if (a->given[i].option && !strcmp(a->given[i].option->name, name)) return &a->given[i];
    return NULL;
}

bool args_has(const struct args *a, const char *name) { return last_given(a, name); }

const char *args_text(const struct args *a, const char *name, const char *otherwise) {
    const struct given *g = last_given(a, name);
    return g ? g->value : otherwise;
}

long args_int(const struct args *a, const char *name, long otherwise) {
    const struct given *g = last_given(a, name);
    return g ? strtol(g->value, NULL, 10) : otherwise;
}

double args_real(const struct args *a, const char *name, double otherwise) {
    const struct given *g = last_given(a, name);
    return g ? strtod(g->value, NULL) : otherwise;
}

int args_apply(const struct args *a, struct settings *s, struct err *e) {
    for (size_t i = 0; i < a->n_given; i++) {
        const struct given *g = &a->given[i];
        if (g->setting && settings_set(s, g->setting->name, g->value, FROM_FLAG, e)) return -1;
    }
    return 0;
}

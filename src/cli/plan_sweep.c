// nebulus plan --sweep: where the pair wins.
#include "cli/plan_parts.h"
#include "cli/table.h"
#include "cli/term.h"

#include <stdio.h>
#include <string.h>

enum { SWEEP_MOST = 16, SWEEP_NAMES = 2 * WHAT_NAME + 4 };

static const double PROMPT_FIRST = 64, PROMPT_LAST = 131072, GENERATE_FIRST = 1, GENERATE_LAST = 4096;

struct row {
    char value[24];
    double tokens;                                                    // the value where it is a number
    char single[SWEEP_NAMES], pair[SWEEP_NAMES], chosen[SWEEP_NAMES]; // "" where there is none
    double single_s, pair_s, ttft_s, exposed_s, speedup;
};

struct sweep {
    const char *what;
    struct row rows[SWEEP_MOST];
    size_t n;
};

static void names_of(const struct answer *a, const struct plan *p, char out[SWEEP_NAMES]) {
    if (!p)
        out[0] = 0;
    else if (p->prefill == p->decode)
        snprintf(out, SWEEP_NAMES, "%s", answer_name(a, p->decode));
    else
        snprintf(out, SWEEP_NAMES, "%s > %s", answer_name(a, p->prefill), answer_name(a, p->decode));
}

// A value for which nothing can be planned (no room, say) keeps an empty row.
static void add(struct sweep *s, const struct what_if *w, const char *value, double tokens) {
    struct answer a;
    struct row *r = &s->rows[s->n++];
    *r = (struct row){.tokens = tokens};
    snprintf(r->value, sizeof r->value, "%s", value);
    if (what_if_answer(w, &a, NULL)) return;
    names_of(&a, a.single, r->single);
    names_of(&a, a.pair, r->pair);
    names_of(&a, a.plans[0].mode == PLAN_TANDEM ? NULL : &a.plans[0], r->chosen);
    if (a.single) r->single_s = a.single->total_s;
    if (a.pair) {
        r->pair_s = a.pair->total_s;
        r->ttft_s = a.pair->ttft_s;
        r->exposed_s = a.pair->exposed_s;
    }
    r->speedup = speedup_of(a.pair, a.single);
}

static void sweep_tokens(struct sweep *s, struct what_if *w, double *tokens, double first, double last) {
    char value[24];
    for (*tokens = first; *tokens <= last; *tokens *= 2) {
        snprintf(value, sizeof value, "%.0f", *tokens);
        add(s, w, value, *tokens);
    }
}

static int sweep_run(struct sweep *s, const struct what_if *question, const char *what, struct err *e) {
    struct what_if w = *question;
    s->n = 0;
    s->what = what;
    if (!strcmp(what, "prompt"))
        sweep_tokens(s, &w, &w.prompt, PROMPT_FIRST, PROMPT_LAST);
    else if (!strcmp(what, "gen"))
        sweep_tokens(s, &w, &w.generate, GENERATE_FIRST, GENERATE_LAST);
    else if (!strcmp(what, "link"))
        for (size_t i = 0; (w.link = link_kind_at(i)) && s->n < SWEEP_MOST; i++) add(s, &w, w.link->name, 0);
    else
        return err_param(e, "sweep", "--sweep is prompt, link or gen, not '%.20s'", what);
    return 0;
}

// ---------------------------------------------------------------- output
static json_t *number_json(double v) { return v > 0 ? json_real(v) : json_null(); }

static json_t *name_json(const char *name) { return name[0] ? json_string(name) : json_null(); }

static json_t *row_json(const struct sweep *s, const struct row *r) {
    json_t *value = r->tokens > 0 ? json_integer((json_int_t)r->tokens) : json_string(r->value);
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", s->what, value, "single", name_json(r->single),
                     "single_s", number_json(r->single_s), "pair", name_json(r->pair), "pair_s", number_json(r->pair_s),
                     "pair_ttft_s", number_json(r->ttft_s), "exposed_s", number_json(r->exposed_s), "speedup",
                     number_json(r->speedup), "chosen", name_json(r->chosen));
}

static int print_json(const struct sweep *s, struct err *e) {
    json_t *rows = json_array(), *all = cli_object();
    for (size_t i = 0; i < s->n; i++) json_array_append_new(rows, row_json(s, &s->rows[i]));
    json_object_set_new(all, "sweep", json_string(s->what));
    json_object_set_new(all, "rows", rows);
    return term_print_json(all, e);
}

enum { FIGURE = 24 };

// A figure, or `nothing` where there is none.
static const char *figure(char out[FIGURE], const char *nothing, int digits, double v, const char *unit) {
    if (v > 0)
        snprintf(out, FIGURE, "%.*f%s", digits, v, unit);
    else
        snprintf(out, FIGURE, "%s", nothing);
    return out;
}

static void print_csv(const struct sweep *s) {
    char f[5][FIGURE];
    printf("%s,single,single_s,pair,pair_s,pair_ttft_s,exposed_s,speedup,chosen\n", s->what);
    for (size_t i = 0; i < s->n; i++) {
        const struct row *r = &s->rows[i];
        printf("%s,%s,%s,%s,%s,%s,%s,%s,%s\n", r->value, r->single, figure(f[0], "", 4, r->single_s, ""), r->pair,
               figure(f[1], "", 4, r->pair_s, ""), figure(f[2], "", 4, r->ttft_s, ""),
               figure(f[3], "", 4, r->exposed_s, ""), figure(f[4], "", 3, r->speedup, ""), r->chosen);
    }
}

static int print_table(const struct sweep *s, struct err *e) {
    const char *const head[] = {s->what, "FASTEST ALONE", ">TOTAL", "PAIR",
                                ">TTFT", ">EXPOSED",      ">TOTAL", ">PAIR GAINS"};
    char f[5][FIGURE];
    struct table t;
    int rc = 0;
    table_init(&t, head, COUNT_OF(head));
    for (size_t i = 0; i < s->n && !rc; i++) {
        const struct row *r = &s->rows[i];
        rc = table_cell(&t, e, "%s", r->value) || table_cell(&t, e, "%s", r->single[0] ? r->single : "no room") ||
             table_cell(&t, e, "%s", figure(f[0], "-", 2, r->single_s, " s")) ||
             table_cell(&t, e, "%s", r->pair[0] ? r->pair : "-") ||
             table_cell(&t, e, "%s", figure(f[1], "-", 2, r->ttft_s, " s")) ||
             table_cell(&t, e, "%s", figure(f[2], "-", 3, r->exposed_s, " s")) ||
             table_cell(&t, e, "%s", figure(f[3], "-", 2, r->pair_s, " s")) ||
             table_cell(&t, e, "%s", figure(f[4], "-", 2, r->speedup, "x"));
    }
    if (!rc) table_print(&t);
    table_free(&t);
    return rc ? -1 : 0;
}

static void print_plot(const struct sweep *s) {
    struct plot_point points[SWEEP_MOST];
    for (size_t i = 0; i < s->n; i++) {
        snprintf(points[i].label, sizeof points[i].label, "%s", s->rows[i].value);
        snprintf(points[i].best, sizeof points[i].best, "%s", s->rows[i].chosen[0] ? s->rows[i].chosen : "no room");
        points[i].speedup = s->rows[i].speedup;
    }
    plan_plot_print(points, s->n, s->what);
}

int plan_sweep_print(const struct what_if *w, const char *what, enum plan_format format, struct err *e) {
    struct sweep s;
    if (sweep_run(&s, w, what, e)) return -1;
    if (format == PLAN_JSON) return print_json(&s, e);
    if (format == PLAN_CSV)
        print_csv(&s);
    else if (print_table(&s, e))
        return -1;
    else
        print_plot(&s);
    return 0;
}

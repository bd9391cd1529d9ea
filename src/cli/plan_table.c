// nebulus plan: the plans for one request.
#include "cli/plan_parts.h"
#include "cli/table.h"
#include "cli/term.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

struct thresholds {
    double attention_only, full; // 0: there is no pair
};

static struct thresholds thresholds_of(const struct what_if *w, const struct answer *a, enum dtype wire) {
    if (!a->pair) return (struct thresholds){0, 0};
    const struct link_cost *link = &a->links[a->pair->prefill * w->n + a->pair->decode];
    double row = w->shape.kv_width * dtype_bits(wire) / 8 * (w->shape.layers - w->shape.windowed_layers);
    return (struct thresholds){
        overlap_attention_only(&w->shape, w->devices[a->pair->prefill], w->link->gbit_s * 1e9, wire),
        overlap_full(&a->nodes[a->pair->prefill].profile, row, link)};
}

// ---------------------------------------------------------------- JSON
static json_t *tokens_json(double tokens) {
    return tokens > 0 && isfinite(tokens) ? json_integer((json_int_t)llround(tokens)) : json_null();
}

static json_t *thresholds_json(const struct thresholds *t) {
    return json_pack("{s:o, s:o}", "attention_only", tokens_json(t->attention_only), "full", tokens_json(t->full));
}

static json_t *plan_json(const struct answer *a, const struct plan *p) {
    struct buf why;
    buf_init(&why, 4096);
    json_t *o = NULL;
    if (!plan_explain(&a->input, p, &a->plans[0], &why))
        o = json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:b, s:s}", "mode",
                      plan_mode_name(p->mode), "prefill", answer_name(a, p->prefill), "decode",
                      answer_name(a, p->decode), "ttft_s", p->ttft_s, "prefill_s", p->prefill_s, "transfer_s",
                      p->transfer_s, "exposed_s", p->exposed_s, "decode_s", p->decode_s, "total_s", p->total_s,
                      "speedup", speedup_of(p, a->baseline), "speedup_vs_best_single", speedup_of(p, a->single),
                      "predicted_only", p->mode == PLAN_TANDEM, "reason", buf_str(&why));
    buf_free(&why);
    return o;
}

static json_t *device_json(const struct what_if *w, size_t i) {
    const struct device *d = w->devices[i];
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s}", "name", w->names[i], "tflops", d->tflops,
                     "compute_efficiency", d->compute, "gb_s", d->gb_s, "bandwidth_efficiency", d->bandwidth,
                     "memory_gb", d->memory_gb, "price_usd", d->price_usd, "watts", d->watts, "efficiency_from",
                     d->origin);
}

static json_t *answer_json(const struct what_if *w, const struct answer *a) {
    json_t *plans = json_array(), *devices = json_array(), *by_wire = json_object(), *all = cli_object();
    for (size_t i = 0; i < w->n; i++) json_array_append_new(devices, device_json(w, i));
    for (size_t i = 0; i < a->n; i++) json_array_append_new(plans, plan_json(a, &a->plans[i]));
    for (int d = DTYPE_F16; d <= DTYPE_Q8; d++) {
        struct thresholds t = thresholds_of(w, a, (enum dtype)d);
        json_object_set_new(by_wire, dtype_wire_name((enum dtype)d), thresholds_json(&t));
    }
    struct thresholds t = thresholds_of(w, a, w->wire);
    json_object_set_new(all, "model", json_string(w->shape.name));
    json_object_set_new(all, "dtype", json_string(w->weights));
    json_object_set_new(all, "kv_type", json_string(dtype_wire_name(w->kv)));
    json_object_set_new(all, "wire", json_string(dtype_wire_name(w->wire)));
    json_object_set_new(all, "link", json_string(w->link->name));
    json_object_set_new(all, "prompt", json_integer((json_int_t)w->prompt));
    json_object_set_new(all, "gen", json_integer((json_int_t)w->generate));
    json_object_set_new(all, "devices", devices);
    json_object_set_new(all, "plans", plans);
    json_object_set_new(all, "baseline", a->baseline ? json_string(answer_name(a, a->baseline->decode)) : json_null());
    json_object_set_new(all, "overlap_threshold_tokens", thresholds_json(&t));
    json_object_set_new(all, "overlap_threshold_tokens_by_wire", by_wire);
    return all;
}

// ---------------------------------------------------------------- text
static int print_seconds(struct table *t, double s, struct err *e) {
    return s > 0 && s < 0.01 ? table_cell(t, e, "%.1f ms", s * 1e3) : table_cell(t, e, "%.2f s", s);
}

static int plan_row(struct table *t, const struct answer *a, const struct plan *p, struct err *e) {
    bool tandem = p->mode == PLAN_TANDEM, alone = p->mode == PLAN_LOCAL;
    return table_cell(t, e, "%s%s", plan_mode_name(p->mode), tandem ? " (predicted)" : "") ||
                   table_cell(t, e, "%s", answer_name(a, p->prefill)) ||
                   table_cell(t, e, "%s", answer_name(a, p->decode)) || print_seconds(t, p->prefill_s, e) ||
                   (alone ? table_cell(t, e, "-") : print_seconds(t, p->transfer_s, e)) ||
                   (alone ? table_cell(t, e, "-") : print_seconds(t, p->exposed_s, e)) ||
                   print_seconds(t, p->decode_s, e) || print_seconds(t, p->total_s, e) ||
                   table_cell(t, e, "%.2fx", speedup_of(p, a->baseline))
               ? -1
               : 0;
}

static int print_plans(const struct answer *a, struct err *e) {
    static const char *const head[] = {"PLAN",     "PREFILL ON", "DECODE ON", ">PREFILL", ">TRANSFER",
                                       ">EXPOSED", ">DECODE",    ">TOTAL",    ">SPEEDUP"};
    struct table t;
    int rc = 0;
    table_init(&t, head, COUNT_OF(head));
    for (size_t i = 0; i < a->n && !rc; i++) rc = plan_row(&t, a, &a->plans[i], e);
    if (!rc) table_print(&t);
    table_free(&t);
    return rc;
}

static void print_threshold(double tokens) {
    if (isinf(tokens))
        printf("none");
    else if (tokens <= 1)
        printf("every prompt");
    else
        printf("%.0f tokens", tokens);
}

static void print_thresholds(const struct what_if *w, const struct answer *a) {
    if (!a->pair) return;
    printf("\nThe transfer hides from a prompt of this length on, read on %s:\n", answer_name(a, a->pair->prefill));
    for (int d = DTYPE_F16; d <= DTYPE_Q8; d++) {
        struct thresholds t = thresholds_of(w, a, (enum dtype)d);
        printf("  %-5s behind attention alone (as published): ", dtype_wire_name((enum dtype)d));
        print_threshold(t.attention_only);
        printf("; behind the whole model: ");
        print_threshold(t.full);
        printf("%s\n", (enum dtype)d == w->wire ? "  <- planned" : "");
    }
}

static void print_devices(const struct what_if *w) {
    printf("\n");
    for (size_t i = 0; i < w->n; i++) {
        const struct device *d = w->devices[i];
        printf("%s: %.0f %% of %.0f TFLOP/s, %.0f %% of %.0f GB/s (%s); %.0f GB\n", w->names[i], d->compute * 100,
               d->tflops, d->bandwidth * 100, d->gb_s, d->origin, d->memory_gb);
    }
}

static int print_reasons(const struct answer *a, struct err *e) {
    struct buf why;
    int rc = 0;
    buf_init(&why, 4096);
    printf("\n");
    for (size_t i = 0; i < a->n && !rc; i++) {
        buf_clear(&why);
        rc = plan_explain(&a->input, &a->plans[i], &a->plans[0], &why);
        printf("%zu. %s: %s\n", i + 1, plan_mode_name(a->plans[i].mode), buf_str(&why));
    }
    buf_free(&why);
    return rc ? err_set(e, ERR_INTERNAL, "out of memory") : 0;
}

static void print_heading(const struct what_if *w) {
    char kv[SIZE_TEXT], weights[SIZE_TEXT];
    double bytes = plan_shape_kv_bytes(&w->shape, w->wire, w->prompt);
    printf("%s%s%s, %s (%s); prompt %.0f, answer %.0f tokens; KV %s as %s over %s\n\n",
           term_style(STDOUT_FILENO, STYLE_BOLD), w->shape.name, term_style(STDOUT_FILENO, STYLE_END), w->weights,
           term_size(weights, (uint64_t)plan_shape_weight_bytes(&w->shape)), w->prompt, w->generate,
           term_size(kv, (uint64_t)bytes), dtype_wire_name(w->wire), w->link->name);
}

static void print_excluded(const struct answer *a) {
    char why[160];
    for (size_t i = 0; i < a->input.n; i++)
        if (plan_hindrance(&a->input, i, true, why, sizeof why))
            printf("%s takes no part: %s\n", answer_name(a, i), why);
}

int plan_table_print(const struct what_if *w, bool json, bool explain, struct err *e) {
    struct answer a;
    if (what_if_answer(w, &a, e)) return -1;
    if (json) return term_print_json(answer_json(w, &a), e);
    print_heading(w);
    if (print_plans(&a, e)) return -1;
    if (a.baseline) printf("\nSpeedup is against %s alone", answer_name(&a, a.baseline->decode));
    if (a.baseline && a.baseline != a.single)
        printf("; against %s alone, the fastest single device, it is %.2fx", answer_name(&a, a.single->decode),
               speedup_of(&a.plans[0], a.single));
    if (a.baseline) printf(".\n");
    print_excluded(&a);
    print_thresholds(w, &a);
    if (!explain) return 0;
    print_devices(w);
    return print_reasons(&a, e);
}

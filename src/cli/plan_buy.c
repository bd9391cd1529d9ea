// nebulus plan --buy: what one more device brings, and when it has paid for itself.
#include "cli/plan_parts.h"
#include "cli/term.h"

#include <math.h>
#include <stdio.h>

static const double SECONDS_PER_DAY = 86400, JOULES_PER_KWH = 3.6e6;

struct purchase {
    const struct device *device;
    const struct answer *have, *with; // have: NULL where today nothing holds the model
    const struct plan *today, *then;  // the best plans; today may be NULL
    double price_usd, api_usd;        // api_usd: for a request like this one
    double energy_usd;                // of a request, all devices of the plan at full power while it runs
    double requests, tokens, days; // until the device has paid for itself; INFINITY: never; days: of work without pause
};

static double energy_joules(const struct what_if *w, const struct plan *p) {
    double watts = w->devices[p->prefill]->watts;
    if (p->decode != p->prefill) watts += w->devices[p->decode]->watts;
    return watts * p->total_s;
}

static void reckon(struct purchase *b, const struct what_if *w, const struct price *price) {
    double tokens = w->prompt + w->generate;
    b->price_usd = price->device_usd > 0 ? price->device_usd : b->device->price_usd;
    b->api_usd = price->api_usd * tokens / 1e6;
    b->energy_usd = energy_joules(w, b->then) / JOULES_PER_KWH * price->kwh_usd;
    double saved = b->api_usd - b->energy_usd;
    b->requests = saved > 0 ? ceil(b->price_usd / saved) : INFINITY;
    b->tokens = b->requests * tokens;
    b->days = b->requests * b->then->total_s / SECONDS_PER_DAY;
}

// ---------------------------------------------------------------- output
static json_t *side_json(const struct answer *a, const struct plan *p) {
    if (!p) return json_null();
    return json_pack("{s:s, s:s, s:s, s:f, s:f}", "mode", plan_mode_name(p->mode), "prefill",
                     answer_name(a, p->prefill), "decode", answer_name(a, p->decode), "ttft_s", p->ttft_s, "total_s",
                     p->total_s);
}

static json_t *finite_json(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static int print_json(const struct purchase *b, double api_price, struct err *e) {
    json_t *all = cli_object(), *pays = json_null();
    if (api_price > 0)
        pays = json_pack("{s:f, s:f, s:f, s:o, s:o, s:o}", "api_usd_per_mtoken", api_price, "api_usd_per_request",
                         b->api_usd, "energy_usd_per_request", b->energy_usd, "requests", finite_json(b->requests),
                         "tokens", finite_json(b->tokens), "days_without_pause", finite_json(b->days));
    if (all)
        json_object_set_new(all, "buy",
                            json_pack("{s:s, s:f, s:o, s:o, s:f, s:o}", "device", b->device->name, "price_usd",
                                      b->price_usd, "have", side_json(b->have, b->today), "with",
                                      side_json(b->with, b->then), "speedup", speedup_of(b->then, b->today),
                                      "break_even", pays));
    else
        json_decref(pays);
    return term_print_json(all, e);
}

static void print_side(const char *label, const struct answer *a, const struct plan *p) {
    if (!p)
        printf("%-10s none of it holds the model\n", label);
    else if (p->mode == PLAN_LOCAL)
        printf("%-10s %s alone: first token after %.2f s, done after %.2f s\n", label, answer_name(a, p->decode),
               p->ttft_s, p->total_s);
    else
        printf("%-10s %s reads, %s writes: first token after %.2f s, done after %.2f s\n", label,
               answer_name(a, p->prefill), answer_name(a, p->decode), p->ttft_s, p->total_s);
}

static void print_break_even(const struct purchase *b, double api_price) {
    char tokens[SIZE_TEXT], requests[SIZE_TEXT], days[SIZE_TEXT];
    if (!(api_price > 0)) {
        printf("With --api-price, the price of a million tokens elsewhere, this says when it has paid for itself.\n");
        return;
    }
    printf("A request costs %.4f USD at %.2f USD per million tokens, and at most %.4f USD of electricity here.\n",
           b->api_usd, api_price, b->energy_usd);
    if (isinf(b->requests))
        printf("It never pays for itself at that price.\n");
    else
        printf("It has paid for itself after %s requests (%s tokens), at the soonest in %s of work without a pause.\n",
               term_count(requests, (uint64_t)b->requests), term_count(tokens, (uint64_t)b->tokens),
               term_duration(days, (uint64_t)(b->days * SECONDS_PER_DAY)));
}

static void print_text(const struct purchase *b, const struct what_if *w, double api_price) {
    printf("%s, %s; prompt %.0f, answer %.0f tokens; %s\n\n", w->shape.name, w->weights, w->prompt, w->generate,
           w->link->name);
    print_side("have", b->have, b->today);
    print_side("with it", b->with, b->then);
    if (b->today && speedup_of(b->then, b->today) > 1)
        printf("\n%s (%.0f USD) makes it %.2f times as fast: %.2f s less per request.\n", b->device->name, b->price_usd,
               speedup_of(b->then, b->today), b->today->total_s - b->then->total_s);
    else if (b->today)
        printf("\n%s (%.0f USD) makes nothing faster here.\n", b->device->name, b->price_usd);
    else
        printf("\n%s (%.0f USD) makes it possible.\n", b->device->name, b->price_usd);
    print_break_even(b, api_price);
}

static const struct plan *best_executable(const struct answer *a) {
    return a->n && a->plans[0].mode != PLAN_TANDEM ? &a->plans[0] : NULL;
}

int plan_buy_print(const struct what_if *w, const struct device *d, const struct price *price, bool json,
                   struct err *e) {
    struct answer have, with;
    struct what_if more = *w;
    if (what_if_add(&more, d, e)) return -1;
    bool possible = !what_if_answer(w, &have, NULL);
    if (what_if_answer(&more, &with, e)) return -1;
    struct purchase b = {.device = d,
                         .have = &have,
                         .with = &with,
                         .today = possible ? best_executable(&have) : NULL,
                         .then = best_executable(&with)};
    if (!b.then) return err_set(e, ERR_DENIED, "no placement is permitted, with %s neither", d->name);
    reckon(&b, &more, price);
    if (json) return print_json(&b, price->api_usd, e);
    print_text(&b, &more, price->api_usd);
    return 0;
}

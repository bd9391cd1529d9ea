// The parts of `nebulus plan`: each prints one kind of answer to stdout.
#pragma once

#include "cli/plan_what.h"

enum plan_format { PLAN_TEXT, PLAN_JSON, PLAN_CSV };

// The plans for one request, and from which prompt length on the link's transfer hides.
int plan_table_print(const struct what_if *w, bool json, bool explain, struct err *e) MUST_USE;

// The same question for many values of one quantity: "prompt", "link" or "gen".
int plan_sweep_print(const struct what_if *w, const char *what, enum plan_format format, struct err *e) MUST_USE;

struct price {
    double api_usd;    // what an API takes per million tokens, read and written ones; 0 = not asked
    double kwh_usd;    // electricity
    double device_usd; // of the device; 0 = the catalogue's
};

// What another device brings.
int plan_buy_print(const struct what_if *w, const struct device *d, const struct price *price, bool json,
                   struct err *e) MUST_USE;

// One line per value: a bar as long as the pair is fast against the best single device, with a mark at 1.
struct plot_point {
    char label[24];
    double speedup; // 0: nothing to compare
    char best[96];  // what the planner would do
};
void plan_plot_print(const struct plot_point *points, size_t n, const char *what);

// nebulus plan: what a request would cost on devices that one has, or thinks of buying: pure arithmetic (plan/), no
// daemon. Without a device: what the daemon predicts for its cluster.
#include "cli/plan_live.h"
#include "cli/plan_parts.h"

#include <string.h>

static const struct option options[] = {
    {.name = "prompt",
     .letter = 'p',
     .type = OPTION_INT,
     .min = 1,
     .max = 100000000,
     .placeholder = "N",
     .help = "tokens of the prompt (8192)"},
    {.name = "gen",
     .letter = 'g',
     .type = OPTION_INT,
     .min = 1,
     .max = 100000000,
     .placeholder = "N",
     .help = "tokens of the answer (128)"},
    {.name = "device",
     .letter = 'd',
     .type = OPTION_TEXT,
     .placeholder = "NAME",
     .help = "a machine of the catalogue; once for each"},
    {.name = "link", .letter = 'l', .type = OPTION_TEXT, .placeholder = "NAME", .help = "what connects them (10gbe)"},
    {.name = "dtype",
     .type = OPTION_TEXT,
     .placeholder = "TYPE",
     .help = "weights and KV cache: f16, q8, or q4 with a KV cache of q8 (f16; a file's own)"},
    {.name = "wire",
     .type = OPTION_TEXT,
     .placeholder = "TYPE",
     .help = "KV rows on the link: f16 or q8_0 (as in the cache)"},
    {.name = "explain", .letter = 'x', .type = OPTION_FLAG, .help = "say why each plan costs what it does"},
    {.name = "sweep",
     .type = OPTION_TEXT,
     .placeholder = "WHAT",
     .help = "prompt, link or gen: where the pair wins, as a table and a plot"},
    {.name = "csv", .type = OPTION_FLAG, .help = "the sweep as comma-separated values"},
    {.name = "buy",
     .type = OPTION_TEXT,
     .placeholder = "DEVICE",
     .help = "compare with what there is and this one beside it"},
    {.name = "price",
     .type = OPTION_REAL,
     .min = 0,
     .max = 1e9,
     .placeholder = "USD",
     .help = "of the device to buy (its list price)"},
    {.name = "api-price",
     .type = OPTION_REAL,
     .min = 0,
     .max = 1e6,
     .placeholder = "USD",
     .help = "what a million tokens cost elsewhere, for the break-even"},
    {.name = "power-price",
     .type = OPTION_REAL,
     .min = 0,
     .max = 1e3,
     .placeholder = "USD",
     .help = "electricity per kWh (0)"},
    OPTION_JSON,
};

static int check(const struct args *a, struct err *e) {
    bool sweep = args_has(a, "sweep"), buy = args_has(a, "buy");
    static const char *const of_buy[] = {"price", "api-price", "power-price"};
    if (sweep && buy) return err_param(e, "buy", "--sweep and --buy are two questions: ask one");
    if (args_has(a, "csv") && !sweep) return err_param(e, "csv", "--csv belongs to --sweep");
    if (args_has(a, "csv") && args_has(a, "json")) return err_param(e, "csv", "--csv or --json, not both");
    for (size_t i = 0; i < COUNT_OF(of_buy) && !buy; i++)
        if (args_has(a, of_buy[i])) return err_param(e, of_buy[i], "--%s belongs to --buy", of_buy[i]);
    return 0;
}

static int print(const struct what_if *w, const struct args *a, struct err *e) {
    bool json = args_has(a, "json");
    const char *sweep = args_text(a, "sweep", NULL), *buy = args_text(a, "buy", NULL);
    if (sweep) return plan_sweep_print(w, sweep, json ? PLAN_JSON : args_has(a, "csv") ? PLAN_CSV : PLAN_TEXT, e);
    if (!buy) return plan_table_print(w, json, args_has(a, "explain"), e);
    const struct device *d = device_find(buy, e);
    const struct price price = {.api_usd = args_real(a, "api-price", 0),
                                .kwh_usd = args_real(a, "power-price", 0),
                                .device_usd = args_real(a, "price", 0)};
    return d ? plan_buy_print(w, d, &price, json, e) : -1;
}

// No question about machines that are not there: the daemon is asked about those that are.
static bool is_live(const struct args *a) {
    for (size_t i = 0; i < a->n_given; i++) {
        const char *name = a->given[i].option ? a->given[i].option->name : "api";
        if (strcmp(name, "prompt") && strcmp(name, "gen") && strcmp(name, "explain") && strcmp(name, "json") &&
            strcmp(name, "api"))
            return false;
    }
    return true;
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct what_if w;
    if (is_live(&in->args)) return plan_live_run(in);
    if (check(&in->args, &e)) return cli_usage(in->command, &e);
    if (!what_if_read(&w, in, &e) && !print(&w, &in->args, &e)) return CLI_OK;
    return e.code == ERR_INVALID && e.param[0] ? cli_usage(in->command, &e) : cli_fail(&e);
}

const struct command command_plan = {
    .name = "plan",
    .group = "Cluster",
    .arguments = "MODEL",
    .summary = "Predict what a request costs on which machines",
    .details =
        "MODEL is a known model's name, a stored one, or a .gguf file. With devices, this works without a daemon:\n"
        "  nebulus plan llama-3.1-8b --prompt 8192 --gen 32 --device dgx-spark --device m3-ultra --link 10gbe\n"
        "Without any: what the daemon predicts for the nodes of its cluster, by which it chooses them.\n"
        "A wrong name lists the known ones. Figures are estimates from data sheets and published measurements.",
    .min_words = 1,
    .max_words = 1,
    .completes = COMPLETES_MODELS,
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

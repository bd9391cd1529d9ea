// nebulus profile: what models cost on this node and on the others of its cluster.
#include "base/json.h"
#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/table.h"
#include "cli/term.h"

#include <stdio.h>
#include <string.h>

enum { POLL_MS = 100, PATIENCE_MS = 60000 };
#define PATH "/nebulus/v1/profile"

static const struct option options[] = {
    {.name = "measure", .letter = 'm', .type = OPTION_FLAG, .help = "measure this node's models again, and wait"},
    OPTION_JSON};

static bool is_wanted(const json_t *one, const char *model) {
    const char *name = json_string_value(json_object_get(one, "model"));
    return !*model || (name && !strcmp(name, model));
}

// Only what is asked for stays in the answer.
static json_t *ask(struct api_client *api, const char *model, struct err *e) {
    json_t *answer = NULL, *list = NULL;
    if (api_get(api, PATH, &answer, e) || json_get_array(answer, "profiles", &list, e)) {
        json_decref(answer);
        return NULL;
    }
    for (size_t i = json_array_size(list); i-- > 0;)
        if (!is_wanted(json_array_get(list, i), model)) json_array_remove(list, i);
    if (json_array_size(list) || !*model) return answer;
    json_decref(answer);
    err_set(e, ERR_NOT_FOUND, "no model '%.128s' is ready on any node: load it first", model);
    return NULL;
}

static bool is_measuring(const json_t *answer) {
    const json_t *list = json_object_get(answer, "profiles"), *one;
    size_t i;
    json_array_foreach(list, i, one) {
        if (json_is_true(json_object_get(one, "measuring"))) return true;
    }
    return false;
}

static int measure(struct api_client *api, const char *model, struct err *e) {
    json_t *body = json_pack("{s:s}", "model", model), *answer = NULL;
    int rc = body ? api_post(api, PATH, body, &answer, e) : err_set(e, ERR_INVALID, "names of models are UTF-8 text");
    json_decref(body);
    json_decref(answer);
    for (long waited = 0; !rc; waited += POLL_MS) {
        answer = ask(api, model, e);
        bool more = is_measuring(answer);
        json_decref(answer);
        if (!answer) return -1;
        if (!more) return 0;
        if (waited >= PATIENCE_MS) return err_set(e, ERR_BUSY, "the node has other work: it measures when it has none");
        if (interrupt_sleep(POLL_MS)) return err_set(e, ERR_CANCELLED, "interrupted; the measuring goes on");
    }
    return rc;
}

// tokens/s at some lengths, "812 / 640 / 301"
static int speeds_text(const json_t *one, const char *phase, char *out, size_t size, struct err *e) {
    static const size_t at[] = {1, 3, 4}; // 512, 4096, 16384 tokens
    json_t *list = NULL;
    size_t used = 0;
    if (json_get_array(one, phase, &list, e)) return -1;
    *out = 0;
    for (size_t i = 0; i < COUNT_OF(at) && used < size; i++) {
        double v = 0;
        if (json_get_real(json_array_get(list, at[i]), "tokens_s", 0, 1e15, &v, e)) return -1;
        used += (size_t)snprintf(out + used, size - used, v < 10 ? "%s%.2g" : "%s%.0f", i ? " / " : "", v);
    }
    return 0;
}

// Gbit/s out of the KV cache and into it, "31 / 12"
static int rows_text(const json_t *one, char *out, size_t size, struct err *e) {
    double leave = 0, enter = 0;
    if (json_get_real(one, "export_bytes_s", 0, 1e15, &leave, e) ||
        json_get_real(one, "import_bytes_s", 0, 1e15, &enter, e))
        return -1;
    snprintf(out, size, leave > 0 ? "%.3g / %.3g" : "-", leave * 8 / 1e9, enter * 8 / 1e9);
    return 0;
}

static int print_row(struct table *t, const json_t *one, struct err *e) {
    const char *model = "?", *node = "?", *source = "?";
    double age = 0, error = 0;
    char moves[48], read[96], write[96], since[SIZE_TEXT] = "-", off[16] = "-";
    bool measuring = false;
    if (json_get_string(one, "model", &model, e) || json_get_string(one, "node", &node, e) ||
        json_get_string(one, "source", &source, e) || json_get_real(one, "age_s", 0, 1e15, &age, e) ||
        json_get_real(one, "error", 0, 1, &error, e) || json_get_bool(one, "measuring", &measuring, e) ||
        speeds_text(one, "prefill", read, sizeof read, e) || speeds_text(one, "decode", write, sizeof write, e))
        return -1;
    if (rows_text(one, moves, sizeof moves, e)) return -1;
    if (strcmp(source, "guessed") != 0) {
        term_duration(since, (uint64_t)age);
        snprintf(off, sizeof off, "%.0f %%", 100 * error);
    }
    return table_cell(t, e, "%s", model) || table_cell(t, e, "%s", node) || table_cell(t, e, "%s", read) ||
                   table_cell(t, e, "%s", write) || table_cell(t, e, "%s", moves) ||
                   table_cell(t, e, "%s%s", source, measuring ? ", measuring" : "") || table_cell(t, e, "%s", since) ||
                   table_cell(t, e, "%s", off)
               ? -1
               : 0;
}

static int print(const json_t *answer, struct err *e) {
    static const char *const head[] = {"MODEL", "NODE", ">READS", ">WRITES", ">ROWS", "SOURCE", ">AGE", ">ERROR"};
    const json_t *list = json_object_get(answer, "profiles");
    struct table t;
    int rc = 0;
    if (!json_array_size(list)) {
        term_notice("no model is ready on any node");
        return 0;
    }
    table_init(&t, head, COUNT_OF(head));
    for (size_t i = 0; i < json_array_size(list) && !rc; i++) rc = print_row(&t, json_array_get(list, i), e);
    if (!rc) {
        table_print(&t);
        printf("tokens/s with prompts of, and after, 512 / 4096 / 16384 tokens; Gbit/s of KV rows out of the cache and "
               "in\n");
    }
    table_free(&t);
    return rc;
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    const char *model = in->args.n_words ? in->args.words[0] : "";
    struct api_client *api = api_open(in->settings.api, &e);
    json_t *answer = NULL;
    int rc = api ? 0 : -1;
    if (!rc && args_has(&in->args, "measure")) rc = measure(api, model, &e);
    if (!rc && !(answer = ask(api, model, &e))) rc = -1;
    if (!rc) rc = args_has(&in->args, "json") ? term_print_json(json_incref(answer), &e) : print(answer, &e);
    json_decref(answer);
    api_close(api);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_profile = {
    .name = "profile",
    .group = "Observe",
    .arguments = "[MODEL]",
    .summary = "Show how fast models are on which nodes",
    .details = "Each node measures its models when it has nothing else to do, and corrects the figures with every job "
               "that ran\n"
               "alone. ERROR is how far the last predictions were off (median). `--measure` begins anew.",
    .max_words = 1,
    .completes = COMPLETES_MODELS,
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

// nebulus trace: what happened to a request, and when.
#include "base/json.h"
#include "base/text.h"
#include "cli/term.h"
#include "cli/view.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BAR_COLUMNS = 40 };

struct timeline {
    const json_t *trace, *nodes, *events;
    double last_ms;
    int64_t prompt_tokens;
};

static int read_timeline(struct timeline *t, struct err *e) {
    json_t *nodes = NULL, *events = NULL;
    if (json_get_array(t->trace, "nodes", &nodes, e) || json_get_array(t->trace, "events", &events, e) ||
        json_get_int(t->trace, "prompt_tokens", 0, INT64_MAX, &t->prompt_tokens, e))
        return -1;
    t->nodes = nodes;
    t->events = events;
    const json_t *last = json_array_get(events, json_array_size(events) - 1);
    return json_get_real(last, "ms", 0, 1e15, &t->last_ms, e);
}

static const char *describe(const char *event, int64_t value, char *out, size_t size) {
    static const struct {
        const char *event, *words;
    } table[] = {
        {"opened", "has a place for the prompt of %lld tokens"},
        {"stream", "gets KV rows from position %lld on"},
        {"started", "computes, after %lld generated tokens"},
        {"installed", "holds the KV rows of %lld tokens"},
        {"token", "token %lld"},
        {"paused", "pauses with the KV rows of %lld tokens"},
        {"cut", "its KV stream ended early"},
        {"failed", "is lost"},
        {"ended", "the answer ends after %lld tokens"},
        {"dropped", "is dropped"},
        {"computed", "has computed the KV rows of %lld tokens"},
        {"sent", "has sent %lld bytes of KV rows"},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        if (strcmp(event, table[i].event) != 0) continue;
        const char *number = strstr(table[i].words, "%lld");
        if (!number) return table[i].words;
        snprintf(out, size, "%.*s%lld%s", (int)(number - table[i].words), table[i].words, (long long)value, number + 4);
        return out;
    }
    return event;
}

static int print_event(const struct timeline *t, const json_t *event, struct err *e) {
    double ms = 0;
    int64_t place = 0, value = 0;
    const char *name = "", *reason = "";
    char words[128], node[128], text[256], why[512];
    if (json_get_real(event, "ms", 0, 1e15, &ms, e) || json_get_int(event, "place", 0, 15, &place, e) ||
        json_get_string(event, "event", &name, e) || json_get_int(event, "value", INT64_MIN, INT64_MAX, &value, e) ||
        json_get_string(event, "reason", &reason, e))
        return -1;
    const char *known = json_string_value(json_array_get(t->nodes, (size_t)place));
    text_escape(node, sizeof node, known ? known : "?");
    text_escape(text, sizeof text, describe(name, value, words, sizeof words));
    text_escape(why, sizeof why, reason);
    int at = t->last_ms > 0 ? (int)(ms / t->last_ms * (BAR_COLUMNS - 1)) : 0;
    printf("%10.1f ms  %*s%c%*s  %s%-12s%s %s%s%s\n", ms, at, "", place ? 'o' : '*', BAR_COLUMNS - 1 - at, "",
           term_style(STDOUT_FILENO, place ? STYLE_DIM : STYLE_BOLD), node, term_style(STDOUT_FILENO, STYLE_END), text,
           *why ? ": " : "", why);
    return 0;
}

// Which nodes' times are not their own.
static int print_emulated(const struct timeline *t, struct err *e) {
    json_t *list = NULL;
    char node[128], text[128];
    if (json_get_array(t->trace, "emulated", &list, e)) return -1;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(t->nodes, i));
        const char *whose = json_string_value(json_array_get(list, i));
        if (!name || !whose) continue;
        text_escape(node, sizeof node, name);
        text_escape(text, sizeof text, whose);
        printf("%s: its times are those of %s, emulated\n", node, text);
    }
    return 0;
}

struct forecast {
    const char *mode, *reads, *writes, *wrong, *reason;
    json_t *predicted, *measured;
    double ttft_ms, total_ms, real_ttft_ms, real_total_ms;
};

static int read_plan(const json_t *plan, struct forecast *f, struct err *e) {
    static const double most = 1e12;
    if (json_get_string(plan, "mode", &f->mode, e) || json_get_string(plan, "prefill", &f->reads, e) ||
        json_get_string(plan, "decode", &f->writes, e) || json_get_string(plan, "wrong", &f->wrong, e) ||
        json_get_string(plan, "reason", &f->reason, e) || json_get_object(plan, "predicted", &f->predicted, e) ||
        json_get_object(plan, "measured", &f->measured, e) ||
        json_get_real(f->predicted, "ttft_ms", 0, most, &f->ttft_ms, e) ||
        json_get_real(f->predicted, "total_ms", 0, most, &f->total_ms, e) ||
        json_get_real(plan, "predicted_for_this_answer_ms", 0, most, &f->total_ms, e))
        return -1;
    return json_get_real(f->measured, "ttft_ms", 0, most, &f->real_ttft_ms, e) ||
                   json_get_real(f->measured, "total_ms", 0, most, &f->real_total_ms, e)
               ? -1
               : 0;
}

// Why these nodes, and what was predicted, beside what came of it.
static int print_plan(const json_t *trace, struct err *e) {
    struct forecast f = {.mode = "", .reads = "", .writes = "", .wrong = "", .reason = ""};
    json_t *plan = NULL;
    char words[512];
    if (json_get_object(trace, "plan", &plan, e) || (plan && read_plan(plan, &f, e))) return -1;
    if (!plan) return 0;
    text_escape(words, sizeof words, f.mode);
    printf("planned: %s: ", words);
    text_escape(words, sizeof words, f.reason);
    printf("%s\n", words);
    printf("predicted: first token after %.1f ms, all of it after %.1f ms", f.ttft_ms, f.total_ms);
    if (f.measured) printf("; it took %.1f and %.1f ms", f.real_ttft_ms, f.real_total_ms);
    text_escape(words, sizeof words, f.wrong);
    printf("%s%s\n", f.wrong[0] ? "\nthe prediction was wrong: " : "", words);
    return 0;
}

// How much of the transfer the reading of the prompt has hidden.
static int print_transfer(const json_t *trace, int64_t bytes, struct err *e) {
    json_t *transfer = NULL;
    double ms = 0, exposed = 0, hidden = 0;
    char size[SIZE_TEXT];
    if (json_get_object(trace, "transfer", &transfer, e)) return -1;
    if (!transfer) return 0;
    if (json_get_real(transfer, "ms", 0, 1e15, &ms, e) || json_get_real(transfer, "exposed_ms", 0, 1e15, &exposed, e) ||
        json_get_real(transfer, "hidden", 0, 1, &hidden, e))
        return -1;
    if (!json_object_get(transfer, "hidden")) {
        printf(
            "moved %s in all; the prompt's last row came %.1f ms after the first token (how long the rows travelled, "
            "the sending node knows)\n",
            term_size(size, (uint64_t)bytes), exposed);
        return 0;
    }
    printf("moved %s in all; the prompt's rows travelled for %.1f ms, %.1f ms of it after the first token: %.0f %% of "
           "the transfer was hidden behind prefill\n",
           term_size(size, (uint64_t)bytes), ms, exposed, hidden * 100);
    return 0;
}

static int print_timeline(const json_t *trace, struct err *e) {
    struct timeline t = {.trace = trace};
    const char *id = "", *model = "", *agent = "", *wire = "";
    int64_t kv_bytes = 0;
    char safe[256], size[SIZE_TEXT];
    size_t i;
    const json_t *event;
    if (read_timeline(&t, e) || json_get_string(trace, "id", &id, e) || json_get_string(trace, "model", &model, e) ||
        json_get_string(trace, "agent", &agent, e) || json_get_string(trace, "wire", &wire, e) ||
        json_get_int(trace, "kv_bytes", 0, INT64_MAX, &kv_bytes, e))
        return -1;
    text_escape(safe, sizeof safe, model);
    printf("%s  %s  %lld tokens read", id, safe, (long long)t.prompt_tokens);
    text_escape(safe, sizeof safe, agent);
    printf(" for %s", safe);
    text_escape(safe, sizeof safe, wire);
    if (kv_bytes) printf(", %s of KV rows moved as %s", term_size(size, (uint64_t)kv_bytes), safe);
    printf("\n");
    if (print_emulated(&t, e) || print_plan(trace, e)) return -1;
    json_array_foreach(t.events, i, event) {
        if (print_event(&t, event, e)) return -1;
    }
    return print_transfer(trace, kv_bytes, e);
}

static int run(struct invocation *in) {
    char path[256], id[128];
    text_escape(id, sizeof id, in->args.n_words ? in->args.words[0] : "latest");
    snprintf(path, sizeof path, "/nebulus/v1/traces/%s", id);
    return view_run(in, path, print_timeline);
}

const struct command command_trace = {
    .name = "trace",
    .group = "Observe",
    .arguments = "[REQUEST]",
    .summary = "Show what happened to a request, and when",
    .details = "REQUEST is the id of an answer (`chatcmpl-...`); without one, the newest answer's trace is shown. The "
               "daemon that\n"
               "took the request keeps the newest 128.",
    .max_words = 1,
    .options = json_option,
    .n_options = COUNT_OF(json_option),
    .settings = SETTINGS_API,
    .run = run,
};

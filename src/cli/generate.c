#include "cli/generate.h"
#include "base/json.h"
#include "base/limits.h"
#include "cli/term.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

void outcome_init(struct outcome *o) {
    *o = (struct outcome){
        .queue_ms = -1, .prefill_ms = -1, .decode_ms = -1, .ttft_ms = -1, .tpot_ms = -1, .total_ms = -1};
    o->seed = o->prompt_tokens = o->completion_tokens = -1;
    buf_init(&o->text, LIMIT_API_ANSWER);
}

void outcome_free(struct outcome *o) { buf_free(&o->text); }

// ---- the request

static int add_option(json_t *request, const struct args *a, const struct given *g) {
    char name[64];
    const char *option = g->option->name;
    snprintf(name, sizeof name, "%s", option);
    for (char *p = name; *p; p++)
        if (*p == '-') *p = '_';
    if (g->option->type == OPTION_INT) return json_object_set_new(request, name, json_integer(args_int(a, option, 0)));
    if (g->option->type == OPTION_REAL) return json_object_set_new(request, name, json_real(args_real(a, option, 0)));
    return json_object_set_new(request, name, json_true());
}

static bool shapes_answer(const struct given *g) {
    static const char *const names[] = {
        "temperature",       "top-k", "top-p",      "min-p",     "repeat-penalty", "repeat-last-n", "presence-penalty",
        "frequency-penalty", "seed",  "max-tokens", "ignore-eos"};
    for (size_t i = 0; g->option && i < sizeof names / sizeof *names; i++)
        if (!strcmp(g->option->name, names[i])) return true;
    return false;
}

json_t *generate_request(const struct args *a, const char *model) {
    json_t *request = json_pack("{s:s}", "model", model), *stop = json_array();
    int bad = !request || !stop;
    for (size_t i = 0; i < a->n_given && !bad; i++) {
        const struct given *g = &a->given[i];
        if (shapes_answer(g))
            bad = add_option(request, a, g);
        else if (g->option && !strcmp(g->option->name, "stop"))
            bad = json_array_append_new(stop, json_string(g->value));
    }
    if (!bad && json_array_size(stop)) bad = json_object_set(request, "stop", stop);
    json_decref(stop);
    if (!bad) return request;
    json_decref(request);
    return NULL;
}

static const char *path_of(const json_t *request) {
    return json_object_get(request, "messages") ? "/v1/chat/completions" : "/v1/completions";
}

// ---- the answer

struct receiving {
    struct outcome *o;
    bool tty;
    struct cleaner cleaner;
    struct buf shown; // one piece, cleaned
};

static int show(struct receiving *r, const char *text, struct err *e) {
    size_t n = strlen(text);
    if (buf_append(&r->o->text, text, n))
        return err_set(e, ERR_LIMIT, "the answer is longer than %u bytes", LIMIT_API_ANSWER);
    if (r->tty) {
        buf_clear(&r->shown);
        if (clean_append(&r->cleaner, &r->shown, text, n)) return err_set(e, ERR_INTERNAL, "out of memory");
        text = buf_str(&r->shown);
        n = r->shown.len;
    }
    if (fwrite(text, 1, n, stdout) != n || fflush(stdout)) return err_errno(e, "cannot write to stdout");
    return 0;
}

static int take_timings(struct outcome *o, const json_t *event, struct err *e) {
    json_t *own = NULL, *t = NULL;
    const double most = 1e15;
    if (json_get_object(event, "nebulus", &own, e)) return -1;
    if (!own) return 0;
    if (json_get_object(own, "timings", &t, e) || json_get_int(own, "seed", INT64_MIN, INT64_MAX, &o->seed, e) ||
        json_get_int(own, "prompt_tokens", 0, INT64_MAX, &o->prompt_tokens, e) ||
        json_get_int(own, "completion_tokens", 0, INT64_MAX, &o->completion_tokens, e))
        return -1;
    if (!t) return 0;
    return json_get_real(t, "queue_ms", 0, most, &o->queue_ms, e) ||
                   json_get_real(t, "prefill_ms", 0, most, &o->prefill_ms, e) ||
                   json_get_real(t, "decode_ms", 0, most, &o->decode_ms, e) ||
                   json_get_real(t, "ttft_ms", 0, most, &o->ttft_ms, e) ||
                   json_get_real(t, "tpot_ms", 0, most, &o->tpot_ms, e) ||
                   json_get_real(t, "total_ms", 0, most, &o->total_ms, e)
               ? -1
               : 0;
}

static int on_chunk(void *arg, const json_t *event, struct err *e) {
    struct receiving *r = arg;
    json_t *choices = NULL, *delta = NULL;
    const char *text = NULL, *finish = NULL;
    if (take_timings(r->o, event, e) || json_get_array(event, "choices", &choices, e)) return -1;
    const json_t *choice = json_array_get(choices, 0);
    if (!choice) return 0;
    if (json_get_object(choice, "delta", &delta, e) ||
        json_get_string(delta ? delta : choice, delta ? "content" : "text", &text, e) ||
        json_get_string(choice, "finish_reason", &finish, e))
        return -1;
    if (finish) snprintf(r->o->finish, sizeof r->o->finish, "%s", finish);
    return text && *text ? show(r, text, e) : 0;
}

int generate_stream(struct api_client *api, json_t *request, struct outcome *o, struct err *e) {
    struct receiving r = {.o = o, .tty = term_is_tty(STDOUT_FILENO)};
    buf_init(&r.shown, LIMIT_API_ANSWER);
    int rc = -1;
    if (json_object_set_new(request, "stream", json_true()))
        err_set(e, ERR_INTERNAL, "out of memory");
    else
        rc = api_stream(api, path_of(request), request, on_chunk, &r, e);
    if (!rc && !o->finish[0])
        rc = err_set(e, ERR_UNREACHABLE, "the daemon ended the answer before its end: see its log");
    // the shell's prompt, or the next line of the chat, begins on a line of its own
    if (r.tty && o->text.len && o->text.data[o->text.len - 1] != '\n') printf("\n");
    fflush(stdout);
    buf_free(&r.shown);
    return rc;
}

int generate_whole(struct api_client *api, json_t *request, json_t **answer, struct err *e) {
    return api_post(api, path_of(request), request, answer, e);
}

void outcome_print(const struct outcome *o) {
    double prefill_rate = o->prefill_ms > 0 ? (double)o->prompt_tokens * 1000 / o->prefill_ms : 0;
    fflush(stdout);
    if (o->total_ms < 0) {
        term_notice("no timings were told");
        return;
    }
    fprintf(stderr, "%s", term_style(STDERR_FILENO, STYLE_DIM));
    fprintf(
        stderr,
        "prompt %lld tokens (%.1f/s), answer %lld tokens (%.1f/s), TTFT %.0f ms, TPOT %.2f ms, total %.2f s, seed %lld",
        (long long)o->prompt_tokens, prefill_rate, (long long)o->completion_tokens,
        o->tpot_ms > 0 ? 1000 / o->tpot_ms : 0, o->ttft_ms, o->tpot_ms, o->total_ms / 1000, (long long)o->seed);
    fprintf(stderr, "%s\n", term_style(STDERR_FILENO, STYLE_END));
}

// nebulus run: one answer, or a conversation.
#include "base/json.h"
#include "base/limits.h"
#include "cli/api_client.h"
#include "cli/chat.h"
#include "cli/command.h"
#include "cli/generate.h"
#include "cli/interrupt.h"
#include "cli/own_daemon.h"
#include "cli/plan_live.h"
#include "cli/residency.h"
#include "cli/term.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct option options[] = {
    {.name = "system", .letter = 's', .type = OPTION_TEXT, .placeholder = "TEXT", .help = "system message"},
    {.name = "file",
     .letter = 'f',
     .type = OPTION_TEXT,
     .placeholder = "FILE",
     .help = "put the content of FILE before the prompt"},
    {.name = "raw", .type = OPTION_FLAG, .help = "complete the text as it is, without the chat template"},
    OPTIONS_GENERATE,
    {.name = "prefill", .type = OPTION_TEXT, .placeholder = "NODE", .help = "the node that reads the prompt"},
    {.name = "decode", .type = OPTION_TEXT, .placeholder = "NODE", .help = "the node that writes the answer"},
    {.name = "handover",
     .type = OPTION_TEXT,
     .placeholder = "HOW",
     .help = "zero-stall (default), wait, or after: how the answer changes nodes"},
    {.name = "explain",
     .letter = 'x',
     .type = OPTION_FLAG,
     .help = "first say on stderr which nodes could do it, and why"},
    {.name = "stats", .letter = 'v', .type = OPTION_FLAG, .help = "tokens, TTFT and TPOT on stderr after the answer"},
    {.name = "verbose", .type = OPTION_FLAG, .help = "the same"},
    OPTION_JSON,
};

struct job {
    struct invocation *in;
    struct own_daemon own;
    struct api_client *api;
    struct loading loading;
    struct buf prompt;
    bool interactive;
};

// ---- the prompt

static int add_part(struct buf *prompt, const char *text, size_t n, struct err *e) {
    if (prompt->len && n) buf_puts(prompt, "\n\n");
    if (n) buf_append(prompt, text, n);
    return prompt->failed ? err_set(e, ERR_LIMIT, "the prompt is longer than %u bytes", LIMIT_CLI_TEXT) : 0;
}

static int add_stdin(struct buf *prompt, struct err *e) {
    char piece[16384];
    bool first = true;
    for (;;) {
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
        if (interrupt_pending()) return err_set(e, ERR_CANCELLED, "interrupted");
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_errno(e, "cannot read stdin");
        if (!n) return 0;
        if (first ? add_part(prompt, piece, (size_t)n, e) : buf_append(prompt, piece, (size_t)n))
            return err_set(e, ERR_LIMIT, "the prompt is longer than %u bytes", LIMIT_CLI_TEXT);
        first = false;
    }
}

// --file, what is piped in, and PROMPT, in this order, an empty line between them: a question stands behind its
// document, and several questions share the document's beginning. Nothing at all at a terminal: a conversation.
static int read_prompt(struct job *j, struct err *e) {
    const struct args *a = &j->in->args;
    const char *file = args_text(a, "file", NULL);
    bool piped = !term_is_tty(STDIN_FILENO), given = a->n_words > 1 || file;
    if (file) {
        char *data;
        size_t n;
        if (file_read(file, LIMIT_CLI_TEXT, &data, &n, e)) return -1;
        int rc = add_part(&j->prompt, data, n, e);
        free(data);
        if (rc) return -1;
    }
    j->interactive = !given && !piped && term_is_tty(STDOUT_FILENO);
    if (piped && add_stdin(&j->prompt, e)) return -1;
    if (a->n_words > 1 && add_part(&j->prompt, a->words[1], strlen(a->words[1]), e)) return -1;
    if (j->interactive && args_has(a, "json"))
        return err_param(e, "json", "--json needs a prompt: as an argument, with --file or on stdin");
    if (!j->interactive && !j->prompt.len)
        return err_set(e, ERR_INVALID, "there is no prompt: give one as an argument or on stdin");
    return 0;
}

// ---- the daemon

// A flag that only a daemon started by this call could heed.
static const char *unheeded_flag(const struct args *a) {
    for (size_t i = 0; i < a->n_given; i++)
        if (a->given[i].setting && strcmp(a->given[i].setting->name, "api") != 0) return a->given[i].setting->name;
    return NULL;
}

static int find_daemon(struct job *j, struct err *e) {
    const char *flag = unheeded_flag(&j->in->args);
    if (own_daemon_reach(&j->own, &j->in->settings, &j->api, e)) return -1;
    if (!j->own.pid && flag) term_notice("note: a daemon runs already, so that %s is as it was started with", flag);
    return 0;
}

// ---- the answer

static int add_placement(struct job *j, struct err *e) {
    static const char *const names[] = {"prefill", "decode", "handover"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char header[32];
        const char *value = args_text(&j->in->args, names[i], NULL);
        snprintf(header, sizeof header, "x-nebulus-%s", names[i]);
        if (value && api_add_header(j->api, header, value, e)) return -1;
    }
    return 0;
}

static json_t *make_request(struct job *j, struct err *e) {
    json_t *request = generate_request(&j->in->args, j->loading.name),
           *prompt = json_stringn(buf_str(&j->prompt), j->prompt.len);
    const char *system = args_text(&j->in->args, "system", NULL);
    int bad = !request || !prompt;
    if (bad)
        err_set(e, ERR_INVALID, "the prompt is not valid UTF-8: convert it first, as with iconv");
    else if (args_has(&j->in->args, "raw"))
        bad = json_object_set(request, "prompt", prompt);
    else {
        json_t *messages = system ? json_pack("[{s:s, s:s}, {s:s, s:O}]", "role", "system", "content", system, "role",
                                              "user", "content", prompt)
                                  : json_pack("[{s:s, s:O}]", "role", "user", "content", prompt);
        bad = json_object_set_new(request, "messages", messages);
        if (bad) err_set(e, ERR_INVALID, "the system message is not valid UTF-8");
    }
    json_decref(prompt);
    if (!bad) return request;
    json_decref(request);
    return NULL;
}

// What the planner thinks of the request; that it knows nothing is no reason not to answer.
static void explain(struct job *j) {
    const char *system = args_text(&j->in->args, "system", "");
    size_t bytes = j->prompt.len + strlen(system);
    json_t *question = json_pack("{s:s, s:I}", "model", j->loading.name, "prompt_bytes", (json_int_t)bytes);
    struct err e = {.code = ERR_NONE};
    if (args_has(&j->in->args, "max-tokens"))
        json_object_set_new(question, "max_tokens", json_integer(args_int(&j->in->args, "max-tokens", 1)));
    if (plan_live_explain(j->api, question, &e)) term_notice("no plan: %s", e.msg);
    json_decref(question);
}

// {"v":1,"model","answer","finish_reason","usage","nebulus"} from the daemon's OpenAI-shaped answer.
static json_t *record_of(const json_t *answer) {
    json_t *record = cli_object(), *choice = json_array_get(json_object_get(answer, "choices"), 0);
    json_t *text = json_object_get(json_object_get(choice, "message"), "content");
    static const char *const members[] = {"id", "created", "model", "usage", "nebulus"};
    if (!record) return NULL;
    for (size_t i = 0; i < COUNT_OF(members); i++) {
        json_t *v = json_object_get(answer, members[i]);
        if (v) json_object_set(record, members[i], v);
    }
    json_object_set(record, "answer", text ? text : json_object_get(choice, "text"));
    json_object_set(record, "finish_reason", json_object_get(choice, "finish_reason"));
    return record;
}

static int answer_once(struct job *j, struct err *e) {
    struct outcome o;
    json_t *request = make_request(j, e), *answer = NULL;
    int rc = -1;
    outcome_init(&o);
    if (!request) goto out;
    if (args_has(&j->in->args, "json")) {
        if (generate_whole(j->api, request, &answer, e)) goto out;
        rc = term_print_json(record_of(answer), e);
        goto out;
    }
    rc = generate_stream(j->api, request, &o, e);
    if (!rc && (args_has(&j->in->args, "stats") || args_has(&j->in->args, "verbose"))) outcome_print(&o);
out:
    json_decref(answer);
    json_decref(request);
    outcome_free(&o);
    return rc;
}

static int run(struct invocation *in) {
    struct job j = {.in = in};
    struct err e = {.code = ERR_NONE};
    int code = CLI_OK;
    buf_init(&j.prompt, LIMIT_CLI_TEXT);
    int rc = loading_init(&j.loading, &in->paths, in->args.words[0], &e);
    bool readable = rc || !read_prompt(&j, &e);
    if (!readable) rc = -1;
    if (!rc) rc = find_daemon(&j, &e) || loading_run(&j.loading, j.api, NULL, NULL, &e);
    if (!rc) rc = add_placement(&j, &e);
    if (!rc && j.interactive)
        code = chat_run(j.api, &in->args, &in->paths, j.loading.name);
    else if (!rc) {
        if (args_has(&in->args, "explain")) explain(&j);
        rc = answer_once(&j, &e);
    }
    if (rc) code = !readable && e.code == ERR_INVALID ? cli_usage(in->command, &e) : cli_fail(&e);
    loading_free(&j.loading);
    api_close(j.api);
    own_daemon_stop(&j.own);
    buf_free(&j.prompt);
    return code;
}

const struct command command_run = {
    .name = "run",
    .group = "Use",
    .arguments = "MODEL [PROMPT]",
    .summary = "Answer a prompt, or chat",
    .details = "MODEL is a stored model's name or the path of a .gguf file. The prompt is PROMPT, what is piped in, or "
               "both (an empty\n"
               "line between them); without either, a conversation begins at the terminal. The answer goes to stdout "
               "as it comes.\n"
               "Where no daemon runs, one is started for this call; the settings below then apply to it.",
    .min_words = 1,
    .max_words = 2,
    .completes = COMPLETES_MODELS,
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_RUN,
    .run = run,
};

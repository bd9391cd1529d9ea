#include "cli/chat.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/generate.h"
#include "cli/interrupt.h"
#include "cli/line_editor.h"
#include "cli/term.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char HELP[] = "  /help           this\n"
                           "  /clear          forget the conversation\n"
                           "  /system [TEXT]  show or set the system message (and forget the conversation)\n"
                           "  /stats          timings of the last answer\n"
                           "  /bye            leave; so does ^D\n"
                           "  \"\"\"             begins and ends a message of several lines\n"
                           "  ^C              stops an answer\n";

struct chat {
    struct api_client *api;
    const struct args *args;
    const char *model;
    struct line_editor *editor;
    json_t *messages; // array
    char *system;     // owned, or NULL
    struct buf line, message;
    struct outcome last;
    bool answered;
    bool raw; // every message stands alone, without the chat template
};

static int forget(struct chat *c) {
    json_t *fresh = json_array();
    int bad = !fresh;
    if (!bad && c->system)
        bad = json_array_append_new(fresh, json_pack("{s:s, s:s}", "role", "system", "content", c->system));
    if (bad) {
        json_decref(fresh);
        return -1;
    }
    json_decref(c->messages);
    c->messages = fresh;
    return 0;
}

static int set_system(struct chat *c, const char *text) {
    char *copy = strdup(text);
    if (!copy) return -1;
    free(c->system);
    c->system = copy;
    return forget(c);
}

static int say(struct chat *c, const char *role, const char *text, size_t n) {
    json_t *message = json_pack("{s:s, s:s%}", "role", role, "content", text, n);
    return json_array_append_new(c->messages, message); // a NULL is refused
}

// One turn. What was answered before ^C belongs to the conversation; a failed turn leaves it as it was.
static int answer(struct chat *c, const char *text, size_t n, struct err *e) {
    json_t *request = generate_request(c->args, c->model);
    size_t before = json_array_size(c->messages);
    int rc = -1;
    outcome_free(&c->last);
    outcome_init(&c->last);
    if (!request || (c->raw ? json_object_set_new(request, "prompt", json_stringn(text, n))
                            : say(c, "user", text, n) || json_object_set(request, "messages", c->messages))) {
        err_set(e, ERR_INVALID, "this message cannot be sent: it is not valid UTF-8");
        goto out;
    }
    rc = generate_stream(c->api, request, &c->last, e);
    c->answered = !rc;
    if (rc && e->code == ERR_CANCELLED) {
        interrupt_clear();
        fprintf(stderr, "(stopped)\n");
        rc = 0;
    }
    if (!rc && !c->raw && c->last.text.len && say(c, "assistant", c->last.text.data, c->last.text.len))
        rc = err_set(e, ERR_INTERNAL, "out of memory");
out:
    while (rc && json_array_size(c->messages) > before)
        json_array_remove(c->messages, json_array_size(c->messages) - 1);
    json_decref(request);
    return rc;
}

// Reads a message: a line, or what stands between """ and """. Its text is in c->message.
static enum line_result read_message(struct chat *c, struct err *e) {
    enum line_result got = line_editor_read(c->editor, ">>> ", &c->line, e);
    buf_clear(&c->message);
    if (got != LINE_OK) return got;
    const char *text = buf_str(&c->line), *end;
    if (strncmp(text, "\"\"\"", 3)) {
        buf_puts(&c->message, text);
        return c->message.failed ? LINE_FAILED : LINE_OK;
    }
    text += 3;
    while (!(end = strstr(text, "\"\"\""))) {
        if (c->message.len || *text) buf_printf(&c->message, "%s\n", text);
        if ((got = line_editor_read(c->editor, "... ", &c->line, e)) != LINE_OK) return got;
        text = buf_str(&c->line);
    }
    buf_append(&c->message, text, (size_t)(end - text));
    if (!c->message.failed) return LINE_OK;
    err_set(e, ERR_LIMIT, "the message is too long");
    return LINE_FAILED;
}

static void show_system(const struct chat *c) {
    char safe[ESCAPED_MAX];
    text_escape(safe, sizeof safe, c->system ? c->system : "(no system message)");
    printf("%s\n", safe);
}

// Returns whether the chat goes on.
static bool obey(struct chat *c, const char *order) {
    int bad = 0;
    if (!strcmp(order, "/bye") || !strcmp(order, "/exit") || !strcmp(order, "/quit")) return false;
    if (!strcmp(order, "/help") || !strcmp(order, "/?"))
        printf("%s", HELP);
    else if (!strcmp(order, "/clear"))
        bad = forget(c);
    else if (!strcmp(order, "/system"))
        show_system(c);
    else if (!strncmp(order, "/system ", 8))
        bad = set_system(c, order + 8);
    else if (!strcmp(order, "/stats") && c->answered)
        outcome_print(&c->last);
    else if (!strcmp(order, "/stats"))
        term_notice("nothing was answered yet");
    else
        term_notice("unknown command %.60s: /help lists them", order);
    if (bad) term_notice("that did not work: out of memory, or not valid UTF-8");
    return true;
}

static bool is_blank(const char *text) { return !text[strspn(text, " \t\n")]; }

static int talk(struct chat *c) {
    struct err e = {.code = ERR_NONE};
    bool verbose = args_has(c->args, "stats");
    for (;;) {
        enum line_result got = read_message(c, &e);
        const char *text = buf_str(&c->message);
        if (got == LINE_END) {
            printf("\n");
            return CLI_OK;
        }
        if (got == LINE_FAILED) cli_fail(&e);
        if (got != LINE_OK || is_blank(text)) continue;
        line_editor_remember(c->editor, text);
        if (text[0] == '/') {
            if (!obey(c, text)) return CLI_OK;
            continue;
        }
        if (answer(c, text, c->message.len, &e))
            cli_fail(&e);
        else if (verbose && c->answered)
            outcome_print(&c->last);
        if (e.code == ERR_UNREACHABLE) return CLI_UNREACHABLE;
        e.code = ERR_NONE;
    }
}

int chat_run(struct api_client *api, const struct args *a, const struct paths *p, const char *model) {
    struct chat c = {.api = api, .args = a, .model = model, .raw = args_has(a, "raw")};
    struct err e = {.code = ERR_NONE};
    char history[PATH_SIZE];
    const char *system = args_text(a, "system", NULL);
    bool kept = !path_make_dir(p->state, &e) && !path_join(history, p->state, "chat_history", &e);
    int rc = CLI_FAILED;
    if (!kept) term_notice("note: the history is not kept: %s", e.msg);
    buf_init(&c.line, LIMIT_CLI_TEXT);
    buf_init(&c.message, LIMIT_CLI_TEXT);
    outcome_init(&c.last);
    if (!(c.editor = line_editor_new(kept ? history : NULL, &e)))
        cli_fail(&e);
    else if (system ? set_system(&c, system) : forget(&c)) {
        err_set(&e, ERR_INVALID, "the system message is not valid UTF-8");
        cli_fail(&e);
    } else {
        fprintf(stderr, "%s: /help lists commands, ^D leaves\n", model);
        rc = talk(&c);
    }
    line_editor_free(c.editor);
    json_decref(c.messages);
    free(c.system);
    buf_free(&c.line);
    buf_free(&c.message);
    outcome_free(&c.last);
    return rc;
}

#include "base/text.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/term.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct option json_option[1] = {OPTION_JSON};

const struct command *cli_find(const struct command *const *commands, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (!strcmp(commands[i]->name, name) || (commands[i]->alias && !strcmp(commands[i]->alias, name)))
            return commands[i];
    return NULL;
}

static void print_error(const char *text) {
    char safe[ESCAPED_MAX];
    text_escape(safe, sizeof safe, text);
    fflush(stdout); // what was said before comes first
    fprintf(stderr, "%snebulus:%s %s\n", term_style(STDERR_FILENO, STYLE_RED), term_style(STDERR_FILENO, STYLE_END),
            safe);
}

int cli_fail(const struct err *e) {
    print_error(e->msg);
    switch (e->code) {
    case ERR_UNREACHABLE: return CLI_UNREACHABLE;
    case ERR_DENIED: return CLI_DENIED;
    case ERR_NOT_FOUND: return CLI_NOT_FOUND;
    case ERR_CANCELLED: return CLI_INTERRUPTED;
    default: return CLI_FAILED;
    }
}

int cli_usage(const struct command *c, const struct err *e) {
    char line[ESCAPED_MAX];
    snprintf(line, sizeof line, "%s (see `nebulus %s --help`)", e->msg, c->name);
    print_error(line);
    return CLI_USAGE;
}

json_t *cli_object(void) { return json_pack("{s:i}", "v", 1); }

json_t *cli_given(const struct args *a, const char *name) {
    json_t *list = json_array();
    for (size_t i = 0; i < a->n_given; i++)
        if (a->given[i].option && !strcmp(a->given[i].option->name, name))
            json_array_append_new(list, json_string(a->given[i].value));
    return list;
}

static int unknown_command(const struct command *const *commands, size_t n, const char *name) {
    struct nearest near;
    struct err e;
    nearest_init(&near, name);
    for (size_t i = 0; i < n; i++) {
        nearest_offer(&near, commands[i]->name);
        if (commands[i]->alias) nearest_offer(&near, commands[i]->alias);
    }
    if (near.best)
        err_set(&e, ERR_INVALID, "unknown command '%.60s': did you mean `nebulus %s`?", name, near.best);
    else
        err_set(&e, ERR_INVALID, "unknown command '%.60s': `nebulus help` lists them", name);
    print_error(e.msg);
    return CLI_USAGE;
}

static bool wants_help(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return true;
    return false;
}

static int check_words(const struct command *c, const struct args *a, struct err *e) {
    if (a->n_words < c->min_words) return err_set(e, ERR_INVALID, "`nebulus %s` needs %s", c->name, c->arguments);
    if (a->n_words > c->max_words)
        return err_set(e, ERR_INVALID, "`nebulus %s` does not take '%.60s'", c->name, a->words[c->max_words]);
    return 0;
}

static int run_command(struct invocation *in, int argc, char **argv) {
    const struct command *c = in->command;
    struct err e = {.code = ERR_NONE};
    if (wants_help(argc, argv)) {
        cli_print_help(c);
        return CLI_OK;
    }
    if (args_parse(&in->args, c->options, c->n_options, c->settings, argc, (const char *const *)argv, &e) ||
        check_words(c, &in->args, &e))
        return cli_usage(c, &e);
    if (c->settings != SETTINGS_UNUSED) {
        if (paths_init(&in->paths, &e) || settings_load(&in->settings, &in->paths, &e)) return cli_fail(&e);
        if (args_apply(&in->args, &in->settings, &e)) return cli_usage(c, &e);
    }
    interrupt_init();
    return c->run(in);
}

int cli_main(const struct build *b, const struct command *const *commands, size_t n, int argc, char **argv) {
    struct invocation in = {.build = b, .commands = commands, .n_commands = n};
    const char *name = argc > 1 ? argv[1] : "help";
    if (!strcmp(name, "--help") || !strcmp(name, "-h")) name = "help";
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) name = "version";
    in.command = cli_find(commands, n, name);
    if (!in.command && name[0] == '-') {
        print_error("a command comes first: `nebulus help` lists them");
        return CLI_USAGE;
    }
    if (!in.command) return unknown_command(commands, n, name);
    int skip = argc > 1 ? 2 : 1, rc = run_command(&in, argc - skip, argv + skip);
    if (fflush(stdout) && rc == CLI_OK) {
        struct err e;
        err_errno(&e, "cannot write to stdout");
        return cli_fail(&e);
    }
    return rc;
}

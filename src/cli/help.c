// nebulus help.
#include "cli/command.h"

#include <stdio.h>

static int run(struct invocation *in) {
    if (!in->args.n_words) {
        cli_print_overview(in->commands, in->n_commands);
        return CLI_OK;
    }
    const struct command *c = cli_find(in->commands, in->n_commands, in->args.words[0]);
    if (!c) {
        struct err e;
        err_set(&e, ERR_INVALID, "there is no command '%.60s'", in->args.words[0]);
        return cli_usage(in->command, &e);
    }
    cli_print_help(c);
    return CLI_OK;
}

const struct command command_help = {
    .name = "help",
    .group = "Mend",
    .arguments = "[COMMAND]",
    .summary = "Show this, or a command's options",
    .max_words = 1,
    .completes = COMPLETES_NOTHING,
    .settings = SETTINGS_UNUSED,
    .run = run,
};

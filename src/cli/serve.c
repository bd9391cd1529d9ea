// nebulus serve: the daemon in the foreground.
#include "cli/command.h"
#include "serve/daemon.h"

#include <fcntl.h>

static const struct option options[] = {
    {.name = "quiet", .letter = 'q', .type = OPTION_FLAG, .help = "say only what went wrong"},
    // for a daemon that another program starts: see own_daemon.c
    {.name = "ready-fd", .type = OPTION_INT, .min = 3, .max = 65535, .placeholder = "FD"},
    {.name = "with-parent", .type = OPTION_FLAG},
};

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct daemon_options o = {
        .ready_fd = (int)args_int(&in->args, "ready-fd", -1),
        .exit_with_parent = args_has(&in->args, "with-parent"),
        .quiet = args_has(&in->args, "quiet"),
    };
    if (o.ready_fd >= 0 && fcntl(o.ready_fd, F_SETFD, FD_CLOEXEC)) {
        err_errno(&e, "--ready-fd %d is no open descriptor", o.ready_fd);
        return cli_usage(in->command, &e);
    }
    return daemon_run(&in->settings, &in->paths, &o, &e) ? cli_fail(&e) : CLI_OK;
}

const struct command command_serve = {
    .name = "serve",
    .alias = "start",
    .group = "Use",
    .arguments = "",
    .summary = "Run the daemon in the foreground",
    .details = "It answers OpenAI-shaped requests under http://HOST:PORT/v1 and loads models as they are asked for. ^C "
               "or SIGTERM ends\n"
               "it after what is being answered.",
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_ALL,
    .run = run,
};

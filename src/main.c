// The program: `nebulus COMMAND`. One file of cli/ holds each command; the worker room is entered here and nowhere
// else.
#include "cli/command.h"
#include "engine/worker/worker.h"

#include <string.h>

extern const struct command command_run, command_serve, command_status, command_ps, command_load, command_stop,
    command_trace, command_ls, command_show, command_import, command_rm, command_cluster, command_invite, command_join,
    command_nodes, command_node, command_plan, command_profile, command_bench, command_drain, command_leave,
    command_revoke, command_agent, command_policy, command_can_i, command_budget, command_audit, command_doctor,
    command_config, command_completion, command_version, command_help;

static const struct command *const commands[] = {
    &command_run,     &command_serve,   &command_status, &command_ps,     &command_load,   &command_stop,
    &command_trace,   &command_profile, &command_ls,     &command_show,   &command_import, &command_rm,
    &command_cluster, &command_invite,  &command_join,   &command_nodes,  &command_node,   &command_plan,
    &command_bench,   &command_drain,   &command_leave,  &command_revoke, &command_agent,  &command_policy,
    &command_can_i,   &command_budget,  &command_audit,  &command_doctor, &command_config, &command_completion,
    &command_version, &command_help,
};

int main(int argc, char **argv) {
    // what the daemon and the store start for themselves; not for people
    if (argc > 1 && !strcmp(argv[1], "worker")) return worker_main(argc - 1, argv + 1);
    const struct build build = {.jinja = NEBULUS_HAVE_JINJA};
    return cli_main(&build, commands, COUNT_OF(commands), argc, argv);
}

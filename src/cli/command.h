// What a subcommand is, and what it is given. Every command has a file of its own with one `const struct command
// command_NAME`; main.c lists them. A command returns an exit code; data goes to stdout, notices and errors (one line)
// to stderr.
#pragma once

#include "base/paths.h"
#include "base/settings.h"
#include "cli/options.h"
#include <jansson.h>

enum exit_code {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_UNREACHABLE = 3,
    CLI_DENIED = 4,
    CLI_NOT_FOUND = 5,
    CLI_INTERRUPTED = 130,
};

enum completes { COMPLETES_NOTHING, COMPLETES_MODELS, COMPLETES_FILES, COMPLETES_WORDS };

struct invocation;

struct command {
    const char *name, *alias;     // alias: NULL where there is none
    const char *group;            // its heading in the overview
    const char *arguments;        // "MODEL [PROMPT]", "" where there are none
    const char *summary;          // one line
    const char *details;          // more for `CMD --help`, or NULL
    size_t min_words, max_words;  // arguments that are not options
    enum completes completes;     // what its arguments are
    const char *words;            // COMPLETES_WORDS: "show|check|path"
    const struct option *options; // --help is everywhere and not in the tables
    size_t n_options;
    enum settings_use settings;
    int (*run)(struct invocation *in);
};

// What the program was built with and the rooms below cannot know.
struct build {
    bool jinja; // chat templates run in a real Jinja; else only libllama's built-in ones
};

struct invocation {
    const struct build *build;
    const struct command *command;
    const struct command *const *commands; // all
    size_t n_commands;
    struct args args;
    struct paths paths;       // both filled unless command->settings is SETTINGS_UNUSED
    struct settings settings; // file, environment, flags
};

#define OPTION_JSON                                                                                                    \
    { .name = "json", .type = OPTION_FLAG, .help = "print one JSON object instead of text" }
#define COUNT_OF(table) (sizeof(table) / sizeof *(table))
extern const struct option json_option[1]; // the table of a command that has no other

// What the commands on one model have in common.
#define ON_ONE_MODEL                                                                                                   \
    .arguments = "MODEL", .min_words = 1, .max_words = 1, .completes = COMPLETES_MODELS, .options = json_option,       \
    .n_options = COUNT_OF(json_option), .settings = SETTINGS_API

// The program: finds the command, parses its arguments, reads the configuration, runs it.
int cli_main(const struct build *b, const struct command *const *commands, size_t n, int argc, char **argv);

const struct command *cli_find(const struct command *const *commands, size_t n, const char *name); // NULL: none
void cli_print_overview(const struct command *const *commands, size_t n);
void cli_print_help(const struct command *c);

// Prints "nebulus: ..." on stderr and returns the exit code that goes with it.
int cli_fail(const struct err *e);

// The same for wrong usage of a command, with a hint at its help; returns CLI_USAGE.
int cli_usage(const struct command *c, const struct err *e);

// {"v":1} to add members to; NULL when out of memory.
json_t *cli_object(void);
// All values of an option that may be repeated; NULL when out of memory.
json_t *cli_given(const struct args *a, const char *name);

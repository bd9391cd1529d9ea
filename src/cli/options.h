// The argument parser that all commands share: each command lists its options in a table, help and completion read the
// same table.
// --name VALUE, --name=VALUE, -n VALUE, -nVALUE; `--` ends the options; a lone `-` is an argument. Pure functions.
// Threads: any.
#pragma once

#include "base/err.h"
#include "base/settings.h"
#include <stdbool.h>
#include <stddef.h>

enum option_type { OPTION_FLAG, OPTION_TEXT, OPTION_INT, OPTION_REAL };

struct option {
    const char *name; // long name without dashes
    char letter;      // short name, 0 = none
    enum option_type type;
    double min, max;         // OPTION_INT and OPTION_REAL
    const char *placeholder; // of the value, e.g. "N"
    const char *help;        // one line; NULL = internal, shown nowhere
};

// Which settings a command takes as flags.
enum settings_use {
    SETTINGS_UNUSED, // none; the configuration is not read
    SETTINGS_API,    // --api only; the configuration is read
    SETTINGS_RUN,    // all that shape a daemon started for one model
    SETTINGS_ALL,    // all of settings_table
};

enum { ARGS_MAX = 256 }; // arguments of one command line

struct given {
    const struct option *option;   // one of the command's own, or NULL
    const struct setting *setting; // else the setting it names
    const char *value;             // borrowed from argv; "" for a flag
};

struct args {
    size_t n_given, n_words;
    struct given given[ARGS_MAX];
    const char *words[ARGS_MAX]; // what is not an option, in order; borrowed from argv
};

// Parses argv[0..argc) (without the program's and the command's name). Values are checked against the tables. An
// unknown option fails with the nearest known one in the message.
int args_parse(struct args *a, const struct option *table, size_t n, enum settings_use use, int argc,
               const char *const *argv, struct err *e) MUST_USE;

bool args_has(const struct args *a, const char *name);
const char *args_text(const struct args *a, const char *name, const char *otherwise); // the last one given
long args_int(const struct args *a, const char *name, long otherwise);
double args_real(const struct args *a, const char *name, double otherwise);

// Sets the settings that were given as flags.
int args_apply(const struct args *a, struct settings *s, struct err *e) MUST_USE;

// Whether the command takes this setting as a flag.
bool settings_use_has(enum settings_use use, const struct setting *one);

// The setting's name as a flag, without dashes at its front: kv_type becomes kv-type.
void setting_flag_name(const struct setting *one, char out[64]);

// Keeps the nearest to `word` while a caller offers candidates one by one: `best` is NULL where none is near enough to
// suggest.
struct nearest {
    const char *word, *best;
    size_t distance;
};
void nearest_init(struct nearest *n, const char *word);
void nearest_offer(struct nearest *n, const char *candidate);

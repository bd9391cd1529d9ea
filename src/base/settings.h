// The settings: one table gives each its name, type, default, bounds and help; flags, environment, configuration file,
// `config show` and shell completion are all derived from it. Precedence: flags > NEBULUS_* environment > nebulus.conf
// > defaults.
//   flag  --kv-type q8_0      environment  NEBULUS_KV_TYPE=q8_0      file  kv_type = q8_0
#pragma once

#include "base/err.h"
#include "base/paths.h"
#include <stdbool.h>
#include <stddef.h>

enum setting_type { SETTING_TEXT, SETTING_INT, SETTING_CHOICE, SETTING_LIST };
enum setting_origin { FROM_DEFAULT, FROM_FILE, FROM_ENV, FROM_FLAG };

struct setting {
    const char *name; // with underscores; flags show them as dashes
    const char *flag; // where the flag is called otherwise, or NULL
    enum setting_type type;
    size_t offset;           // in struct settings: long for numbers, char[SETTING_SIZE] for everything else
    const char *value;       // the default, as text
    long min, max;           // numbers
    const char *choices;     // "f16|q8_0"
    const char *placeholder; // for help: "HOST:PORT"
    const char *help;        // one line
};

enum { SETTING_SIZE = 256, SETTING_COUNT = 26 };

struct settings {
    // daemon
    char api[SETTING_SIZE];       // HOST:PORT of the API; loopback addresses only for now
    char profile[SETTING_SIZE];   // on|off: measure what models cost here
    char model[SETTING_SIZE];     // model to load at start, name or path; "" = none
    char log_level[SETTING_SIZE]; // error|warn|info|debug
    long max_models;              // workers kept loaded; the least recently used idle one makes room
    char cluster[SETTING_SIZE];   // HOST:PORT for other nodes, used by members only; "" or "off" = none may connect
    char name[SETTING_SIZE];      // of this node; "" = the host's
    char peers[SETTING_SIZE];     // HOST:PORT, separated by commas: where members may be, beside the roster's word
    char discovery[SETTING_SIZE]; // on|off: multicast DNS
    long audit_mirrors;           // MB of disk for other nodes' audit logs; 0 = none are mirrored
    char plan[SETTING_SIZE];      // on|off: the planner chooses the nodes of requests
    // worker; 0 or -1 = choose from the machine and the model
    long ctx;                                  // tokens one sequence may hold; 0 = the model's, as far as memory allows
    long kv_cells;                             // tokens of all sequences together; 0 = from memory
    long parallel;                             // sequences computed at the same time
    long queue;                                // requests that wait beyond those; then 429
    char kv_type[SETTING_SIZE];                // f16|q8_0
    char kv_wire[SETTING_SIZE];                // auto|f16|q8_0: KV rows on their way to other nodes
    long kv_buffer;                            // MB shared with a worker for KV rows on their way; 0 = none travel
    long gpu_layers;                           // -1 = all that fit
    long threads;                              // 0 = physical cores
    long chunk;                                // tokens of one prefill chunk (ubatch)
    long keep;                                 // rows of ended sequences that are kept, see engine/worker/keep.h
    long step_ms;                              // longest step while other sequences decode; prefill chunks shrink to it
    char emulate[SETTING_SIZE];                // DEVICE[:SCALE][@MODEL], see plan/emulation.h; "" = no pacing
    enum setting_origin origin[SETTING_COUNT]; // by index in settings_table
};

extern const struct setting settings_table[];
extern const size_t settings_count;

void settings_defaults(struct settings *s);

// Defaults, then the file config/nebulus.conf (fine where missing), then the environment. Unknown keys and bad values
// fail and name the file and line, or the variable.
int settings_load(struct settings *s, const struct paths *p, struct err *e) MUST_USE;

// Reads the text of one configuration file onto s: lines of `name = value`; '#' or ';' at the start of a line or after
// a blank begins a comment. Stops at the first fault and names its line; what stood before it is set. Exposed for
// `config check FILE` and the fuzzer.
int settings_read_text(struct settings *s, const char *text, const char *file, struct err *e) MUST_USE;

// Sets one by its name (dashes or underscores) or flag. A list's flag may be given several times: each adds to it.
// err.param names it.
int settings_set(struct settings *s, const char *name, const char *value, enum setting_origin from,
                 struct err *e) MUST_USE;

// The table's entry, or NULL. Dashes and underscores are the same.
const struct setting *settings_find(const char *name);

// The value of one as text.
void settings_text(const struct settings *s, const struct setting *one, char out[SETTING_SIZE]);

// "file", "environment"...
const char *settings_origin_name(enum setting_origin from);

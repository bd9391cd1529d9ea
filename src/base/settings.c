#include "base/settings.h"
#include "base/env.h"
#include "base/limits.h"
#include "base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT(field, def, place, text)                                                                                  \
    {                                                                                                                  \
        .name = #field, .type = SETTING_TEXT, .offset = offsetof(struct settings, field), .value = def,                \
        .placeholder = place, .help = text                                                                             \
    }
#define LIST(field, one, place, text)                                                                                  \
    {                                                                                                                  \
        .name = #field, .flag = one, .type = SETTING_LIST, .offset = offsetof(struct settings, field), .value = "",    \
        .placeholder = place, .help = text                                                                             \
    }
#define NUMBER(field, def, lo, hi, text)                                                                               \
    {                                                                                                                  \
        .name = #field, .type = SETTING_INT, .offset = offsetof(struct settings, field), .value = def, .min = lo,      \
        .max = hi, .placeholder = "N", .help = text                                                                    \
    }
#define CHOICE(field, def, all, text)                                                                                  \
    {                                                                                                                  \
        .name = #field, .type = SETTING_CHOICE, .offset = offsetof(struct settings, field), .value = def,              \
        .choices = all, .placeholder = all, .help = text                                                               \
    }

const struct setting settings_table[] = {
    TEXT(api, "127.0.0.1:7420", "HOST:PORT", "where the HTTP API listens"),
    TEXT(model, "", "MODEL", "model to load when the daemon starts"),
    CHOICE(log_level, "info", "error|warn|info|debug", "how much the daemon says"),
    NUMBER(max_models, "3", 1, LIMIT_LOADED_MODELS, "models kept loaded at the same time"),
    TEXT(cluster, "0.0.0.0:7421", "HOST:PORT", "where other nodes of this one's cluster connect (off: nowhere)"),
    TEXT(name, "", "NAME", "this node's name in a cluster (the host's if empty)"),
    LIST(peers, "peer", "HOST:PORT", "where another node of the cluster may be; may be repeated"),
    CHOICE(discovery, "on", "on|off", "find other nodes on the local network, and be found (multicast DNS)"),
    CHOICE(profile, "on", "on|off", "measure what models cost here, while nothing else is to do"),
    NUMBER(audit_mirrors, "1024", 0, LIMIT_MIRRORS_MB,
           "disk space for mirrors of other nodes' audit logs, in MB (0: none)"),
    CHOICE(plan, "on", "on|off", "choose the nodes of a request by prediction, where it names none"),
    NUMBER(ctx, "0", 0, 16777216, "tokens one sequence may hold (0: the model's own, as far as memory allows)"),
    NUMBER(kv_cells, "0", 0, 16777216, "tokens the KV cache holds for all sequences together (0: from memory)"),
    NUMBER(parallel, "8", 1, LIMIT_PARALLEL, "sequences computed at the same time"),
    NUMBER(queue, "64", 0, 65536, "requests that may wait beyond those; then 429"),
    CHOICE(kv_type, "f16", "f16|q8_0", "type of the KV cache"),
    CHOICE(kv_wire, "auto", "auto|f16|q8_0",
           "type of KV rows on their way to other nodes (auto: exact unless a link is slow)"),
    NUMBER(kv_buffer, "512", 0, LIMIT_KV_BUFFER_MB, "memory for KV rows on their way to or from other nodes, in MB"),
    NUMBER(gpu_layers, "-1", -1, 100000, "layers computed on the GPU (-1: all)"),
    NUMBER(threads, "0", 0, 1024, "compute threads (0: one per core)"),
    NUMBER(chunk, "512", 16, 8192, "most tokens of one step"),
    NUMBER(keep, "12", 0, 1000, "keep ended conversations: K/V rows of so many % of the weights (0: none)"),
    NUMBER(step_ms, "1000", 1, 60000, "longest step while other sequences decode, in milliseconds"),
    TEXT(emulate, "", "DEVICE[:SCALE][@MODEL]",
         "take as long as a device of the catalogue times SCALE would (below 1: faster)"),
};
const size_t settings_count = sizeof settings_table / sizeof *settings_table;
_Static_assert(sizeof settings_table / sizeof *settings_table <= SETTING_COUNT, "raise SETTING_COUNT");

static bool same_name(const char *a, const char *b) {
    for (; *a && *b; a++, b++)
        if ((*a == '-' ? '_' : *a) != (*b == '-' ? '_' : *b)) return false;
    return *a == *b;
}

const struct setting *settings_find(const char *name) {
    for (size_t i = 0; i < settings_count; i++)
        if (same_name(settings_table[i].name, name) ||
            (settings_table[i].flag && same_name(settings_table[i].flag, name)))
            return &settings_table[i];
    return NULL;
}

static bool is_choice(const char *choices, const char *value) {
    size_t n = strlen(value);
    if (strchr(value, '|')) return false;
    for (const char *p = choices; n && p; p = strchr(p, '|')) {
        if (*p == '|') p++;
        if (!strncmp(p, value, n) && (p[n] == '|' || !p[n])) return true;
    }
    return false;
}

static int assign(struct settings *s, const struct setting *one, const char *value, struct err *e) {
    char *field = (char *)s + one->offset;
    long number;
    switch (one->type) {
    case SETTING_INT:
        if (text_parse_long(value, one->min, one->max, &number))
            return err_param(e, one->name, "%s must be a whole number from %ld to %ld, not '%.40s'", one->name,
                             one->min, one->max, value);
        memcpy(field, &number, sizeof number);
        return 0;
    case SETTING_CHOICE:
        if (!is_choice(one->choices, value))
            return err_param(e, one->name, "%s must be one of %s, not '%.40s'", one->name, one->choices, value);
        break;
    case SETTING_LIST:
    case SETTING_TEXT:
        if (strlen(value) >= SETTING_SIZE)
            return err_param(e, one->name, "%s is longer than %d bytes", one->name, SETTING_SIZE - 1);
        break;
    }
    snprintf(field, SETTING_SIZE, "%s", value);
    return 0;
}

int settings_set(struct settings *s, const char *name, const char *value, enum setting_origin from, struct err *e) {
    const struct setting *one = settings_find(name);
    if (!one) return err_param(e, name, "unknown setting '%.60s': see `nebulus config show`", name);
    enum setting_origin *origin = &s->origin[one - settings_table];
    char longer[2 * SETTING_SIZE];
    if (one->type == SETTING_LIST && from == FROM_FLAG && *origin == FROM_FLAG && strlen(value) < SETTING_SIZE) {
        snprintf(longer, sizeof longer, "%s,%s", (char *)s + one->offset, value);
        value = longer;
    }
    if (assign(s, one, value, e)) return -1;
    *origin = from;
    return 0;
}

void settings_defaults(struct settings *s) {
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < settings_count; i++)
        if (assign(s, &settings_table[i], settings_table[i].value, NULL)) abort(); // the table contradicts itself
}

// Cuts blanks off both ends of text[0..n).
static void trim(const char **text, size_t *n) {
    while (*n && isspace((unsigned char)**text)) {
        ++*text;
        --*n;
    }
    while (*n && isspace((unsigned char)(*text)[*n - 1])) --*n;
}

// The length of the line without its comment: '#' or ';' at its beginning or after a blank.
static size_t uncommented(const char *line, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((line[i] == '#' || line[i] == ';') && (!i || isspace((unsigned char)line[i - 1]))) return i;
    return n;
}

static int copy_text(char *out, size_t size, const char *text, size_t n, struct err *e) {
    if (n >= size) return err_set(e, ERR_INVALID, "'%.20s...' is longer than %zu bytes", text, size - 1);
    memcpy(out, text, n);
    out[n] = 0;
    return 0;
}

// One line: nothing, or name = value. (A ready-made INI reader cut long values off without a word and went on after
// faults.)
static int read_line(struct settings *s, const char *line, size_t n, struct err *e) {
    char name[64], value[SETTING_SIZE];
    n = uncommented(line, n);
    trim(&line, &n);
    if (!n) return 0;
    if (*line == '[') return err_set(e, ERR_INVALID, "sections are not used: remove the line");
    const char *equals = memchr(line, '=', n);
    if (!equals) return err_set(e, ERR_INVALID, "not of the form 'name = value'");
    const char *v = equals + 1;
    size_t name_len = (size_t)(equals - line), value_len = n - name_len - 1;
    trim(&line, &name_len);
    trim(&v, &value_len);
    if (copy_text(name, sizeof name, line, name_len, e) || copy_text(value, sizeof value, v, value_len, e)) return -1;
    return settings_set(s, name, value, FROM_FILE, e);
}

int settings_read_text(struct settings *s, const char *text, const char *file, struct err *e) {
    struct err why = {.code = ERR_NONE};
    if (!strncmp(text, "\xEF\xBB\xBF", 3)) text += 3; // the mark that some editors put first
    for (int number = 1; *text; number++) {
        size_t n = strcspn(text, "\n");
        if (read_line(s, text, n, &why)) {
            int rc = err_set(e, ERR_INVALID, "%s:%d: %s", file, number, why.msg);
            if (e) memcpy(e->param, why.param, sizeof e->param);
            return rc;
        }
        text += n + (text[n] == '\n');
    }
    return 0;
}

static int read_file(struct settings *s, const struct paths *p, struct err *e) {
    char file[PATH_SIZE], *text;
    size_t len;
    struct err why = {.code = ERR_NONE};
    if (path_join(file, p->config, "nebulus.conf", e)) return -1;
    if (file_read(file, LIMIT_CONFIG_BYTES, &text, &len, &why)) {
        if (why.code == ERR_NOT_FOUND) return 0;
        if (e) *e = why;
        return -1;
    }
    int rc = strlen(text) == len ? settings_read_text(s, text, file, e)
                                 : err_set(e, ERR_INVALID, "%s contains a NUL byte", file);
    free(text);
    return rc;
}

static int read_environment(struct settings *s, struct err *e) {
    for (size_t i = 0; i < settings_count; i++) {
        char name[64] = "NEBULUS_";
        for (size_t n = strlen(name), k = 0; settings_table[i].name[k] && n + 1 < sizeof name; k++, n++)
            name[n] = (char)toupper((unsigned char)settings_table[i].name[k]);
        const char *value = env_get(name);
        struct err why;
        if (value && settings_set(s, settings_table[i].name, value, FROM_ENV, &why)) {
            err_param(e, settings_table[i].name, "environment variable %s: %s", name, why.msg);
            return -1;
        }
    }
    return 0;
}

int settings_load(struct settings *s, const struct paths *p, struct err *e) {
    settings_defaults(s);
    return read_file(s, p, e) || read_environment(s, e) ? -1 : 0;
}

void settings_text(const struct settings *s, const struct setting *one, char out[SETTING_SIZE]) {
    const char *field = (const char *)s + one->offset;
    if (one->type == SETTING_INT) {
        long number;
        memcpy(&number, field, sizeof number);
        snprintf(out, SETTING_SIZE, "%ld", number);
    } else
        snprintf(out, SETTING_SIZE, "%s", field);
}

const char *settings_origin_name(enum setting_origin from) {
    static const char *const words[] = {"default", "file", "environment", "flag"};
    return words[from];
}

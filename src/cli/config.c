// nebulus config: the settings, where each comes from, and whether a file is right.
#include "base/json.h"
#include "base/limits.h"
#include "cli/command.h"
#include "cli/table.h"
#include "cli/term.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int setting_json(const struct settings *s, size_t i, json_t *list) {
    const struct setting *one = &settings_table[i];
    char value[SETTING_SIZE], def[SETTING_SIZE];
    settings_text(s, one, value);
    snprintf(def, sizeof def, "%s", one->value);
    json_t *v = one->type == SETTING_INT ? json_integer(strtol(value, NULL, 10)) : json_string(value);
    json_t *d = one->type == SETTING_INT ? json_integer(strtol(def, NULL, 10)) : json_string(def);
    return json_array_append_new(list, json_pack("{s:s, s:o, s:s, s:o, s:s}", "name", one->name, "value", v, "origin",
                                                 settings_origin_name(s->origin[i]), "default", d, "help", one->help));
}

static int show_json(const struct settings *s, const char *file, struct err *e) {
    json_t *all = cli_object(), *list = json_array();
    int bad = !all || !list || json_object_set_new(all, "file", json_string(file));
    for (size_t i = 0; i < settings_count && !bad; i++) bad = setting_json(s, i, list);
    if (!bad) bad = json_object_set(all, "settings", list);
    json_decref(list);
    if (!bad) return term_print_json(all, e);
    json_decref(all);
    return err_set(e, ERR_INTERNAL, "out of memory, or a path that is not valid UTF-8");
}

static int show(const struct settings *s, const char *file, bool json, struct err *e) {
    static const char *const head[] = {"NAME", "VALUE", "FROM", "WHAT IT IS"};
    struct table t;
    int rc = 0;
    if (json) return show_json(s, file, e);
    table_init(&t, head, COUNT_OF(head));
    for (size_t i = 0; i < settings_count && !rc; i++) {
        const struct setting *one = &settings_table[i];
        char value[SETTING_SIZE];
        settings_text(s, one, value);
        rc = table_cell(&t, e, "%s", one->name) || table_cell(&t, e, "%s", *value ? value : "-") ||
             table_cell(&t, e, "%s", settings_origin_name(s->origin[i])) || table_cell(&t, e, "%s", one->help);
    }
    if (!rc) table_print(&t);
    table_free(&t);
    return rc ? -1 : 0;
}

// A file alone, or - without one - all that the daemon would read.
static int check(const char *named, const char *file, const struct paths *p, bool json, struct err *e) {
    struct settings s;
    char *text = NULL;
    size_t n = 0;
    int rc;
    if (named) {
        settings_defaults(&s);
        rc = file_read(named, LIMIT_CONFIG_BYTES, &text, &n, e);
        if (!rc && strlen(text) != n) rc = err_set(e, ERR_INVALID, "%s contains a NUL byte", named);
        if (!rc) rc = settings_read_text(&s, text, named, e);
        free(text);
    } else
        rc = settings_load(&s, p, e);
    if (rc) return rc;
    if (json) {
        json_t *all = cli_object();
        if (all) json_object_set_new(all, "file", json_string(named ? named : file));
        if (all) json_object_set_new(all, "ok", json_true());
        return term_print_json(all, e);
    }
    if (named || !access(file, F_OK))
        printf("%s: fine\n", named ? named : file);
    else
        printf("%s: not there, which is fine\n", file);
    return 0;
}

static int print_path(const char *file, bool json, struct err *e) {
    if (!json) return printf("%s\n", file) < 0 ? err_errno(e, "cannot write to stdout") : 0;
    json_t *all = cli_object();
    if (all) json_object_set_new(all, "file", json_string(file));
    return term_print_json(all, e);
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct paths p;
    struct settings s;
    char file[PATH_SIZE];
    const char *what = in->args.words[0], *named = in->args.n_words > 1 ? in->args.words[1] : NULL;
    bool json = args_has(&in->args, "json"), is_check = !strcmp(what, "check");
    if ((named && !is_check) || (strcmp(what, "show") != 0 && strcmp(what, "path") != 0 && !is_check)) {
        err_set(&e, ERR_INVALID, "`nebulus config` takes show, check [FILE] or path");
        return cli_usage(in->command, &e);
    }
    int rc = paths_init(&p, &e) || path_join(file, p.config, "nebulus.conf", &e) ? -1 : 0;
    if (!rc && is_check)
        rc = check(named, file, &p, json, &e);
    else if (!rc && !strcmp(what, "path"))
        rc = print_path(file, json, &e);
    else if (!rc)
        rc = settings_load(&s, &p, &e) || show(&s, file, json, &e) ? -1 : 0;
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_config = {
    .name = "config",
    .group = "Mend",
    .arguments = "show|check|path [FILE]",
    .summary = "Show or check the settings",
    .details = "show: every setting, its value and where it comes from. check: whether nebulus.conf (or FILE) and the "
               "environment are\n"
               "right. path: where nebulus.conf is.",
    .min_words = 1,
    .max_words = 2,
    .completes = COMPLETES_WORDS,
    .words = "show|check|path",
    .options = json_option,
    .n_options = COUNT_OF(json_option),
    .settings = SETTINGS_UNUSED,
    .run = run,
};

// nebulus show: what is known about a stored model or a GGUF file.
#include "base/json.h"
#include "base/text.h"
#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/term.h"
#include "serve/store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LABEL_COLUMNS = 24 };

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), k = strlen(end);
    return n >= k && !strcmp(text + n - k, end);
}

static void print_pair(const char *label, const char *text) {
    char name[64], safe[ESCAPED_MAX];
    text_escape(name, sizeof name, label);
    text_escape(safe, sizeof safe, text);
    for (char *p = name; *p; p++)
        if (*p == '_') *p = ' ';
    printf("%s%-*s%s %s\n", term_style(STDOUT_FILENO, STYLE_DIM), LABEL_COLUMNS, name,
           term_style(STDOUT_FILENO, STYLE_END), safe);
}

static void print_integer(const char *name, json_int_t n) {
    char text[SIZE_TEXT * 3], human[SIZE_TEXT];
    time_t at = (time_t)n;
    struct tm tm;
    if (ends_with(name, "_at") && localtime_r(&at, &tm))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M", &tm);
    else if (strstr(name, "bytes"))
        snprintf(text, sizeof text, "%s", term_size(human, (uint64_t)n));
    else if (n >= 1000000)
        snprintf(text, sizeof text, "%s (%lld)", term_count(human, (uint64_t)n), (long long)n);
    else
        snprintf(text, sizeof text, "%lld", (long long)n);
    print_pair(name, text);
}

// An object's members, those of inner objects among them. What says nothing (null, "", 0, false) and what an outer
// object has said already is left out.
static void print_members(const json_t *o, const json_t *outer) {
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)o, name, v) { // jansson's iterators are not const
        if (!strcmp(name, "v") || json_object_get(outer, name)) continue;
        if (json_is_string(v) && json_string_length(v))
            print_pair(name, json_string_value(v));
        else if (json_is_integer(v) && json_integer_value(v) > 0)
            print_integer(name, json_integer_value(v));
        else if (json_is_true(v))
            print_pair(name, "yes");
        else if (json_is_object(v))
            print_members(v, o);
    }
}

// A file outside the store: what the inspection says about it.
static json_t *describe_file(const struct store *s, const char *file, struct err *e) {
    struct stat st;
    if (stat(file, &st)) {
        enum err_code code = errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
        err_errno(e, "cannot read %s", file);
        e->code = code;
        return NULL;
    }
    json_t *all = NULL, *info = store_inspect(s, file, e);
    if (!info) return NULL;
    if ((all = cli_object())) {
        json_object_set_new(all, "path", json_string(file));
        json_object_set_new(all, "bytes", json_integer(st.st_size));
        json_object_set(all, "info", info);
    } else
        err_set(e, ERR_INTERNAL, "out of memory");
    json_decref(info);
    return all;
}

static json_t *describe_stored(const struct store *s, const char *name, struct err *e) {
    struct store_model m;
    if (store_show(s, name, &m, e)) return NULL;
    json_t *all = store_model_json(&m);
    store_model_free(&m);
    if (all)
        json_object_set_new(all, "v", json_integer(1));
    else
        err_set(e, ERR_INTERNAL, "out of memory");
    return all;
}

// What only a worker finds out, where the daemon runs and has the model loaded.
static void ask_daemon(const struct invocation *in, json_t *all) {
    struct err e;
    json_t *status = NULL, *one;
    size_t i;
    const char *name = json_string_value(json_object_get(all, "name"));
    const char *path = json_string_value(json_object_get(all, "path"));
    struct api_client *api = api_open(in->settings.api, &e);
    if (api && !api_get(api, "/nebulus/v1/status", &status, &e)) {
        json_array_foreach(json_object_get(status, "models"), i, one) {
            const char *its_name = json_string_value(json_object_get(one, "name"));
            const char *its_path = json_string_value(json_object_get(one, "path"));
            bool same = name ? its_name && !strcmp(name, its_name) : path && its_path && !strcmp(path, its_path);
            if (same) json_object_set(all, "memory_travels", json_object_get(one, "memory_travels"));
        }
    }
    json_decref(status);
    api_close(api);
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct store store;
    const char *word = in->args.words[0];
    bool file = strchr(word, '/') || ends_with(word, ".gguf");
    json_t *all = NULL;
    if (!store_init(&store, &in->paths, &e))
        all = file ? describe_file(&store, word, &e) : describe_stored(&store, word, &e);
    int rc = all ? 0 : -1;
    if (all) ask_daemon(in, all);
    if (!rc && args_has(&in->args, "json"))
        rc = term_print_json(json_incref(all), &e);
    else if (!rc)
        print_members(all, NULL);
    json_decref(all);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_show = {
    .name = "show",
    .group = "Models",
    ON_ONE_MODEL,
    .summary = "Describe a model or a .gguf file",
    .run = run,
};

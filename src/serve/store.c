#include "base/json.h"
#include "base/text.h"
#include "serve/store_path.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int store_init(struct store *s, const struct paths *p, struct err *e) {
    return path_join(s->dir, p->data, "models", e) || path_self(s->program, e) ? -1 : 0;
}

int store_path(const struct store *s, const char *name, const char *suffix, char path[PATH_SIZE], struct err *e) {
    char file[LIMIT_MODEL_NAME + 16];
    if (!text_is_name(name))
        return err_set(e, ERR_INVALID, "'%.60s' cannot be a model's name: use letters, digits, '.', '_', '-'", name);
    snprintf(file, sizeof file, "%s%s", name, suffix);
    return path_join(path, s->dir, file, e);
}

static int not_found(const char *name, struct err *e) {
    err_set(e, ERR_NOT_FOUND, "there is no model '%.128s': `nebulus ls` shows those there are", name);
    if (e) snprintf(e->param, sizeof e->param, "model");
    return -1;
}

int store_find(const struct store *s, const char *name, char path[PATH_SIZE], struct err *e) {
    struct stat st;
    if (!text_is_name(name)) return not_found(name, e);
    if (store_path(s, name, ".gguf", path, e)) return -1;
    if (lstat(path, &st)) return not_found(name, e);
    if (!stat(path, &st)) return 0;
    err_set(e, ERR_NOT_FOUND, "the file that the model '%s' links to is gone: import it again", name);
    if (e) snprintf(e->param, sizeof e->param, "model");
    return -1;
}

// ---------------------------------------------------------------- one model
// What the sidecar says, as far as it makes sense: it is only for people.
static void read_sidecar(const struct store *s, struct store_model *m) {
    char path[PATH_SIZE], *text = NULL;
    size_t len;
    const char *sha256 = "", *source = "";
    int64_t at = m->imported_at;
    json_t *o = NULL, *info = NULL;
    if (!store_path(s, m->name, ".json", path, NULL) && !file_read(path, LIMIT_SIDECAR, &text, &len, NULL))
        o = json_parse(text, len, NULL);
    if (o && !json_get_string(o, "sha256", &sha256, NULL) && !json_get_string(o, "source", &source, NULL) &&
        !json_get_int(o, "imported_at", 0, INT64_MAX, &at, NULL) && !json_get_object(o, "info", &info, NULL)) {
        snprintf(m->sha256, sizeof m->sha256, "%s", sha256);
        snprintf(m->source, sizeof m->source, "%s", source);
        m->imported_at = at;
        m->info = json_incref(info);
    }
    json_decref(o);
    free(text);
}

// All but what the sidecar says.
static int read_entry(const struct store *s, const char *name, struct store_model *m, struct err *e) {
    struct stat st;
    *m = (struct store_model){.info = NULL};
    snprintf(m->name, sizeof m->name, "%s", name);
    if (store_path(s, name, ".gguf", m->path, e)) return -1;
    if (lstat(m->path, &st)) return not_found(name, e);
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlink(m->path, m->target, sizeof m->target - 1);
        m->target[n > 0 ? n : 0] = 0;
    }
    m->imported_at = (int64_t)st.st_mtime;
    m->missing = stat(m->path, &st) != 0;
    m->bytes = m->missing ? 0 : (int64_t)st.st_size;
    return 0;
}

static int read_model(const struct store *s, const char *name, struct store_model *m, struct err *e) {
    if (read_entry(s, name, m, e)) return -1;
    read_sidecar(s, m);
    return 0;
}

int store_show(const struct store *s, const char *name, struct store_model *out, struct err *e) {
    *out = (struct store_model){.info = NULL};
    return text_is_name(name) ? read_model(s, name, out, e) : not_found(name, e);
}

void store_model_free(struct store_model *m) {
    json_decref(m->info);
    m->info = NULL;
}

// A path as JSON text: file names need not be UTF-8.
static json_t *path_json(const char *path) {
    char shown[PATH_SIZE * 4];
    if (text_is_utf8(path, strlen(path))) return json_string(path);
    text_escape(shown, sizeof shown, path);
    return json_string(shown);
}

json_t *store_model_json(const struct store_model *m) {
    return json_pack("{s:i, s:s, s:o, s:o, s:b, s:I, s:I, s:s, s:o, s:O?}", "v", 1, "name", m->name, "path",
                     path_json(m->path), "target", m->target[0] ? path_json(m->target) : json_null(), "missing",
                     m->missing, "bytes", (json_int_t)m->bytes, "imported_at", (json_int_t)m->imported_at, "sha256",
                     m->sha256, "source", path_json(m->source), "info", m->info);
}

// ---------------------------------------------------------------- all models
static int by_name(const void *a, const void *b) {
    return strcmp(((const struct store_model *)a)->name, ((const struct store_model *)b)->name);
}

// "NAME.gguf" -> NAME; false for any other file.
static bool name_of_entry(const char *file, char name[LIMIT_MODEL_NAME + 1]) {
    size_t n = strlen(file), suffix = strlen(".gguf");
    if (n <= suffix || n - suffix > LIMIT_MODEL_NAME || strcmp(file + n - suffix, ".gguf") != 0) return false;
    snprintf(name, LIMIT_MODEL_NAME + 1, "%.*s", (int)(n - suffix), file);
    return text_is_name(name);
}

typedef int (*reader)(const struct store *s, const char *name, struct store_model *m, struct err *e);

static int add_entry(const struct store *s, const char *name, reader read, struct store_model **all, size_t *n,
                     struct err *e) {
    if (!(*n & (*n - 1))) { // full: room for twice as many
        struct store_model *more = realloc(*all, (*n ? 2 * *n : 1) * sizeof **all);
        if (!more) return err_set(e, ERR_INTERNAL, "out of memory");
        *all = more;
    }
    if (!read(s, name, &(*all)[*n], NULL)) ++*n; // else it has just been removed
    return 0;
}

static int list(const struct store *s, reader read, struct store_model **out, size_t *n, struct err *e) {
    const struct dirent *entry;
    char name[LIMIT_MODEL_NAME + 1];
    *out = NULL;
    *n = 0;
    DIR *d = opendir(s->dir);
    if (!d) return errno == ENOENT ? 0 : err_errno(e, "cannot read the model store %s", s->dir);
    int rc = 0;
    while (!rc && *n < LIMIT_STORED_MODELS && (entry = readdir(d)))
        if (name_of_entry(entry->d_name, name)) rc = add_entry(s, name, read, out, n, e);
    closedir(d);
    if (!rc && *n) {
        qsort(*out, *n, sizeof **out, by_name);
        return 0;
    }
    store_list_free(*out, *n);
    *out = NULL;
    *n = 0;
    return rc;
}

int store_list(const struct store *s, struct store_model **out, size_t *n, struct err *e) {
    return list(s, read_model, out, n, e);
}

int store_list_entries(const struct store *s, struct store_model **out, size_t *n, struct err *e) {
    return list(s, read_entry, out, n, e);
}

void store_list_free(struct store_model *m, size_t n) {
    for (size_t i = 0; i < n; i++) store_model_free(&m[i]);
    free(m);
}

int store_remove(const struct store *s, const char *name, struct err *e) {
    char model[PATH_SIZE], sidecar[PATH_SIZE];
    struct stat st;
    if (!text_is_name(name)) return not_found(name, e);
    if (store_path(s, name, ".gguf", model, e) || store_path(s, name, ".json", sidecar, e)) return -1;
    if (lstat(model, &st)) return not_found(name, e);
    if (unlink(model)) return err_errno(e, "cannot remove %s", model);
    if (unlink(sidecar) && errno != ENOENT) return err_errno(e, "cannot remove %s", sidecar);
    return 0;
}

int store_name_of(const char *path, char name[LIMIT_MODEL_NAME + 1], struct err *e) {
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    size_t n = strlen(base), out = 0;
    if (n > 5 && !strcmp(base + n - 5, ".gguf")) n -= 5;
    for (size_t i = 0; i < n && out < LIMIT_MODEL_NAME; i++) {
        char one[2] = {base[i], 0};
        bool fits = text_is_name(one) || one[0] == '.' || one[0] == '-';
        if (!out && (one[0] == '.' || one[0] == '-' || !fits)) continue;
        name[out++] = fits ? base[i] : '-';
    }
    name[out] = 0;
    return text_is_name(name) ? 0 : err_set(e, ERR_INVALID, "no model name can be made of '%.200s': give one", base);
}

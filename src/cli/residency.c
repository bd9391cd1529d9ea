#include "cli/residency.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/progress.h"
#include "serve/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_path(const char *word) {
    size_t n = strlen(word);
    return strchr(word, '/') || (n > 5 && !strcmp(word + n - 5, ".gguf"));
}

static int absolute(const char *word, char out[PATH_SIZE], struct err *e) {
    char *real = realpath(word, NULL);
    if (!real) {
        enum err_code code = errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
        err_errno(e, "cannot open the model file %s", word);
        if (e) e->code = code;
        return -1;
    }
    int n = snprintf(out, PATH_SIZE, "%s", real);
    free(real);
    return n < PATH_SIZE ? 0 : err_set(e, ERR_LIMIT, "the path of the model file is too long");
}

int loading_init(struct loading *l, const struct paths *p, const char *word, struct err *e) {
    struct store store;
    struct stat st;
    struct err ignored;
    char path[PATH_SIZE];
    *l = (struct loading){.bytes = 0};
    if (is_path(word)) {
        if (absolute(word, l->asked, e) || store_name_of(l->asked, l->shown, e)) return -1;
        if (!stat(l->asked, &st) && S_ISREG(st.st_mode)) l->bytes = (uint64_t)st.st_size;
        return 0;
    }
    if (!text_is_name(word)) return err_set(e, ERR_INVALID, "'%.60s' is neither a model's name nor a .gguf file", word);
    snprintf(l->asked, sizeof l->asked, "%s", word);
    snprintf(l->shown, sizeof l->shown, "%s", word);
    // the size only makes the bar more telling: the daemon decides whether there is such a model
    if (!store_init(&store, p, &ignored) && !store_find(&store, word, path, &ignored) && !stat(path, &st))
        l->bytes = (uint64_t)st.st_size;
    return 0;
}

void loading_free(struct loading *l) {
    json_decref(l->model);
    l->model = NULL;
}

struct listening {
    struct loading *l;
    struct progress bar;
    api_event raw;
    void *arg;
};

static int on_event(void *arg, const json_t *event, struct err *e) {
    struct listening *s = arg;
    const char *state = "", *name = "";
    double fraction = 0;
    json_t *model = NULL;
    if (json_get_string(event, "state", &state, e) || json_get_real(event, "progress", 0, 1, &fraction, e) ||
        json_get_object(event, "model", &model, e) || json_get_string(model, "name", &name, e))
        return -1;
    if (s->raw && s->raw(s->arg, event, e)) return -1;
    if (!strcmp(state, "ready")) {
        if (!text_is_name(name))
            return err_set(e, ERR_UNREACHABLE, "the daemon's answer makes no sense: is it another version?");
        snprintf(s->l->name, sizeof s->l->name, "%s", name);
        json_decref(s->l->model);
        s->l->model = json_deep_copy(model);
        return s->l->model ? 0 : err_set(e, ERR_INTERNAL, "out of memory");
    }
    s->l->waited = true;
    if (!s->raw) progress_update(&s->bar, fraction, s->l->bytes);
    return 0;
}

int loading_run(struct loading *l, struct api_client *api, api_event raw, void *arg, struct err *e) {
    struct listening s = {.l = l, .raw = raw, .arg = arg};
    json_t *body = json_pack("{s:s}", "model", l->asked);
    if (!body) return err_set(e, ERR_INVALID, "the model's path is not valid UTF-8");
    progress_init(&s.bar, l->shown, "loading");
    int rc = api_stream(api, "/nebulus/v1/load", body, on_event, &s, e);
    json_decref(body);
    if (!rc && !l->model)
        rc = err_set(e, ERR_WORKER, "the daemon stopped loading %s without saying why: see its log", l->shown);
    progress_finish(&s.bar, rc ? NULL : "loaded");
    return rc;
}

#include "cli/view.h"
#include "base/text.h"
#include "cli/api_client.h"
#include "cli/interrupt.h"
#include "cli/screen.h"
#include "cli/term.h"

#include <stdlib.h>
#include <unistd.h>

enum { WATCH_MS = 1000 };

int view_run(struct invocation *in, const char *path, int (*print)(const json_t *answer, struct err *e)) {
    struct err e = {.code = ERR_NONE};
    json_t *answer = NULL;
    struct api_client *api = api_open(in->settings.api, &e);
    int rc = api ? api_get(api, path, &answer, &e) : -1;
    if (!rc) rc = args_has(&in->args, "json") ? term_print_json(json_incref(answer), &e) : print(answer, &e);
    json_decref(answer);
    api_close(api);
    return rc ? cli_fail(&e) : CLI_OK;
}

struct view {
    struct api_client *api;
    const char *path;
    view_write write;
    bool json, watch, screen;
    bool seen; // it could be shown once
};

static int show(const struct view *v, const struct sheet *to, struct err *e) {
    json_t *answer = NULL;
    int rc = api_get(v->api, v->path, &answer, e);
    if (!rc) rc = v->json ? term_print_json(json_incref(answer), e) : v->write(answer, to, e);
    json_decref(answer);
    return rc;
}

// A picture of what is shown, of why it is not, or of what was shown and why not all.
static int draw(struct view *v, struct err *e) {
    char *text = NULL, safe[ESCAPED_MAX];
    size_t n;
    struct err why = {.code = ERR_NONE};
    FILE *page = open_memstream(&text, &n);
    if (!page) return err_set(e, ERR_INTERNAL, "out of memory");
    const struct sheet to = {.out = page, .notes = page};
    int bad = show(v, &to, &why);
    if (bad) {
        text_escape(safe, sizeof safe, why.msg);
        fprintf(page, "%s%s%s\n", term_style(STDOUT_FILENO, STYLE_YELLOW), safe, term_style(STDOUT_FILENO, STYLE_END));
    }
    int rc = fclose(page) ? err_set(e, ERR_INTERNAL, "out of memory") : 0;
    if (!rc && bad && !v->seen) {
        *e = why;
        rc = -1;
    }
    v->seen = true;
    if (!rc) rc = screen_draw(text, e);
    free(text);
    return rc;
}

static int show_once(struct view *v, struct err *e) {
    const struct sheet to = {.out = stdout, .notes = stderr};
    if (v->screen) return draw(v, e);
    if (show(v, &to, e)) return -1;
    return fflush(stdout) ? err_errno(e, "cannot write to stdout") : 0;
}

static int show_on_and_on(struct view *v, struct err *e) {
    int rc = 0;
    if (v->screen) screen_begin();
    while (!(rc = show_once(v, e)) && v->watch && !interrupt_sleep(WATCH_MS))
        if (!v->screen && !v->json) printf("\n");
    screen_end();
    return rc;
}

int view_watch(struct invocation *in, const char *path, view_write write) {
    struct err e = {.code = ERR_NONE};
    struct view v = {.path = path, .write = write};
    v.json = args_has(&in->args, "json");
    v.watch = args_has(&in->args, "watch");
    v.screen = v.watch && !v.json && screen_can();
    v.api = api_open(in->settings.api, &e);
    int rc = v.api ? show_on_and_on(&v, &e) : -1;
    api_close(v.api);
    if (interrupt_pending()) return CLI_INTERRUPTED;
    return rc ? cli_fail(&e) : CLI_OK;
}

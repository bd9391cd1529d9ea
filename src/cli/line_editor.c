#include "cli/line_editor.h"
#include "base/paths.h"
#include "cli/interrupt.h"

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

enum { HISTORY_ENTRIES = 1000 };

struct line_editor {
    EditLine *el;
    History *history;
    char file[PATH_SIZE]; // "" = not kept
    const char *prompt;
    bool held;
    struct termios before; // the terminal's mode while not held
};

static char *give_prompt(EditLine *el) {
    struct line_editor *ed = NULL;
    static char text[64];
    el_get(el, EL_CLIENTDATA, &ed);
    snprintf(text, sizeof text, "%s", ed && ed->prompt ? ed->prompt : "");
    return text;
}

// libedit decodes what is typed by the locale; where that is not UTF-8 (LANG=C), it would refuse what is.
static void use_utf8(void) {
    static const char *const locales[] = {"", "C.UTF-8", "en_US.UTF-8"};
    for (size_t i = 0; i < sizeof locales / sizeof *locales; i++)
        if (setlocale(LC_CTYPE, locales[i]) && MB_CUR_MAX > 1) return;
}

static void open_history(struct line_editor *ed) {
    HistEvent ev;
    struct stat st;
    history(ed->history, &ev, H_SETSIZE, HISTORY_ENTRIES);
    history(ed->history, &ev, H_SETUNIQUE, 1);
    el_set(ed->el, EL_HIST, history, ed->history);
    if (ed->file[0] && !stat(ed->file, &st)) history(ed->history, &ev, H_LOAD, ed->file);
}

struct line_editor *line_editor_new(const char *file, struct err *e) {
    struct line_editor *ed = calloc(1, sizeof *ed);
    if (!ed) goto failed;
    if (file && snprintf(ed->file, sizeof ed->file, "%s", file) >= (int)sizeof ed->file) ed->file[0] = 0;
    use_utf8();
    ed->el = el_init("nebulus", stdin, stdout, stderr);
    ed->history = history_init();
    if (!ed->el || !ed->history) goto failed;
    el_set(ed->el, EL_CLIENTDATA, ed);
    el_set(ed->el, EL_PROMPT, give_prompt);
    el_set(ed->el, EL_EDITOR, "emacs");
    el_set(ed->el, EL_SIGNAL, 0); // ^C is ours: see interrupt.h
    el_set(ed->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(ed->el, EL_BIND, "\033[3~", "ed-delete-next-char", NULL);
    open_history(ed);
    return ed;
failed:
    line_editor_free(ed);
    err_set(e, ERR_INTERNAL, "cannot set up the line editor: is TERM right?");
    return NULL;
}

void line_editor_free(struct line_editor *ed) {
    if (!ed) return;
    line_editor_release(ed);
    if (ed->history) history_end(ed->history);
    if (ed->el) el_end(ed->el);
    free(ed);
}

enum line_result line_editor_read(struct line_editor *ed, const char *prompt, struct buf *line, struct err *e) {
    int n = 0;
    buf_clear(line);
    ed->prompt = prompt;
    interrupt_clear();
    const char *got = el_gets(ed->el, &n);
    if (interrupt_pending()) {
        interrupt_clear();
        el_reset(ed->el);
        fprintf(stderr, "\n");
        return LINE_INTERRUPTED;
    }
    if (!got || n <= 0) return LINE_END;
    if (got[n - 1] == '\n') n--;
    if (!buf_append(line, got, (size_t)n)) return LINE_OK;
    err_set(e, ERR_LIMIT, "the line is too long");
    return LINE_FAILED;
}

void line_editor_remember(struct line_editor *ed, const char *text) {
    HistEvent ev;
    history(ed->history, &ev, H_ENTER, text);
    if (!ed->file[0]) return;
    mode_t before = umask(0077); // the file may hold anything that people type
    history(ed->history, &ev, H_SAVE, ed->file);
    umask(before);
}

void line_editor_hold(struct line_editor *ed) {
    struct termios quiet;
    if (ed->held || tcgetattr(STDIN_FILENO, &ed->before)) return;
    quiet = ed->before;
    quiet.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    ed->held = !tcsetattr(STDIN_FILENO, TCSADRAIN, &quiet);
}

void line_editor_release(struct line_editor *ed) {
    if (ed->held) tcsetattr(STDIN_FILENO, TCSADRAIN, &ed->before);
    ed->held = false;
}

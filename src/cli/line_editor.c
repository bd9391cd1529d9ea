#include "cli/line_editor.h"
#include "base/paths.h"
#include "cli/interrupt.h"

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

enum { HISTORY_ENTRIES = 1000 };

struct line_editor {
    EditLine *el;
    History *history;
    char file[PATH_SIZE]; // "" = not kept
    const char *prompt;
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

static volatile sig_atomic_t resized, continued;

static void on_terminal_signal(int sig) {
    if (sig == SIGWINCH)
        resized = 1;
    else
        continued = 1;
}

static void follow_terminal(EditLine *el) {
    if (resized) el_resize(el);
    if (continued) { // the shell has set the terminal's mode meanwhile, which libedit cannot know
        el_set(el, EL_PREP_TERM, 0);
        el_set(el, EL_PREP_TERM, 1);
        el_set(el, EL_REFRESH);
    }
    resized = continued = 0;
}

// Waits for a byte: 1, or what read(2) says. ^C ends the wait whenever it came.
static ssize_t read_byte(EditLine *el, char *byte) {
    struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = interrupt_fd(), .events = POLLIN}};
    for (;;) {
        follow_terminal(el);
        int ready = poll(p, 2, -1);
        if (interrupt_pending()) {
            errno = EINTR;
            return -1;
        }
        if (ready < 0 && errno != EINTR) return -1;
        if (ready <= 0 || !p[0].revents) continue;
        ssize_t n = read(STDIN_FILENO, byte, 1);
        if (n >= 0 || errno != EINTR) return n;
    }
}

// libedit's source of characters. Bytes that are not of the locale's encoding are passed over.
static int read_character(EditLine *el, wchar_t *out) {
    mbstate_t state = {0};
    for (;;) {
        char byte;
        ssize_t n = read_byte(el, &byte);
        if (n <= 0) return (int)n;
        size_t used = mbrtowc(out, &byte, 1, &state);
        if (used == (size_t)-1)
            state = (mbstate_t){0};
        else if (used != (size_t)-2)
            return 1;
    }
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
    el_set(ed->el, EL_SIGNAL, 0); // its own handlers lose a ^C that comes just before its read(2)
    el_set(ed->el, EL_GETCFN, read_character);
    // the mode between reads; were it canonical, a ^D typed there would become a NUL
    el_set(ed->el, EL_SETTY, "-x", "-icanon", "-echo", NULL);
    el_set(ed->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(ed->el, EL_BIND, "\033[3~", "ed-delete-next-char", NULL);
    open_history(ed);
    struct sigaction act = {.sa_handler = on_terminal_signal};
    sigaction(SIGWINCH, &act, NULL);
    sigaction(SIGCONT, &act, NULL);
    return ed;
failed:
    line_editor_free(ed);
    err_set(e, ERR_INTERNAL, "cannot set up the line editor: is TERM right?");
    return NULL;
}

void line_editor_free(struct line_editor *ed) {
    if (!ed) return;
    signal(SIGWINCH, SIG_DFL);
    signal(SIGCONT, SIG_DFL);
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

#include "cli/screen.h"
#include "base/env.h"
#include "base/text.h"
#include "cli/term.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define ENTER "\033[?1049h\033[?25l" // the alternate screen, no cursor
#define LEAVE "\033[?25h\033[?1049l"
enum { PICTURE_BYTES = 1 << 20 };

static volatile sig_atomic_t begun;
static bool quiet; // the terminal's settings were changed
static struct termios before, silent;

bool screen_can(void) {
    const char *term = env_get("TERM");
    return term_is_tty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
}

// ---------------------------------------------------------------- taking and giving back: also in signal handlers
static void say(const char *text, size_t n) {
    while (n) {
        ssize_t done = write(STDOUT_FILENO, text, n);
        if (done < 0 && errno != EINTR) return; // the terminal is gone
        if (done > 0) text += done;
        if (done > 0) n -= (size_t)done;
    }
}

static void take(void) {
    if (quiet) tcsetattr(STDIN_FILENO, TCSANOW, &silent);
    say(ENTER, sizeof ENTER - 1);
}

static void give_back(void) {
    say(LEAVE, sizeof LEAVE - 1);
    if (quiet) tcsetattr(STDIN_FILENO, TCSAFLUSH, &before); // what was typed meanwhile was for nobody
}

static void on_end(int sig) {
    int saved = errno;
    if (begun) give_back();
    begun = 0;
    signal(sig, SIG_DFL);
    raise(sig);
    errno = saved;
}

static void on_stop(int sig) {
    int saved = errno;
    (void)sig;
    if (begun) give_back();
    raise(SIGSTOP);
    if (begun) take();
    errno = saved;
}

static void on_resize(int sig) { (void)sig; } // that it interrupts a wait is all

static void handle(int sig, void (*handler)(int)) {
    struct sigaction act = {.sa_handler = handler};
    sigaction(sig, &act, NULL);
}

void screen_begin(void) {
    quiet = term_is_tty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &before);
    silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    begun = 1;
    handle(SIGTERM, on_end);
    handle(SIGHUP, on_end);
    handle(SIGQUIT, on_end);
    handle(SIGTSTP, on_stop);
    handle(SIGWINCH, on_resize);
    take();
}

void screen_end(void) {
    if (!begun) return;
    begun = 0;
    give_back();
}

// ---------------------------------------------------------------- pictures
// The bytes at s, of `left`, of an escape sequence, which has no columns; 0 where there is none.
static size_t style_bytes(const char *s, size_t left) {
    if (left < 2 || s[0] != '\033' || s[1] != '[') return 0;
    size_t n = 2 + strspn(s + 2, "0123456789;");
    return n < left ? n + 1 : left;
}

// One line without its newline; returns where the next one begins.
static const char *put_line(struct buf *out, const char *line, int columns) {
    size_t n = strcspn(line, "\n");
    int used = 0;
    for (size_t i = 0; i < n;) {
        size_t style = style_bytes(line + i, n - i);
        int bytes = style ? (int)style : text_utf8_char(line + i, n - i);
        if (bytes < 1) bytes = 1;
        if (style || used++ < columns) buf_append(out, line + i, (size_t)bytes); // styles end also where text is cut
        i += (size_t)bytes;
    }
    buf_puts(out, "\033[K");
    return line + n + (line[n] == '\n');
}

static int count_lines(const char *text) {
    int n = 0;
    for (; *text; text += strcspn(text, "\n"), text += *text == '\n') n++;
    return n;
}

int screen_render(struct buf *out, const char *text, int columns, int rows) {
    int all = count_lines(text), shown = all <= rows ? all : rows - 1;
    char more[64];
    buf_puts(out, "\033[H");
    for (int i = 0; i < shown; i++) {
        if (i) buf_puts(out, "\r\n");
        text = put_line(out, text, columns);
    }
    if (shown < all) {
        snprintf(more, sizeof more, "... %d more lines", all - shown);
        if (shown > 0) buf_puts(out, "\r\n");
        put_line(out, more, columns);
    }
    buf_puts(out, "\033[J");
    return out->failed ? -1 : 0;
}

static int height(void) {
    struct winsize w;
    return !ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_row > 0 ? w.ws_row : 24;
}

int screen_draw(const char *text, struct err *e) {
    struct buf picture;
    buf_init(&picture, PICTURE_BYTES);
    int rc = screen_render(&picture, text, term_width(STDOUT_FILENO), height());
    if (rc)
        err_set(e, ERR_INTERNAL, "out of memory");
    else
        say(picture.data, picture.len);
    buf_free(&picture);
    return rc;
}

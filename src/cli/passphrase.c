#include "cli/passphrase.h"
#include "base/paths.h"
#include "cli/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <termios.h>
#include <unistd.h>

void passphrase_wipe(char out[PASSPHRASE_SIZE]) { OPENSSL_cleanse(out, PASSPHRASE_SIZE); }

static int from_file(const char *file, char out[PASSPHRASE_SIZE], struct err *e) {
    char *text;
    size_t n;
    if (file_read(file, PASSPHRASE_SIZE, &text, &n, e)) return -1;
    size_t line = strcspn(text, "\r\n");
    int rc = line < PASSPHRASE_SIZE ? 0 : err_set(e, ERR_LIMIT, "the passphrase in %s is too long", file);
    if (!rc) snprintf(out, PASSPHRASE_SIZE, "%.*s", (int)line, text);
    OPENSSL_cleanse(text, n);
    free(text);
    return rc;
}

// Waits with select, which a ^C that comes just before it wakes as well (macOS cannot poll /dev/tty).
static int read_byte(int tty, char *c, struct err *e) {
    int wake = interrupt_fd();
    for (;;) {
        fd_set readable;
        FD_ZERO(&readable);
        FD_SET(tty, &readable);
        if (wake >= 0) FD_SET(wake, &readable);
        if (interrupt_pending()) return err_set(e, ERR_CANCELLED, "interrupted");
        if (select((tty > wake ? tty : wake) + 1, &readable, NULL, NULL, NULL) < 0) {
            if (errno == EINTR) continue;
            return err_errno(e, "cannot ask for the passphrase");
        }
        if (interrupt_pending() || !FD_ISSET(tty, &readable)) continue;
        ssize_t got = read(tty, c, 1);
        if (got < 0 && errno == EINTR) continue;
        return got == 1 ? 0 : err_set(e, ERR_INVALID, "no passphrase was given");
    }
}

// One line, byte by byte so that nothing of it stays in a buffer.
static int read_line(int tty, char out[PASSPHRASE_SIZE], struct err *e) {
    for (size_t n = 0; n < PASSPHRASE_SIZE; n++) {
        if (read_byte(tty, &out[n], e)) return -1;
        if (out[n] != '\n') continue;
        out[n] = 0;
        return 0;
    }
    return err_set(e, ERR_LIMIT, "the passphrase is too long");
}

static int ask(int tty, const char *prompt, char out[PASSPHRASE_SIZE], struct err *e) {
    struct termios before, quiet;
    if (tcgetattr(tty, &before)) return err_errno(e, "cannot ask for the passphrase");
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
    quiet.c_lflag |= ICANON | ISIG;
    if (tcsetattr(tty, TCSAFLUSH, &quiet)) return err_errno(e, "cannot ask for the passphrase");
    int rc = dprintf(tty, "%s: ", prompt) < 0 ? err_errno(e, "cannot ask for the passphrase") : 0;
    if (!rc) rc = read_line(tty, out, e);
    if (tcsetattr(tty, TCSAFLUSH, &before) || dprintf(tty, "\n") < 0) rc = err_errno(e, "cannot restore the terminal");
    return rc;
}

static int from_terminal(const char *prompt, bool fresh, char out[PASSPHRASE_SIZE], struct err *e) {
    char again[PASSPHRASE_SIZE] = "";
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY), rc;
    if (tty < 0)
        return err_set(e, ERR_INVALID, "there is no terminal to ask for the passphrase: give --passphrase-file FILE");
    rc = ask(tty, prompt, out, e);
    if (!rc && fresh) rc = ask(tty, "the same again", again, e);
    if (!rc && fresh && strcmp(out, again) != 0) rc = err_set(e, ERR_INVALID, "the two passphrases differ");
    passphrase_wipe(again);
    close(tty);
    return rc;
}

int passphrase_read(const char *file, const char *prompt, bool fresh, char out[PASSPHRASE_SIZE], struct err *e) {
    int rc = file ? from_file(file, out, e) : from_terminal(prompt, fresh, out, e);
    if (!rc && fresh && strlen(out) < PASSPHRASE_LEAST)
        rc =
            err_set(e, ERR_INVALID, "the passphrase must have %d characters or more (--no-passphrase does without one)",
                    PASSPHRASE_LEAST);
    if (rc) passphrase_wipe(out);
    return rc;
}

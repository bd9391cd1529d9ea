#include "cli/term.h"
#include "base/env.h"
#include "base/json.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool term_is_tty(int fd) { return isatty(fd); }

int term_width(int fd) {
    struct winsize w;
    return !ioctl(fd, TIOCGWINSZ, &w) && w.ws_col > 0 ? w.ws_col : 80;
}

const char *term_style(int fd, enum style s) {
    static const char *const codes[] = {"\033[1m",  "\033[2m",  "\033[32m", "\033[33m",
                                        "\033[31m", "\033[36m", "\033[0m"};
    const char *term = env_get("TERM");
    bool plain = !isatty(fd) || env_get("NO_COLOR") || !term || !strcmp(term, "dumb");
    return plain ? "" : codes[s];
}

static const char *scaled(char *out, uint64_t n, const char *const units[]) {
    double v = (double)n;
    size_t u = 0;
    for (; v >= 999.5 && units[u + 1]; u++) v /= 1000;
    snprintf(out, SIZE_TEXT, u && v < 99.95 ? "%.1f%s" : "%.0f%s", v, units[u]);
    return out;
}

const char *term_size(char out[SIZE_TEXT], uint64_t bytes) {
    static const char *const units[] = {" B", " kB", " MB", " GB", " TB", " PB", NULL};
    return scaled(out, bytes, units);
}

const char *term_count(char out[SIZE_TEXT], uint64_t n) {
    static const char *const units[] = {"", " k", " M", " B", " T", NULL};
    return scaled(out, n, units);
}

const char *term_duration(char out[SIZE_TEXT], uint64_t seconds) {
    static const struct {
        uint64_t unit;
        const char *big, *small;
        uint64_t part;
    } steps[] = {{86400, "d", "h", 3600}, {3600, "h", "m", 60}, {60, "m", "s", 1}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        if (seconds < steps[i].unit) continue;
        unsigned long long big = seconds / steps[i].unit, small = seconds % steps[i].unit / steps[i].part;
        snprintf(out, SIZE_TEXT, small ? "%llu%s %llu%s" : "%llu%s", big, steps[i].big, small, steps[i].small);
        return out;
    }
    snprintf(out, SIZE_TEXT, "%llus", (unsigned long long)seconds);
    return out;
}

size_t term_columns(const char *text) {
    size_t n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static void note(FILE *to, const char *fmt, va_list ap) {
    char line[ESCAPED_MAX], safe[ESCAPED_MAX];
    vsnprintf(line, sizeof line, fmt, ap);
    text_escape(safe, sizeof safe, line);
    fprintf(to, "%s\n", safe);
}

void term_notice(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    note(stderr, fmt, ap);
    va_end(ap);
}

void term_note(FILE *to, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    note(to, fmt, ap);
    va_end(ap);
}

int term_print_json(json_t *v, struct err *e) {
    char *text = v ? json_text(v) : NULL;
    json_decref(v);
    if (!text) return err_set(e, ERR_INTERNAL, "out of memory");
    int bad = puts(text) < 0 || fflush(stdout);
    free(text);
    return bad ? err_errno(e, "cannot write to stdout") : 0;
}

// What one byte does to the state; returns whether it is shown.
static bool clean_byte(struct cleaner *c, unsigned char b) {
    if (b == '\n') {
        c->state = CLEAN_TEXT;
        return true;
    }
    switch (c->state) {
    case CLEAN_TEXT:
        if (b == 0x1B) c->state = CLEAN_ESC;
        return (b >= 0x20 && b != 0x7F) || b == '\t';
    case CLEAN_ESC:
        c->state = b == '['                  ? CLEAN_CSI
                   : b && strchr("]PX^_", b) ? CLEAN_STRING
                   : b >= 0x20 && b < 0x30   ? CLEAN_ESC
                                             : CLEAN_TEXT;
        if (b == 0x1B) c->state = CLEAN_ESC;
        return b >= 0x80; // the escape stood alone before a character
    case CLEAN_CSI:
        if (b >= 0x40 && b < 0x7F) c->state = CLEAN_TEXT;
        if (b == 0x1B) c->state = CLEAN_ESC;
        return false;
    case CLEAN_STRING:
        if (b == 7) c->state = CLEAN_TEXT;
        if (b == 0x1B) c->state = CLEAN_STRING_ESC;
        return false;
    case CLEAN_STRING_ESC:
        c->state = b == '\\' ? CLEAN_TEXT : b == 0x1B ? CLEAN_STRING_ESC : CLEAN_STRING;
        return false;
    }
    return false;
}

// U+0080..U+009F are control characters too: the two bytes C2 80..C2 9F.
static void clean_c1(struct cleaner *c, unsigned char second) {
    if (second == 0x9C)
        c->state = CLEAN_TEXT;
    else if (c->state != CLEAN_TEXT)
        return;
    else if (second == 0x9B)
        c->state = CLEAN_CSI;
    else if (second == 0x90 || second == 0x98 || second >= 0x9D)
        c->state = CLEAN_STRING;
}

int clean_append(struct cleaner *c, struct buf *out, const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char b = (unsigned char)text[i];
        bool held = c->held;
        c->held = false;
        if (held && b >= 0x80 && b < 0xA0) {
            clean_c1(c, b);
            continue;
        }
        if (held && clean_byte(c, 0xC2)) buf_append(out, "\xC2", 1);
        c->held = b == 0xC2;
        if (!c->held && clean_byte(c, b)) buf_append(out, &text[i], 1);
    }
    return out->failed ? -1 : 0;
}

#include "base/log.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static enum log_level threshold = LOG_INFO;
static char tag[64];

void log_set_level(enum log_level level) { threshold = level; }
void log_set_prefix(const char *prefix) { snprintf(tag, sizeof tag, "%s: ", prefix); }

void log_line(enum log_level level, const char *fmt, ...) {
    static const char *const words[] = {"error", "warn", "info", "debug"};
    if (level > threshold) return;
    char text[1024], safe[2048], line[2304];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    text_escape(safe, sizeof safe, text);
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    char stamp[32];
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", &tm);
    int n = snprintf(line, sizeof line, "%s %-5s %s%s\n", stamp, words[level], tag, safe);
    if (n >= (int)sizeof line) n = sizeof line - 1;
    if (write(STDERR_FILENO, line, (size_t)n) < 0) return; // nobody is left to be told
}

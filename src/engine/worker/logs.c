#include "engine/worker/logs.h"
#include "base/log.h"

#include <llama.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char line[512]; // what came since the last newline
static char last_error[256];
static enum ggml_log_level line_level;

static void end_line(void) {
    if (!line[0]) return;
    if (line_level != GGML_LOG_LEVEL_DEBUG) log_debug("%s", line); // its own debugging tells of every tensor
    if (line_level == GGML_LOG_LEVEL_ERROR) snprintf(last_error, sizeof last_error, "%.255s", line);
    line[0] = 0;
}

static void on_log(enum ggml_log_level level, const char *text, void *arg) {
    (void)arg;
    pthread_mutex_lock(&lock);
    if (level != GGML_LOG_LEVEL_CONT) line_level = level;
    while (*text) {
        size_t n = strcspn(text, "\n"), have = strlen(line);
        snprintf(line + have, sizeof line - have, "%.*s", (int)(n < sizeof line ? n : sizeof line), text);
        text += n;
        if (*text == '\n') {
            end_line();
            text++;
        }
    }
    pthread_mutex_unlock(&lock);
}

void logs_capture(void) { llama_log_set(on_log, NULL); }

void logs_last_error(char *out, size_t size) {
    pthread_mutex_lock(&lock);
    end_line();
    snprintf(out, size, "%s", last_error);
    last_error[0] = 0;
    pthread_mutex_unlock(&lock);
}

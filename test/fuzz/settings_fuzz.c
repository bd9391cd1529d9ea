// base/settings: a configuration file from anywhere either fails with one line that names the place, or leaves every
// setting at a value that could have been given by hand.
#include "base/settings.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_values(const struct settings *s) {
    struct settings copy;
    settings_defaults(&copy);
    for (size_t i = 0; i < settings_count; i++) {
        char value[SETTING_SIZE], again[SETTING_SIZE];
        struct err e;
        settings_text(s, &settings_table[i], value);
        if (settings_set(&copy, settings_table[i].name, value, FROM_FLAG, &e)) abort();
        settings_text(&copy, &settings_table[i], again);
        if (strcmp(value, again)) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    text[size] = 0;
    struct settings s;
    struct err e = {.code = ERR_NONE};
    settings_defaults(&s);
    if (settings_read_text(&s, text, "test.conf", &e)) {
        if (e.code != ERR_INVALID || strncmp(e.msg, "test.conf:", 10) || strtol(e.msg + 10, NULL, 10) < 1) abort();
        if (strchr(e.msg, '\n')) abort();
    }
    check_values(&s);
    free(text);
    return 0;
}

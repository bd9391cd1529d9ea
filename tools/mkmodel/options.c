#include "options.h"

#include "base/text.h"
#include <stdio.h>
#include <string.h>

static int bad_choice(const struct option *option, const char *value, struct err *e) {
    char names[256] = "";
    size_t length = 0;
    for (const struct option_choice *c = option->choices; c->name && length < sizeof names - 32; c++)
        length += (size_t)snprintf(names + length, sizeof names - length, "%s%s", length ? ", " : "", c->name);
    return err_param(e, option->name, "%s=%s is unknown: give one of %s", option->name, value, names);
}

static int parse_choice(const struct option *option, int *target, const char *value, struct err *e) {
    for (const struct option_choice *c = option->choices; c->name; c++) {
        if (strcmp(c->name, value)) continue;
        *target = c->value;
        return 0;
    }
    return bad_choice(option, value, e);
}

static int parse_number(const struct option *option, int *target, const char *value, struct err *e) {
    long number;
    int multiple = option->multiple ? option->multiple : 1;
    if (text_parse_long(value, option->min, option->max, &number) || number % multiple) {
        char steps[48] = "";
        if (option->multiple) snprintf(steps, sizeof steps, " that %d divides", option->multiple);
        return err_param(e, option->name, "%s=%s is not possible: give a whole number from %d to %d%s", option->name,
                         value, option->min, option->max, steps);
    }
    *target = (int)number;
    return 0;
}

static int parse_argument(const struct option *table, void *settings, const char *argument, struct err *e) {
    char shown[64];
    size_t length = strcspn(argument, "=");
    for (const struct option *option = table; option->name; option++) {
        if (strlen(option->name) != length || strncmp(option->name, argument, length) || argument[length] != '=')
            continue;
        int *target = (int *)(void *)((char *)settings + option->offset);
        const char *value = argument + length + 1;
        text_escape(shown, sizeof shown, value);
        if (strcmp(shown, value)) return err_param(e, option->name, "%s=%s is no value", option->name, shown);
        return option->choices ? parse_choice(option, target, value, e) : parse_number(option, target, value, e);
    }
    text_escape(shown, sizeof shown, argument);
    return err_set(e, ERR_INVALID, "'%s' is no option here: mkmodel --help lists them as name=value", shown);
}

int options_parse(const struct option *table, void *settings, char *const *arguments, int count, struct err *e) {
    for (int i = 0; i < count; i++)
        if (parse_argument(table, settings, arguments[i], e)) return -1;
    return 0;
}

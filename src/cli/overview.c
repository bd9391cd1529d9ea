// The help texts, laid out from the command tables.
#include "cli/command.h"
#include "cli/term.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NAME_COLUMNS = 30 };

void cli_print_overview(const struct command *const *commands, size_t n) {
    const char *bold = term_style(STDOUT_FILENO, STYLE_BOLD), *end = term_style(STDOUT_FILENO, STYLE_END), *group = "";
    printf("%snebulus%s runs large language models on machines you own.\n\nusage: nebulus COMMAND [OPTIONS]\n", bold,
           end);
    for (size_t i = 0; i < n; i++) {
        char left[64];
        if (strcmp(group, commands[i]->group)) printf("\n%s%s%s\n", bold, commands[i]->group, end);
        group = commands[i]->group;
        snprintf(left, sizeof left, "%s%s%s", commands[i]->name, *commands[i]->arguments ? " " : "",
                 commands[i]->arguments);
        printf("  %-*s%s\n", NAME_COLUMNS, left, commands[i]->summary);
    }
    printf("\n`nebulus COMMAND --help` tells more. Files: `nebulus config path`; NEBULUS_HOME moves everything.\n");
}

static void print_option(char letter, const char *name, const char *placeholder, const char *help) {
    char left[160], before[5] = "    ";
    if (letter) snprintf(before, sizeof before, "-%c, ", letter);
    int n =
        snprintf(left, sizeof left, "%s--%s%s%s", before, name, placeholder ? " " : "", placeholder ? placeholder : "");
    if (n >= NAME_COLUMNS)
        printf("  %s\n  %-*s%s\n", left, NAME_COLUMNS, "", help);
    else
        printf("  %-*s%s\n", NAME_COLUMNS, left, help);
}

static void print_setting(const struct setting *one) {
    char name[64], help[256];
    setting_flag_name(one, name);
    snprintf(help, sizeof help, "%s%s%s%s", one->help, *one->value ? " [" : "", one->value, *one->value ? "]" : "");
    print_option(0, name, one->placeholder, help);
}

void cli_print_help(const struct command *c) {
    const char *bold = term_style(STDOUT_FILENO, STYLE_BOLD), *end = term_style(STDOUT_FILENO, STYLE_END);
    printf("usage: %snebulus %s%s%s%s [OPTIONS]\n\n%s.\n", bold, c->name, end, *c->arguments ? " " : "", c->arguments,
           c->summary);
    if (c->alias) printf("`nebulus %s` is the same.\n", c->alias);
    if (c->details) printf("\n%s\n", c->details);
    printf("\n%soptions%s\n", bold, end);
    for (size_t i = 0; i < c->n_options; i++) {
        const struct option *o = &c->options[i];
        if (o->help) print_option(o->letter, o->name, o->type == OPTION_FLAG ? NULL : o->placeholder, o->help);
    }
    for (size_t i = 0; i < settings_count; i++)
        if (c->settings == SETTINGS_API && settings_use_has(SETTINGS_API, &settings_table[i]))
            print_setting(&settings_table[i]);
    print_option('h', "help", NULL, "show this");
    if (c->settings != SETTINGS_ALL && c->settings != SETTINGS_RUN) return;
    printf("\n%ssettings%s (also as NEBULUS_NAME=... or in nebulus.conf; defaults in brackets)\n", bold, end);
    for (size_t i = 0; i < settings_count; i++)
        if (settings_use_has(c->settings, &settings_table[i])) print_setting(&settings_table[i]);
}

// nebulus completion: shell completion, written from the command tables and the settings table.
#include "cli/command.h"

#include <stdio.h>
#include <string.h>

static int run(struct invocation *in);

const struct command command_completion = {
    .name = "completion",
    .group = "Mend",
    .arguments = "bash|zsh|fish",
    .summary = "Print a completion script for a shell",
    .details = "bash: source <(nebulus completion bash)   zsh: nebulus completion zsh > \"${fpath[1]}/_nebulus\"\n"
               "fish: nebulus completion fish > ~/.config/fish/completions/nebulus.fish",
    .min_words = 1,
    .max_words = 1,
    .completes = COMPLETES_WORDS,
    .words = "bash|zsh|fish",
    .settings = SETTINGS_UNUSED,
    .run = run,
};

// One option of a command, wherever it comes from.
struct flag {
    char name[64];
    char letter;
    bool takes_value;
    const char *choices, *help; // choices: "f16|q8_0", or NULL
};

typedef void (*flag_writer)(const struct command *c, const struct flag *f);

static void each_flag(const struct command *c, flag_writer write) {
    struct flag f;
    for (size_t i = 0; i < c->n_options; i++) {
        const struct option *o = &c->options[i];
        if (!o->help) continue;
        f = (struct flag){.letter = o->letter, .takes_value = o->type != OPTION_FLAG, .help = o->help};
        snprintf(f.name, sizeof f.name, "%s", o->name);
        write(c, &f);
    }
    for (size_t i = 0; i < settings_count; i++) {
        const struct setting *one = &settings_table[i];
        if (!settings_use_has(c->settings, one)) continue;
        f = (struct flag){.takes_value = true, .choices = one->choices, .help = one->help};
        setting_flag_name(one, f.name);
        write(c, &f);
    }
    f = (struct flag){.name = "help", .letter = 'h', .help = "show this"};
    write(c, &f);
}

// Prints text between single quotes of a shell; `plain_too` are further characters that a backslash must stand before.
static void print_quoted(const char *text, const char *plain_too) {
    putchar('\'');
    for (; *text; text++) {
        if (*text == '\'') {
            fputs("'\\''", stdout);
            continue;
        }
        if (*plain_too && strchr(plain_too, *text)) putchar('\\');
        putchar(*text);
    }
    putchar('\'');
}

static void print_words(const char *choices) {
    for (; *choices; choices++) putchar(*choices == '|' ? ' ' : *choices);
}

// ---- bash

static void bash_flag(const struct command *c, const struct flag *f) {
    (void)c;
    printf(" --%s", f->name);
}

static void bash_value(const struct command *c, const struct flag *f) {
    if (!f->takes_value) return;
    printf("            %s:--%s) ", c->name, f->name);
    if (f->choices) {
        printf("words=\"");
        print_words(f->choices);
        printf("\" ;;\n");
    } else
        printf("COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n");
}

static void bash_command(const struct command *c) {
    printf("        %s", c->name);
    if (c->alias) printf("|%s", c->alias);
    printf(") flags=\"");
    each_flag(c, bash_flag);
    printf("\"");
    if (c->completes == COMPLETES_MODELS) printf("; words=\"$(nebulus ls --quiet 2>/dev/null)\"; files=1");
    if (c->completes == COMPLETES_FILES) printf("; files=1");
    if (c->completes == COMPLETES_WORDS) {
        printf("; words=\"");
        print_words(c->words);
        printf("\"");
    }
    printf(" ;;\n");
}

static void print_bash(const struct command *const *commands, size_t n) {
    printf("# bash completion for nebulus\n_nebulus() {\n"
           "    local cur=\"${COMP_WORDS[COMP_CWORD]}\" prev=\"${COMP_WORDS[COMP_CWORD-1]}\" flags= words= files=\n"
           "    COMPREPLY=()\n    if ((COMP_CWORD == 1)); then\n        COMPREPLY=($(compgen -W \"");
    for (size_t i = 0; i < n; i++) printf("%s%s", i ? " " : "", commands[i]->name);
    printf("\" -- \"$cur\"))\n        return\n    fi\n    if [[ $prev == --* ]]; then\n"
           "        case \"${COMP_WORDS[1]}:$prev\" in\n");
    for (size_t i = 0; i < n; i++) each_flag(commands[i], bash_value);
    printf(
        "        esac\n        if [[ -n $words ]]; then\n            COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
        "            return\n        fi\n    fi\n    case \"${COMP_WORDS[1]}\" in\n");
    for (size_t i = 0; i < n; i++) bash_command(commands[i]);
    printf(
        "    esac\n    if [[ $cur == -* ]]; then\n        COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\"))\n    else\n"
        "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
        "        [[ -n $files ]] && COMPREPLY+=($(compgen -f -- \"$cur\"))\n    fi\n}\n"
        "complete -o filenames -F _nebulus nebulus\n");
}

// ---- zsh

static void zsh_spec(const char *dashes, const char *name, const struct flag *f) {
    printf(" \\\n            %s%s", dashes, name);
    printf("'[");
    for (const char *p = f->help; *p; p++) {
        if (strchr("[]:\\", *p)) putchar('\\');
        if (*p == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*p);
    }
    printf("]");
    if (f->choices) {
        printf(":value:(");
        print_words(f->choices);
        printf(")");
    } else if (f->takes_value)
        printf(":value:_files");
    printf("'");
}

static void zsh_flag(const struct command *c, const struct flag *f) {
    char letter[2] = {f->letter, 0};
    (void)c;
    zsh_spec("--", f->name, f);
    if (f->letter) zsh_spec("-", letter, f);
}

static void zsh_command(const struct command *c) {
    printf("        %s", c->name);
    if (c->alias) printf("|%s", c->alias);
    printf(") _arguments -s");
    each_flag(c, zsh_flag);
    if (c->completes == COMPLETES_MODELS) printf(" \\\n            '*:model:_nebulus_models'");
    if (c->completes == COMPLETES_FILES) printf(" \\\n            '*:file:_files'");
    if (c->completes == COMPLETES_WORDS) {
        printf(" \\\n            '1:what:(");
        print_words(c->words);
        printf(")'");
        if (c->max_words > 1) printf(" '*:file:_files'");
    }
    printf(" ;;\n");
}

static void print_zsh(const struct command *const *commands, size_t n) {
    printf(
        "#compdef nebulus\n_nebulus_models() {\n    local -a names\n    names=(${(f)\"$(nebulus ls --quiet "
        "2>/dev/null)\"})\n"
        "    _describe model names\n    _files -g '*.gguf'\n}\n_nebulus() {\n    local -a commands\n    commands=(\n");
    for (size_t i = 0; i < n; i++) {
        char entry[256];
        snprintf(entry, sizeof entry, "%s:%s", commands[i]->name, commands[i]->summary);
        printf("        ");
        print_quoted(entry, "");
        printf("\n");
    }
    printf("    )\n    if ((CURRENT == 2)); then\n        _describe command commands\n        return\n    fi\n"
           "    local command=$words[2]\n    shift words\n    ((CURRENT--))\n    case $command in\n");
    for (size_t i = 0; i < n; i++) zsh_command(commands[i]);
    printf("    esac\n}\nif [ \"$funcstack[1]\" = \"_nebulus\" ]; then\n    _nebulus \"$@\"\nelse\n    compdef "
           "_nebulus nebulus\nfi\n");
}

// ---- fish

static void fish_condition(const struct command *c) {
    printf("complete -c nebulus -n '__fish_seen_subcommand_from %s%s%s'", c->name, c->alias ? " " : "",
           c->alias ? c->alias : "");
}

static void fish_flag(const struct command *c, const struct flag *f) {
    fish_condition(c);
    printf(" -l %s", f->name);
    if (f->letter) printf(" -s %c", f->letter);
    if (f->choices) {
        printf(" -x -a '");
        print_words(f->choices);
        printf("'");
    } else if (f->takes_value)
        printf(" -r -F");
    printf(" -d ");
    print_quoted(f->help, "\\");
    printf("\n");
}

static void fish_command(const struct command *c) {
    printf("complete -c nebulus -n __fish_use_subcommand -a %s -d ", c->name);
    print_quoted(c->summary, "\\");
    printf("\n");
    each_flag(c, fish_flag);
    if (c->completes == COMPLETES_NOTHING) return;
    fish_condition(c);
    if (c->completes == COMPLETES_MODELS)
        printf(" -F -a '(nebulus ls --quiet 2>/dev/null)'\n");
    else if (c->completes == COMPLETES_FILES)
        printf(" -F\n");
    else {
        printf(" -a '");
        print_words(c->words);
        printf("'\n");
    }
}

static void print_fish(const struct command *const *commands, size_t n) {
    printf("# fish completion for nebulus\ncomplete -c nebulus -f\n");
    for (size_t i = 0; i < n; i++) fish_command(commands[i]);
}

static int run(struct invocation *in) {
    const char *shell = in->args.words[0];
    if (!strcmp(shell, "bash"))
        print_bash(in->commands, in->n_commands);
    else if (!strcmp(shell, "zsh"))
        print_zsh(in->commands, in->n_commands);
    else if (!strcmp(shell, "fish"))
        print_fish(in->commands, in->n_commands);
    else {
        struct err e;
        err_set(&e, ERR_INVALID, "no completion for '%.40s': bash, zsh and fish are known", shell);
        return cli_usage(in->command, &e);
    }
    return CLI_OK;
}

// nebulus doctor: what works here, what does not, and what to do about it.
#include "base/text.h"
#include "cli/command.h"
#include "cli/doctor_checks.h"
#include "cli/interrupt.h"
#include "cli/term.h"

#include <stdio.h>
#include <unistd.h>

static const char *const words[] = {"ok", "warn", "fail"};

static bool failed(const struct doctor_report *r) {
    bool any = false;
    for (size_t i = 0; i < r->n; i++) any |= r->check[i].state == CHECK_FAIL;
    return any;
}

static void print_check(const struct check *c) {
    static const enum style styles[] = {STYLE_GREEN, STYLE_YELLOW, STYLE_RED};
    char safe[ESCAPED_MAX];
    text_escape(safe, sizeof safe, c->detail);
    printf("%s%-4s%s  %-13s  %s\n", term_style(STDOUT_FILENO, styles[c->state]), words[c->state],
           term_style(STDOUT_FILENO, STYLE_END), c->name, safe);
    text_escape(safe, sizeof safe, c->advice);
    if (c->advice[0]) printf("%6s%-13s  -> %s\n", "", "", safe);
}

static int print_json(const struct doctor_report *r, struct err *e) {
    json_t *all = cli_object(), *list = json_array();
    int bad = !all || !list || json_object_set_new(all, "ok", json_boolean(!failed(r)));
    for (size_t i = 0; i < r->n && !bad; i++) {
        const struct check *c = &r->check[i];
        bad = json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "name", c->name, "state", words[c->state],
                                                    "detail", c->detail, "advice", c->advice));
    }
    if (!bad) bad = json_object_set(all, "checks", list);
    json_decref(list);
    if (!bad) return term_print_json(all, e);
    json_decref(all);
    return err_set(e, ERR_INTERNAL, "out of memory, or a path that is not valid UTF-8");
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    struct doctor_report r;
    doctor_examine(&r, in->build->jinja);
    if (interrupt_pending()) return CLI_INTERRUPTED;
    if (args_has(&in->args, "json")) {
        if (print_json(&r, &e)) return cli_fail(&e);
    } else
        for (size_t i = 0; i < r.n; i++) print_check(&r.check[i]);
    return failed(&r) ? CLI_FAILED : CLI_OK;
}

const struct command command_doctor = {
    .name = "doctor",
    .group = "Mend",
    .arguments = "",
    .summary = "Check this installation and say what to mend",
    .details = "Exits with 1 where a check fails.",
    .options = json_option,
    .n_options = COUNT_OF(json_option),
    .settings = SETTINGS_UNUSED,
    .run = run,
};

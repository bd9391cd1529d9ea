#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {"none",     "invalid",      "not_found",        "denied",           "limit",
                                    "busy",     "unreachable",  "cancelled",        "worker",           "io",
                                    "internal", "rate_limited", "budget_exhausted", "audit_unavailable"};

PRINTF_LIKE(4, 0)
static int fill(struct err *e, enum err_code code, const char *param, const char *fmt, va_list args) {
    if (!e) return -1;
    e->code = code;
    snprintf(e->param, sizeof e->param, "%s", param);
    vsnprintf(e->msg, sizeof e->msg, fmt, args);
    return -1;
}

int err_set(struct err *e, enum err_code code, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fill(e, code, "", fmt, args);
    va_end(args);
    return -1;
}

int err_param(struct err *e, const char *param, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fill(e, ERR_INVALID, param, fmt, args);
    va_end(args);
    return -1;
}

int err_errno(struct err *e, const char *fmt, ...) {
    int saved = errno;
    va_list args;
    va_start(args, fmt);
    fill(e, ERR_IO, "", fmt, args);
    va_end(args);
    if (e) {
        size_t n = strlen(e->msg);
        snprintf(e->msg + n, sizeof e->msg - n, ": %s", strerror(saved));
    }
    return -1;
}

const char *err_name(enum err_code code) {
    return (size_t)code < sizeof names / sizeof *names ? names[code] : "internal";
}

enum err_code err_code_of(const char *name) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return (enum err_code)i;
    return ERR_INTERNAL;
}

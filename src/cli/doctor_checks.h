// What `nebulus doctor` looks at. Each check adds one line or more to a report.
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

enum check_state { CHECK_OK, CHECK_WARN, CHECK_FAIL };

struct check {
    enum check_state state;
    const char *name; // static
    char detail[320];
    char advice[200]; // what to do; "" where there is nothing
};

enum { DOCTOR_CHECKS = 32 };

struct doctor_report {
    struct check check[DOCTOR_CHECKS];
    size_t n;
};

// Runs all checks, in order. Takes a second or so: it loads the backends in a process of their own.
// jinja: whether this program was built with it.
void doctor_examine(struct doctor_report *r, bool jinja);

// The audit logs of a home: one folder each, of which `key` is there from the beginning. Threads: any.
#pragma once

#include "base/paths.h"

enum { AUDIT_LOGS = 256 };
struct audit_logs {
    char *dir[AUDIT_LOGS]; // owned; oldest first
    size_t n;
};
int audit_logs_find(const struct paths *p, struct audit_logs *out, struct err *e) MUST_USE; // ERR_NOT_FOUND: none
void audit_logs_free(struct audit_logs *l);

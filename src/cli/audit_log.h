// What `nebulus audit` reads: the logs of a home, record by record.
#pragma once

#include "audit/entry.h"
#include "cli/command.h"

enum { AUDIT_LOGS = 256 };
struct audit_logs {
    char *dir[AUDIT_LOGS]; // owned; oldest first
    size_t n;
};
int audit_logs_find(const struct paths *p, struct audit_logs *out, struct err *e) MUST_USE; // ERR_NOT_FOUND: none
void audit_logs_free(struct audit_logs *l);

// Calls with each record of all logs, oldest first, until it returns non-zero; -1 with *e where a log is damaged. The
// record is borrowed.
typedef int audit_reader(void *arg, const json_t *record);
int audit_read_all(const struct paths *p, const char *containing, audit_reader *read, void *arg,
                   struct err *e) MUST_USE;

int audit_print_json(const json_t *o); // one line; an exit code

int audit_show(struct invocation *in);
int audit_tail(struct invocation *in);
int audit_report(struct invocation *in);

// What `nebulus audit` reads: the logs of a home, record by record.
#pragma once

#include "audit/entry.h"
#include "cli/command.h"
#include "trust/roster.h"

enum { AUDIT_NAMES = 1024 };

// Calls with each record of all logs, oldest first, until it returns non-zero; -1 with *e where a log is damaged. The
// record and the log's folder are borrowed.
typedef int audit_reader(void *arg, const json_t *record, const char *dir);
int audit_read_all(const struct paths *p, const char *containing, audit_reader *read, void *arg,
                   struct err *e) MUST_USE;
int audit_read_log(const char *dir, const char *containing, audit_reader *read, void *arg, struct err *e) MUST_USE;

const char *audit_text(const json_t *o, const char *name); // "" where there is none
// The node that has read the prompt ("prefill") or written most of the answer ("decode"), by a gateway's outcome; where
// that does not say, the one that was to. "" = none.
const char *audit_at(const json_t *outcome, const char *phase);
int64_t audit_number(const json_t *o, const char *group, const char *name);         // group may be NULL; 0 likewise
int audit_since(const struct invocation *in, int64_t *out, struct err *e) MUST_USE; // --since; ns since 1970

// What nodes are called, by the rosters beside the logs.
struct audit_names {
    struct {
        char id[IDENTITY_ID], name[ROSTER_NAME];
    } list[AUDIT_NAMES];
    size_t n;
};
void audit_names_read(const struct paths *p, struct audit_names *out);
const char *audit_name(const struct audit_names *names, const char *id, char out[ROSTER_NAME]); // or 8 digits of it
bool audit_is_node(const struct audit_names *names, const char *id, const char *wanted); // a name, or an id's begin

int audit_print_json(const json_t *o); // one line; an exit code

int audit_show(struct invocation *in);
int audit_tail(struct invocation *in);
int audit_report(struct invocation *in);
int audit_reconcile(struct invocation *in);
int audit_recover(struct invocation *in);
int audit_make_proof(struct invocation *in);
int audit_export(struct invocation *in);

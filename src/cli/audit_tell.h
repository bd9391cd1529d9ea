// What a record of the audit log says, in words. The texts may hold what strangers wrote: escape them before printing.
#pragma once

#include "cli/audit_log.h"

enum { AUDIT_TOLD = 512, AUDIT_WHEN = 32 };
void audit_tell(const struct audit_names *names, const json_t *record, char out[AUDIT_TOLD]);
void audit_tell_rules(const json_t *record, char out[AUDIT_TOLD]);  // of one with a decision
const char *audit_when(const json_t *record, char out[AUDIT_WHEN]); // local time

// The audit log as `status` and `nodes` show it: the daemon's member "audit".
#pragma once

#include "base/err.h"
#include <jansson.h>
#include <stdio.h>

// One line: how much there is, and how much of it no other node has cosigned; nothing where `audit` is no object.
int audit_view_write(const json_t *audit, FILE *out, struct err *e) MUST_USE;
// An alarm where another node's log is not what it was; NULL where nothing is wrong. Static.
const char *audit_view_finding(const json_t *peer_audit);

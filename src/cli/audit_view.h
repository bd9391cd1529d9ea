// The audit log as `status` and `nodes` show it: the daemon's member "audit".
#pragma once

#include "base/err.h"
#include <jansson.h>
#include <stdio.h>

// How much there is, how much of it no other node has cosigned, and how far mirrors of it reach; nothing where `audit`
// is no object.
int audit_view_write(const json_t *audit, FILE *out, struct err *e) MUST_USE;
// One line: how far this node's mirror of another one's log reaches; nothing where none of it is held.
int audit_view_mirror(const json_t *peer_audit, const char *name, FILE *out, struct err *e) MUST_USE;
// An alarm where another node's log is not what it was; NULL where nothing is wrong. Static.
const char *audit_view_finding(const json_t *peer_audit);

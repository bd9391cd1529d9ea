// The canonical JSON of a roster's fields, and back. For roster.c.
#pragma once

#include "trust/roster.h"

char *roster_write_body(const struct roster *r); // malloc'd; NULL: out of memory
// Fills the fields; r->policy is what came with it.
int roster_read_body(struct roster *r, const char *text, size_t n, struct err *e) MUST_USE;

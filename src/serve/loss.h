// Records of this node's own audit logs that are gone: a restored backup, a deleted file. What shows it is a checkpoint
// that its own key has signed and that another node holds. From then on nothing may be recorded, as the log would fork,
// until the right files are back or the owner gives those records up. Threads: the event-loop thread; a loss, and
// giving it up, wait for the disk.
#pragma once

#include "audit/log.h"
#include "base/paths.h"

struct loss {
    char dir[PATH_SIZE];    // in which the logs are
    struct err why;         // ERR_NONE: nothing is lost
    struct checkpoint head; // that is missing
    uint64_t has;           // how many of its records there are
    json_t *past;           // owned; {ORIGIN: records}, of those that were given up
};

// Reads what was given up and what was missing when the daemon was last here; `a`, the current log, may be NULL.
void loss_open(struct loss *l, const char *dir, struct audit *a);
void loss_close(struct loss *l);

// A checkpoint that this node's key has signed, of the current log `a` or of an earlier one; `who` holds it. Returns
// whether those records are there, or given up.
bool loss_look(struct loss *l, struct audit *a, const char *note, size_t n, const struct checkpoint *c,
               const char *who);
// That log was put back with so many records. Fails where they are not all that is missing of it.
int loss_mend(struct loss *l, const char *origin, uint64_t records, struct err *e) MUST_USE;
int loss_give_up(struct loss *l, struct err *e) MUST_USE;

// One audit log on the event loop: finds its folder, or makes one, and holds it for this process alone. Threads: the
// event-loop thread.
#pragma once

#include "audit/log.h"
#include "base/paths.h"
#include "trust/roster.h"
#include <event2/event.h>

struct ledger {
    struct audit *audit;
    struct note_key key;
    struct event *event;
    int lock;
    size_t unanswered; // intents without an outcome
    size_t records;    // of requests that may still add to it
    struct ledger *next;
    bool given_up; // records of it are lost: nothing is added any more
    char dir[PATH_SIZE];
};

// The latest log of CLUSTER/NODE below `dir`, else a new one: also where another process writes the latest one, and
// where `fresh`. Fails where the latest one is damaged.
struct ledger *ledger_open(struct event_base *base, const char *dir, const char *cluster, const struct identity *i,
                           bool fresh, struct audit_found *found, struct err *e) MUST_USE;
// The name, CLUSTER/NODE/INCARNATION, of the latest log below `dir`. false: there is none.
bool ledger_latest(const char *dir, const char *cluster, const char *node, char origin[NOTE_NAME]);
bool ledger_is_incarnation(const char *name); // whether a log's folder may be called so
void ledger_close(struct ledger *l);          // makes durable what waits, and calls back; NULL is fine
bool ledger_is_of(const struct ledger *l, const char *cluster, const char *node);
void ledger_keep_roster(const struct ledger *l, const struct roster *r); // beside the log, for whoever verifies it

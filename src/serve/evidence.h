// What this node's audit log (audit/log.h) is told of its work. A job's flow:
//     evidence_begin -> begun -> the work, evidence_rows for rows that come and go -> evidence_end
// Nothing is computed before `begun`: the intent is durable then. Each intent gets one outcome. Where the log cannot be
// written, or takes longer than EVIDENCE_WAIT_MS, begun gets ERR_AUDIT, which clients see as 503 audit_unavailable.
// Threads: the event-loop thread only, which never waits for a disk here but when a node joins or leaves a cluster.
#pragma once

#include "audit/log.h"
#include "base/id.h"
#include "base/paths.h"
#include "serve/call.h"
#include "trust/agents.h"
#include "trust/identity.h"
#include "trust/policy.h"

enum { EVIDENCE_WAIT_MS = 10000, EVIDENCE_RECEIPTS = 256 };

struct evidence;
struct record; // an intent and what belongs to it; counted references

// Opens the log of this node, or begins one. A log that cannot be opened is no failure: everything is refused then,
// with its reason.
struct evidence *evidence_new(struct serve *s, const struct paths *p, struct err *e) MUST_USE;
void evidence_free(struct evidence *v);       // makes durable what waits; NULL is fine
void evidence_changed(const struct serve *s); // roster or policy may be others now: that is recorded
void evidence_of_agent(const struct serve *s, const char *change,
                       const struct agent *g);               // "made", "rotated", "revoked"
bool evidence_trouble(const struct serve *s, struct err *e); // why nothing can be recorded

// ---- for witnesses
struct audit *evidence_log(const struct serve *s); // the current log; NULL: none
const struct identity *evidence_identity(const struct serve *s);
// A checkpoint that this node's key has signed and that `who` holds: whether the log still has it. Where it has not,
// nothing is recorded from now on (serve/loss.h).
bool evidence_has(const struct serve *s, const char *note, size_t n, const struct checkpoint *c, const char *who);
void evidence_of_peer(const struct serve *s, json_t *finding); // about another node's log; taken over
// POST /nebulus/v1/audit/recover: goes on, on record, without what is lost; with {"from":NODE} it is fetched from there
// (serve/witness.h).
void evidence_recover(const struct call *c);
// The log that is damaged or has lost records. ERR_INVALID: none is known to.
int evidence_lost(const struct serve *s, char origin[NOTE_NAME], struct err *e) MUST_USE;
bool evidence_at_rest(const struct serve *s); // nothing of it is being written any more
struct evidence_restored {
    const char *origin, *from; // the log; the node whose mirror it comes from
    uint64_t records;
    bool whole; // it goes on where it ended: nothing is known to be missing
};
// Goes on, on record, with a log that was put back; in a new one where the last records of the old one may be missing,
// so that it is not forked. Fails where it still lacks records that others have signed.
int evidence_restored(const struct serve *s, const struct evidence_restored *r, struct err *e) MUST_USE;

struct evidence_intent {
    const char *req_id, *agent; // agent: its name
    const struct caller *who;   // of a gateway's: NULL elsewhere
    const char *part;           // "gateway" or "place"
    const char *gateway;        // of a place: who has ordered it
    const char *ticket;         // of a place: by which it has
    const char *model;          // as asked for
    const void *body;           // of the request, for its MAC; NULL: none
    size_t body_len;
};
// Called once, unless the record ends before. Not from inside evidence_begin.
typedef void evidence_begun(void *arg, const struct err *why);
struct record *evidence_begin(struct serve *s, const struct evidence_intent *i, evidence_begun *begun, void *arg,
                              struct err *e) MUST_USE;

struct record *evidence_hold(struct record *r);      // r, with one more reference; NULL is fine
void evidence_release(struct record *r);             // NULL is fine
const char *evidence_req_id(const struct record *r); // "" of NULL
// A node's id also where it is "", this node without a cluster.
const char *evidence_node(const struct serve *s, const char *id);

struct evidence_rows {
    const char *node; // the other one
    uint64_t bytes;   // on the wire
    int32_t upto;     // rows
    const char *wire; // "" = not known
};
void evidence_rows(struct record *r, enum entry_type type, const struct evidence_rows *rows); // NULL is fine
// Beside the intent's own: `facts` is taken over, and may be NULL.
void evidence_note(struct record *r, enum entry_type type, json_t *facts);
// What was refused before it came to an intent. facts is taken over.
void evidence_deny(const struct serve *s, json_t *facts);
// The outcome, which also gives up this reference. `finish`: see docs/audit-format.md. NULL is fine.
void evidence_end(struct record *r, const char *finish, const struct err *why, json_t *facts);

// What the policy has said: {decision, rules, policy_digest, epoch}. A new reference; NULL when out of memory.
json_t *evidence_decision(const struct serve *s, const struct policy_decision *d);

void evidence_receipt(const struct call *c); // GET /nebulus/v1/receipts/REQ_ID: its agent's and the owner's

// A ticket: a gateway's signed word that an agent's job is to be computed, what of, at which nodes, and by which
// policy. A node that is ordered to compute, or to take KV rows, asks for one, and for its own policy's consent.
// Document
// {"body": TEXT, "sig": HEX}; TEXT is canonical JSON (members sorted, no blanks)
//     {v, nonce, parent, cluster, epoch, policy, gateway, req_id, lineage[{id, groups[], labels[] or null}],
//      labels[], model, weights, prefill{node, session}, decode{node, session}, writes_on, tokens, issued, expires}
// and nothing else: what is accepted has one way to be written.
//
// The key is the gateway's audit key, the one Ed25519 key of a node that the roster holds (of the TLS key it has only a
// hash). It signs "nebulus-ticket-v1", a NUL and TEXT; checkpoints, which it signs, too, begin with their log's name
// and hold no NUL, so that neither can pass for the other.
//
// The clock. Times are the gateway's. A node judges them by its own clock, with TICKET_SKEW_MS of grace either way:
// machines that were asleep are off by seconds, rarely by minutes. One that is further off, or whose clock was never
// set, takes no tickets, and the job goes elsewhere. No replay depends on it: a ticket names the sessions (the present
// run of each node's daemon, drawn at its start) that it is for, and within one its nonce counts once (trust/replay.h).
//
// Pure functions. Threads: any.
#pragma once

#include "base/id.h"
#include "base/limits.h"
#include "trust/roster.h"

enum {
    TICKET_BYTES = 24 << 10, // TEXT
    TICKET_ID = 33,          // a nonce or session, 128 bits in hexadecimal; the nonce names the ticket, too
    TICKET_NAMES = 32,       // groups or labels in one list
    TICKET_LIFE_MS = 60000,
    TICKET_SKEW_MS = 300000,
};

struct ticket_end {
    char node[IDENTITY_ID], session[TICKET_ID];
};

struct ticket {
    char nonce[TICKET_ID], parent[TICKET_ID]; // parent: the job's ticket before this one; "" = it is the first
    char cluster[ROSTER_NAME], gateway[IDENTITY_ID], req_id[ID_SIZE];
    int64_t epoch; // of the gateway's roster
    uint8_t policy[DIGEST_BYTES];
    char model[LIMIT_MODEL_NAME + 1],
        weights[2 * DIGEST_BYTES + 1]; // weights: the digest; "" = the gateway does not know
    // The node that reads the prompt, and the one that writes the answer from its rows; the same one: it does both.
    // Rows travel between these two only.
    struct ticket_end prefill, decode;
    bool writes_on;          // the one that reads may write, too, until the other one does, or where that one is lost
    int64_t tokens;          // that the answer may have; -1 = as many as fit
    int64_t issued, expires; // milliseconds since 1970
    // Who asks, an agent at least: lineage and labels; its model and gateway are those above, the time is left to
    // whoever asks a policy.
    const struct policy_subject *who;
    // set by ticket_read
    struct policy_subject *owned; // the same
    uint8_t digest[DIGEST_BYTES]; // of the body
};

// Signs what it says; nonce and times are set first. A new reference. ERR_LIMIT: it does not fit.
json_t *ticket_sign(struct ticket *t, EVP_PKEY *key, int64_t now_ms, struct err *e) MUST_USE;

// Why a ticket is refused.
enum ticket_fault {
    TICKET_FINE,
    TICKET_MISSING,
    TICKET_MALFORMED,
    TICKET_ISSUER,    // not the gateway that sent it, or no member
    TICKET_SIGNATURE, // not its key's
    TICKET_CLUSTER,   // another one's
    TICKET_EPOCH,     // of an older roster than this node's: it will be newer soon
    TICKET_POLICY,    // of the same epoch, but another policy
    TICKET_NODE,      // for other nodes, or another phase or way of the rows than is ordered
    TICKET_SESSION,   // of an earlier run of this node
    TICKET_CLOCK,     // this node's clock was never set
    TICKET_EARLY,     // issued in the future
    TICKET_EXPIRED,
    TICKET_REPLAYED, // its nonce was used
    TICKET_FULL,     // too many nonces are remembered
    TICKET_MODEL,    // of another model or other weights
    TICKET_TOKENS,   // more are ordered
    TICKET_REQUEST,  // of another request than the place
    TICKET_FAULTS,
};
const char *ticket_fault_name(enum ticket_fault f);  // "ticket_replayed"; static
enum ticket_fault ticket_fault_of(const char *name); // TICKET_FINE: it is none of a fault's
// One line for people, param = the name. ERR_DENIED, but ERR_UNREACHABLE where another try may help soon, and ERR_BUSY.
int ticket_refuse(enum ticket_fault f, struct err *e);

// Reads what the node `gateway` has sent, if the roster has that node's key, and the key has signed it. NULL: *why.
struct ticket *ticket_read(const json_t *document, const struct roster *r, const char *gateway,
                           enum ticket_fault *why) MUST_USE;
void ticket_free(struct ticket *t); // of ticket_read; NULL is fine

// Whether it is for this node and this moment; replays are for trust/replay.h.
struct ticket_view {
    const struct roster *roster;
    const uint8_t *policy;      // DIGEST_BYTES, of the one in force here
    const char *node, *session; // this one's
    int64_t now_ms;             // 0: the clock was never set
};
enum ticket_fault ticket_check(const struct ticket *t, const struct ticket_view *v);

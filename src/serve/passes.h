// The tickets of one job, as its gateway hands them to the places on other nodes: one for both of them, and another one
// for whatever comes later (a place that is opened again or elsewhere, a part that the first did not name). Threads:
// the event-loop thread.
#pragma once

#include "serve/serve.h"
#include "trust/ticket.h"

struct pass { // what a place may do
    char prefill[NODE_ID], decode[NODE_ID];
    bool writes_on;
};

enum { PASSES_SHOWN = 16 }; // of a job's tickets, so many are in its record

struct passes {
    const struct serve *s;
    const struct policy_subject *who; // borrowed, with these
    const char *req_id, *model;
    // the latest one
    json_t *document; // owned
    struct pass pass;
    char id[TICKET_ID], weights[2 * DIGEST_BYTES + 1];
    uint64_t issued_ns;
    unsigned given; // bits of places
    json_t *ids;    // of all, at most PASSES_SHOWN; owned
};

void passes_init(struct passes *p, const struct serve *s, const struct policy_subject *who, const char *model);
void passes_free(struct passes *p); // fine for a zeroed one

// A ticket for the place number `place`. weights: the model's digest, "" = not known; tokens: see struct ticket. It is
// borrowed until the next call. NULL: failed.
json_t *passes_give(struct passes *p, int place, const struct pass *pass, const char *weights, int64_t tokens,
                    struct err *e) MUST_USE;

// Whether a place at `node` may do it.
bool pass_reads(const struct pass *p, const char *node);
bool pass_writes(const struct pass *p, const char *node);
bool pass_streams(const struct pass *p, const char *from, const char *to);

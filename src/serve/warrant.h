// What another node's ticket lets it have done here: by what the ticket says, and by this node's own policy, asked
// anew each time. What a place does, and its ticket must say:
//     read the prompt               this node is `prefill`
//     write                         it is `decode`; or `prefill`, and writes_on
//     take rows, send rows          the other node of the two
// Fails with a fault of the ticket (ticket_refuse), or as authority_check does. Threads: the event-loop thread.
#pragma once

#include "serve/place.h"
#include "trust/ticket.h"

// *rows: whether those of spec->from may come. Where it reads the prompt, it can do without them.
int warrant_open(const struct serve *s, const struct ticket *t, const struct place_spec *spec, bool *rows,
                 struct err *e) MUST_USE;
struct warrant_start {
    bool reads;        // rows of the prompt are missing that are not waited for
    int32_t generated; // tokens that it is told
};
int warrant_start(const struct serve *s, const struct ticket *t, const struct warrant_start *what,
                  struct err *e) MUST_USE;
int warrant_stream(const struct serve *s, const struct ticket *t, const char *to, struct err *e) MUST_USE;
// The model that has opened is the ticket's.
int warrant_model(const struct ticket *t, const char *weights, struct err *e) MUST_USE;
// Another ticket for the same place: it must be of the same request.
int warrant_renew(const struct ticket *had, const struct ticket *t, struct err *e) MUST_USE;

// It gives the first token and no other.
bool warrant_reads_only(const struct serve *s, const struct ticket *t);
// All that this node's policy says of the ticket's part here, for the audit log. A new reference.
json_t *warrant_decision(const struct serve *s, const struct ticket *t);

// The tickets (trust/ticket.h) that this node signs as a gateway, and takes from others. Threads: the event-loop
// thread.
#pragma once

#include "serve/serve.h"
#include "trust/ticket.h"

struct tickets;
struct tickets *tickets_new(struct err *e) MUST_USE;
void tickets_free(struct tickets *t); // NULL is fine

// This run of the daemon, as other nodes hear of it when a link comes up; "" of NULL.
const char *tickets_session(const struct tickets *t);

struct ticket_wish {
    const struct policy_subject *who;
    const char *req_id, *model, *weights;
    const char *parent;           // of the ticket before; "" = none
    const char *prefill, *decode; // ids
    bool writes_on;
    int64_t tokens;
};
// Signs one. A new reference; `id` becomes its nonce.
json_t *tickets_issue(const struct serve *s, const struct ticket_wish *w, char id[TICKET_ID], struct err *e) MUST_USE;

// Reads what another node has sent, judges it by this one's roster, policy and clock, and uses it: the same one is
// refused from then on. NULL where it is not known whose word it is; else free it. *why says whether it may be obeyed.
struct ticket *tickets_use(const struct serve *s, const char *gateway, const json_t *document, enum ticket_fault *why);

// Nodes witness each other's audit logs. A node sends the head of its own log to the others, with the proof that it
// only grew since the one that they have cosigned; each keeps that head durably, then answers with its cosignature,
// which the owner keeps beside the log (docs/audit-format.md). So records that two nodes have cannot be taken back by
// one.
//     {"t":"audit.held","logs":[NOTE..]}             what I hold of your logs: once a link is up, and where it matters
//     {"t":"audit.head","note":NOTE,"growth":{..}}   my log's head, from what you hold on
//     {"t":"audit.cosigned","note":NOTE}             the same, with my cosignature
// At most one head per second goes to each node, and a few hundred bytes with it. Threads: the event-loop thread; a
// thread of its own writes the files.
#pragma once

#include "base/paths.h"
#include "serve/call.h"

enum { WITNESS_EVERY_MS = 1000, WITNESS_PATIENCE_MS = 10000 };

struct witness;
struct witness *witness_new(struct serve *s, const struct paths *p, struct err *e) MUST_USE; // after evidence, cluster
void witness_free(struct witness *w); // before both; NULL is fine

// ---- what the cluster tells. w may be NULL.
void witness_up(struct witness *w, const struct peer *p);
bool witness_heard(struct witness *w, const struct peer *p, const char *type, const json_t *msg); // false: not for it

// This node's log: {log, records, witnessed, tail, tail_age_s, witnesses, trouble}; `tail` are the records that no
// other node has cosigned. A new reference.
json_t *witness_json(const struct witness *w);
// What is between this node and another one: {cosigned, age_s} of this node's log by it, {held, finding} of its logs.
json_t *witness_peer_json(const struct witness *w, const char *node);

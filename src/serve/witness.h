// Nodes witness each other's audit logs. A node sends the head of its own log to the others, with the proof that it
// only grew since the one that they have cosigned; each keeps that head durably, then answers with its cosignature,
// which the owner keeps beside the log (docs/audit-format.md). So records that two nodes have cannot be taken back by
// one.
//     {"t":"audit.held","logs":[NOTE..]}             what I hold of your logs: once a link is up, and where it matters
//     {"t":"audit.head","note":NOTE,"growth":{..}}   my log's head, from what you hold on
//     {"t":"audit.cosigned","note":NOTE}             the same, with my cosignature
// At most one head per second goes to each node, and a few hundred bytes with it. What it has cosigned a witness
// mirrors, too, as far as the setting audit_mirrors has room (audit/piece.h, serve/fetch.h), and gives it back to that
// log's node.
//     {"t":"audit.mirrored","log":ORIGIN,"size":N}   I have the first N records of your log
// Threads: the event-loop thread; threads of its own read and write the files.
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

// Puts this node's log back that is damaged or lost, from what that node mirrors; goes on after this call, and
// witness_json tells how it ends. Fails where nothing is lost (ERR_INVALID), or that node is not there.
int witness_restore(struct witness *w, const char *node, struct err *e) MUST_USE;

// This node's log: {log, records, witnessed, tail, tail_age_s, witnesses, trouble}; `tail` are the records that no
// other node has cosigned; {mirrored, mirrors}: how many records of it the best mirror has, and how many nodes have
// one; {mirror_bytes, mirrors_full} of the others' logs here; {restore}. A new reference.
json_t *witness_json(const struct witness *w);
// What is between this node and another one: {cosigned, age_s} of this node's log by it, {held, mirrored, mirror_bytes,
// mirror_full, finding} of its logs by this one.
json_t *witness_peer_json(const struct witness *w, const char *node);

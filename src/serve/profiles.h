// What models cost on this node and on the others: measured here, told by them. Each model of this node has a profile
// (plan/cost.h), a guess from its shape at first; finished jobs correct it. Threads: the event-loop thread only.
#pragma once

#include "engine/request.h"
#include "plan/cost.h"
#include "serve/serve.h"

struct profiles;

struct profiled {
    struct profile profile; // one that profile_check takes
    double queued_tokens;   // prompt tokens that wait there or are being read
    double context_tokens;  // KV rows of the sequences that generate there
    double free_cells;      // KV cells that a request may take; those of ended conversations are free
    double age_s;           // since it was measured, or last corrected by a job
    double error;           // median relative error of its last predictions; 1 = a guess, nothing was measured
    bool emulated;          // it is paced to a device of the catalogue
};

struct profiles *profiles_new(struct serve *s, struct err *e) MUST_USE;
void profiles_free(struct profiles *p); // NULL is fine

// What is known of a model at a node: `node_id` is a member's id, or this node's own ("" where it is no member). False
// where the model is not ready there, or that node has told nothing (or nothing sound) about it. O(models), no I/O.
bool profiles_known(const struct serve *s, const char *node_id, const char *model, struct profiled *out) MUST_USE;

// A request of this node's model has ended that was alone at it from its beginning, and computed all of it itself.
void profiles_job(struct profiles *p, const struct model *m, const struct gen_result *r);

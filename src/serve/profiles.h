// What models cost on this node and on the others: measured here, told by them. Each model of this node has a profile
// (plan/cost.h): a guess from its shape at first, then measured by requests of random tokens while nothing else is to
// do (setting `profile`; about PROFILES_SECONDS of computing), and corrected by finished jobs. Profiles are kept in
// files per model, machine and settings that matter. Threads: the event-loop thread only.
#pragma once

#include "base/paths.h"
#include "engine/kept.h"
#include "engine/kv.h"
#include "engine/request.h"
#include "plan/fit.h"
#include "serve/call.h"

#define PROFILES_SECONDS 2.0 // of computing, for measuring a model once
#define PROFILES_ROWS    512

struct profiles;

struct profiled {
    struct profile profile; // one that profile_check takes
    double queued_tokens;   // prompt tokens that wait there or are being read
    double queued_prompts;  // how many prompts these are
    double context_tokens;  // KV rows of the sequences that generate there
    double free_cells;      // KV cells that a request may take; those of ended conversations are free
    double age_s;           // since it was measured, or last corrected by a job
    double error;           // median relative error of its last predictions; 1 = a guess, nothing was measured
    bool emulated;          // it is paced to a device of the catalogue
    double export_bytes_s;  // rows out of the KV cache, and
    double import_bytes_s;  // into it; 0 = not known
    struct kv_shape rows;   // of its KV cache; layers = 0: they do not stream, or it has not told
    int32_t chunk;          // tokens of a pass; 0 = not known
    char wire[8];           // what its settings say that its rows travel as (kv_wire); "" = it has not told
    bool seen;              // it rests on at least one measurement
};

// Of s it uses models, sites, cluster and settings, from the first event on; models_listen is its own.
struct profiles *profiles_new(struct serve *s, const struct paths *p, struct err *e) MUST_USE;
void profiles_free(struct profiles *p); // after the models, whose ends it hears of; keeps what is new. NULL is fine

// What is known of a model at a node: `node_id` is a member's id, or this node's own ("" where it is no member). False
// where the model is not ready there, or that node has told nothing (or nothing sound) about it. O(models); the first
// time that a model is asked for reads its file.
bool profiles_known(const struct serve *s, const char *node_id, const char *model, struct profiled *out) MUST_USE;

// What that node keeps of earlier requests to the model; false: it has told nothing, or nothing sound.
bool profiles_kept(const struct serve *s, const char *node_id, const char *model, struct kept_marks *out);

// p may be NULL in both. A request comes: measuring stops at once, to go on later.
void profiles_yield(struct profiles *p);
// What a request took that had this node's model to itself, or what it took of one phase.
void profiles_job(struct profiles *p, const struct model *m, const struct fit_sample *seen);

// Rows per second that a prompt of PROFILES_ROWS tokens makes there; 0 = nothing was measured yet, not even once.
double profiles_rows_s(const struct serve *s, const char *node_id, const char *model);
double profiled_rows_s(const struct profiled *known); // by what is known of it

// ---- what nodes tell each other (serve/gossip.c), a member of a model's description: new references
json_t *profiles_tell(const struct serve *s, const struct model *m); // null where nothing is known
// What another node has told, or null; null and *e filled where it is absurd.
json_t *profiles_clean(const json_t *said, struct err *e) MUST_USE;

// ---- API
void profiles_show(const struct call *c);  // GET /nebulus/v1/profile
void profiles_start(const struct call *c); // POST /nebulus/v1/profile {"model":NAME}: measures again; "" = all

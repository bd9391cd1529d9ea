// The parts of the compute thread: compute.c (turns and steps), admit.c (sequences get their places), members.c (they
// speak and go), moves.c (sequences that are held, paused, and whose rows travel).
#pragma once

#include "engine/worker/compute.h"
#include "engine/worker/emulate.h"
#include "engine/worker/import.h"

struct compute {
    struct model *model;
    struct queue *queue;
    struct activity *activity;
    struct channel *channel;
    struct blocks *blocks;
    llama_memory_t memory;
    uint64_t step_ns, reported;
    int32_t capacity;                       // tokens of a step
    int32_t slots[LIMIT_PARALLEL], n_slots; // free sequence ids of libllama
    struct llama_batch batch;
    struct candidates candidates;
    struct pace pace;
    bool apart;            // sequences that generate and prompts are computed in two passes, see passes_apart
    bool barred;           // nothing is admitted until a sequence has ended: the cache was fuller than its cells say
    bool keeps;            // sequences that end are kept
    bool kept_changed;     // since it was told
    int64_t keep_most;     // cells
    bool emulates, warned; // passes take as long as those of another machine; that they cannot has been said
    struct emulate emulate;
    bool lost;  // something that the daemon waits for could not be said
    bool again; // there is more to do at once: a place or rows to take
    struct worker_stats stats;
    struct exporter exporter;
    struct importer importer;
    // the step
    struct share shares[LIMIT_PARALLEL]; // those that generate come first
    struct sequence *members[LIMIT_PARALLEL];
    int32_t n_shares, first, end; // the pass now computed holds shares [first, end)
    struct buf piece, text;       // of one token
    json_t *texts;                // what the step's "tokens" message will hold, or NULL
    struct buf ends;              // frames that follow it
    struct buf out;               // all of them
};

int32_t compute_lanes(const struct queue *q, const struct lane **lanes); // room for LIMIT_PARALLEL

// ---- admit.c
void compute_admit(struct compute *c);
// What is kept is changed between these two only: the control thread looks at it, too.
struct keeper *kept_begin(struct compute *c);
void kept_end(struct compute *c);
bool kept_evict(struct compute *c);     // the one used longest ago; false: there is none
void kept_make_room(struct compute *c); // evicts until what runs fits into the cache beside what is kept
void kept_forget(struct compute *c);    // evicts all

// ---- members.c. Those marked (ends) may have ended the sequence: it must not be touched any more.
void member_tell(struct compute *c, json_t *msg); // takes msg over; sent after the step's text
void member_flush(struct compute *c);             // sends what was told
void member_finish(struct compute *c, struct sequence *s, enum finish how, int stop);         // (ends)
void member_fail(struct compute *c, struct sequence *s, enum err_code code, const char *why); // (ends)
void member_preempt(struct compute *c, int32_t i);                                            // running[i] (ends)
void member_take_token(struct compute *c, struct sequence *s, llama_token token);             // (ends)
// A token that another worker has generated: it counts, and its text is not told. False: it has ended the sequence.
bool member_replay_token(struct compute *c, struct sequence *s, llama_token token);

// ---- moves.c
void moves_obey(struct compute *c);  // does what was ordered since the last turn
void moves_begin(struct compute *c); // before libllama computes the pass, whose batch is filled
void moves_end(struct compute *c);   // after it
void moves_take(struct compute *c);  // between steps: lets rows leave, and tells of pauses

// Where the two threads of a worker meet: the sequences that wait, those that run, and what the compute thread is asked
// to do. The control thread adds and cancels; the compute thread admits, preempts and ends. A sequence that runs is the
// compute thread's; the control thread touches nothing of it but `cancelled`.
#pragma once

#include "engine/worker/keep.h"
#include "engine/worker/sequence.h"
#include <pthread.h>

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct sequence *waiting; // in the order of lane_before
    int32_t n_waiting, n_running;
    struct sequence *running[LIMIT_PARALLEL]; // written by the compute thread only, under the lock; it may read without
    struct keeper kept;                       // of those that have ended; likewise
    uint64_t serial;
    double prompt_ns; // the compute thread's latest measure of a prompt token
    struct wishes {
        bool report, forget; // statistics; to keep nothing that has ended
    } wishes;
    bool news; // something has changed that the compute thread has not looked at
    atomic_bool closing;
};

void queue_init(struct queue *q);
void queue_close(struct queue *q); // frees what is left in it

// ---- control thread
int32_t queue_length(struct queue *q); // waiting and running, without those that are cancelled
void queue_add(struct queue *q, struct sequence *s);
// NULL where it runs (it is marked) or is unknown; otherwise the sequence, which waited and is the caller's now.
struct sequence *queue_cancel(struct queue *q, uint64_t id);
// Takes over an order for a sequence, which is told when it runs; of an unknown one it is dropped. Where there are more
// than LIMIT_KV_ORDERS, or memory is short, the sequence is marked.
void queue_order(struct queue *q, uint64_t id, struct order *o);
void queue_wake(struct queue *q); // blocks have come back
// How many of its prompt's first tokens are kept.
int32_t queue_kept(struct queue *q, const struct sequence *s);
void queue_ask_report(struct queue *q);
void queue_ask_forget(struct queue *q);
void queue_stop(struct queue *q); // the daemon is gone

// ---- compute thread
// Blocks until there is something to do: at once where `busy`, else when something has changed. False: stop. *asked:
// what was asked for since.
bool queue_wait(struct queue *q, bool busy, struct wishes *asked);
// The orders for running[i], to be freed with their array. *lost: there were more.
int32_t queue_take_orders(struct queue *q, int32_t i, struct order **out, bool *lost);
// Moves the first of those that wait to the end of those that run where `fits` agrees. NULL where none is moved.
struct sequence *queue_admit(struct queue *q, bool (*fits)(const struct sequence *s, void *arg), void *arg);
// running[i] waits again, at the head; the last one takes its place. False, and nothing happens, where it was
// cancelled.
bool queue_preempt(struct queue *q, int32_t i);
struct sequence *queue_remove(struct queue *q, int32_t i); // running[i] is the caller's; the last one takes its place
void queue_set_pace(struct queue *q, double prompt_ns);

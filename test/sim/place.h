// A fake node with the fake model: sequences, steps, rows that leave and arrive, as engine/client.h describes them. The
// rows that arrive are put together by the real cluster/assembly.
#pragma once

#include "cluster/assembly.h"
#include "model.h"
#include "world.h"

enum { PLACES = 4, JOBS = 8, DATA_LINKS = 2, SEQUENCES = 24, STREAM_SLOTS = 3, NOBODY = -1 };

// ---------------------------------------------------------------- messages
enum order_kind { ORDER_OPEN, ORDER_START, ORDER_PAUSE, ORDER_EXPORT, ORDER_DROP };
struct order {
    enum order_kind kind;
    uint64_t sequence; // never used again for another
    uint64_t seed;
    int job, source, to; // places, NOBODY = none
    uint64_t stream;     // the sequence that the rows are for
    int32_t most, from, first, n;
    int32_t tokens[MODEL_MOST];
};

enum news_kind { NEWS_OPENED, NEWS_TEXT, NEWS_INSTALLED, NEWS_PAUSED, NEWS_ENDED, NEWS_FAILED, NEWS_CUT };
struct news {
    enum news_kind kind;
    int place;
    uint64_t sequence; // of a cut: the one that rows are for
    int32_t n, cached, credits, count, token, upto, past;
    struct written text;
    enum finish how;
    struct err why;
    int32_t tokens[MODEL_PROMPT];
};

// ---------------------------------------------------------------- a node
enum seq_state { SEQ_NONE, SEQ_QUEUED, SEQ_HELD, SEQ_WAITING, SEQ_RUNNING, SEQ_PAUSED };

struct seq {
    enum seq_state state;
    struct order open;
    uint64_t link; // of the gateway's connection: it is dropped with it
    bool stepping, pausing;
    int32_t n_prompt, len, past, from; // tokens; rows
    int32_t cached;                    // rows that were there when it was opened
    int32_t tokens[MODEL_MOST];
    uint64_t rows[MODEL_MOST];
    struct writer writer;
    // rows that leave
    int to; // NOBODY = none do
    uint64_t stream;
    int32_t next, credits;
    int32_t own;     // rows from here on came from elsewhere, and do not leave again
    bool state_sent; // of a model whose state travels whole
    // rows that arrive
    struct assembly *in;
    uint8_t *slots;
};

struct cluster;
struct place {
    struct cluster *of;
    int index;
    bool up, loaded; // the node; its worker
    uint64_t frozen; // it does nothing before this time
    uint64_t life;   // workers before this one
    bool stepping, telling_last;
    bool small;                             // every request is too long for it
    int parallel, queue, slots, slots_used; // most of each
    uint64_t prompt_us, token_us, step_us;
    uint64_t install_us; // rows that have arrived wait for so long at most: for the end of a step
    struct seq seqs[SEQUENCES];
    uint64_t well_since; // its latest fault is over
};

struct cluster {
    struct world w;
    int n;
    struct place places[PLACES];
    struct wire orders[PLACES], news[PLACES];     // between the gateway, which is on place 0, and each place
    struct wire data[PLACES][PLACES][DATA_LINKS]; // from the one to the other
    struct wire peers[PLACES][PLACES];            // control: credits
    bool linked[PLACES];                          // what the gateway believes
    struct kv_shape shape;
    int preempts, caches; // percent: steps that preempt, opens that find something in the cache
    void (*heard)(void *arg, const struct news *n);
    void (*lost)(void *arg, int place); // the connection to it broke
    void *arg;
    int rows_of[JOBS];         // rows computed for each job
    int sent_to[JOBS][PLACES]; // rows of it sent to a place
    int holes;                 // wires that swallow everything
};

void place_order(void *place, void *order);             // event_fn
void place_tell(struct place *p, const struct news *n); // to the gateway
struct seq *place_find(struct place *p, uint64_t sequence);
void place_wake(struct place *p);
void place_run(struct place *p, struct seq *s);     // computes from now on
void place_admit(struct place *p);                  // from its queue
void place_release(struct place *p, struct seq *s); // and all that it holds
void place_check_pause(struct place *p, struct seq *s);

// ---------------------------------------------------------------- streams (stream.c)
int stream_expect(struct place *p, struct seq *s, struct err *e); // rows will arrive
void stream_refuse(struct place *p, struct seq *s);               // no more
void stream_pump(struct place *p, struct seq *s);                 // sends what may be sent
int32_t stream_rows(const struct seq *s);                         // those before this one may be sent
void stream_break(struct cluster *c, int from, int to);           // the data connections broke

// ---------------------------------------------------------------- faults (faults.c)
void fault_cold(struct cluster *c, int place, uint64_t us); // its model is loaded only then
void fault_crash(struct cluster *c, int place);             // the worker dies
void fault_kill(struct cluster *c, int place);              // the node
void fault_freeze(struct cluster *c, int place);            // the node is stopped for a while
void fault_unlink(struct cluster *c, int place);            // the gateway's connection breaks
void fault_gateway(struct cluster *c); // the gateway's daemon dies: nobody says goodbye to the places
void fault_cut(struct cluster *c, int from, int to);
void fault_hole(struct cluster *c, int from, int to);

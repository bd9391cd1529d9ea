// The jobs: the real serve/flow with orders and events that travel, and a client who checks every token. It also holds
// the machine to its contract: no order reaches a place that is not open, or in a state that does not allow it.
#pragma once

#include "place.h"
#include "serve/flow.h"

enum spot_state { SPOT_NONE, SPOT_ASKED, SPOT_HELD, SPOT_RUNNING, SPOT_PAUSING, SPOT_PAUSED, SPOT_STATES };

struct spot { // a job at a place, as the gateway may know it
    enum spot_state state;
    uint64_t sequence;
    int32_t upto;  // rows that it has, as told
    int32_t least; // rows that it lacked when they were last halved, since it has the whole prompt
    int still;     // times that it has told of rows since then
    bool takes;    // rows
    bool waits;    // started, for rows
    bool counts;   // it has not said no in this round
    int asked;     // in which round, 0 = never
};

struct gateway;
struct job {
    struct gateway *of;
    int index;
    struct flow *flow;
    struct flow_plan plan;
    uint64_t seed, timer;
    int32_t prompt[MODEL_PROMPT], n_prompt, most;
    struct answer wanted;
    char text[sizeof((struct answer *)0)->text];
    size_t len;
    int32_t told, cached;
    int32_t fetch_from, fetch_upto; // rows that the first place gets of the second
    int opens, moved_to;
    bool begun, over, left, moved, cut, handed, fetched, gave_up, timed, started, upset;
    uint64_t begun_at, round_at;
    int round; // from 1 on
    struct spot spots[PLACES];
};

// What the runs have covered; all must be seen in a long test.
struct tally {
    uint64_t jobs, ended, failed, left, handed, moved, fetched, gave_up, resumed, reopened, elsewhere, deaths, timeouts,
        cuts, behind, late, mended;
    uint64_t losses[SPOT_STATES]; // places that failed, by state
};

struct gateway {
    struct cluster c;
    struct job jobs[JOBS];
    int n_jobs;
    uint64_t sequences; // numbers given
    bool dead;
    bool strays, calm;                                       // places say what nobody asked for; nothing goes wrong
    int refusals;                                            // percent of orders that fail at once
    int steps;                                               // orders and events so far
    void (*stepped)(struct gateway *g, const struct job *j); // after each
    struct tally *tally;
};

void gateway_init(struct gateway *g);
void gateway_begin(struct gateway *g, struct job *j); // plan, prompt, seed and most are set
void gateway_leave(struct gateway *g, struct job *j); // the client goes away
void gateway_die(struct gateway *g);
void gateway_move(struct gateway *g, struct job *j, int to);
void gateway_close(struct gateway *g);

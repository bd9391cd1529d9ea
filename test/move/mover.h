// One request on its way from one worker to another, as the gateway of two nodes would lead it, without a network: rows
// are copied from one engine's blocks into the other's slots. Single-threaded, on one event loop.
#pragma once

#include "engine/client.h"

enum { MOVER_TEXT = 1 << 16, MOVER_TOKENS = 16384, MOVER_UNITS = 64, MOVER_BLOCKS = 4096 };

enum rows_wanted {
    ROWS_ALL,  // the other worker gets every row before it starts
    ROWS_NONE, // it computes all anew
    ROWS_HALF, // it gets the first units, then the stream breaks
};

struct plan {
    enum rows_wanted rows;
    int32_t pause_after; // tokens; 0 = it stays
    int32_t slots;       // units on their way at the same time; also the first credits
    int32_t hoard;       // blocks kept back: the worker has so few left
    bool late_export;    // the export begins after the first token: rows of the past
    bool back;           // once moved, it is paused there too, and goes on at home
};

struct mover {
    struct event_base *base;
    struct engine *home, *away;
    struct plan plan;
    struct gen_request *request; // borrowed
    uint64_t home_id, away_id;
    bool speaks_away;
    // what a client would see
    char text[MOVER_TEXT];
    size_t len;
    int32_t tokens[MOVER_TOKENS], n_tokens;
    struct gen_result result;
    char stop[64];
    bool ended, failed, home_failed;
    struct err why;
    // the rows
    int32_t *prompt, n_prompt;
    struct {
        int32_t first, count, slot, left;
    } units[MOVER_UNITS];
    int32_t n_units, installed, slots[MOVER_UNITS], n_slots, idle_slots[MOVER_UNITS], n_idle;
    int32_t kept[MOVER_BLOCKS], n_kept; // blocks kept back
    int32_t state_bytes;                // of a state that travels whole, as far as it has come
    int32_t past;                       // as the pause told
    bool paused, back_paused, cut;
    int rows_seen, units_installed; // for tests to look at
};

// A worker that is ready: this program, started with the argument "worker". Ends the program where it does not get so.
struct engine *mover_engine(struct event_base *base, const struct engine_options *o);

// r is borrowed until the request has ended (or failed).
void mover_start(struct mover *m, struct event_base *base, struct engine *home, struct engine *away,
                 struct gen_request *r, const struct plan *p);

// Runs the request to its end under the plan. `away` may be NULL where it stays. 0, or -1 where it failed (m->why).
int mover_run(struct mover *m, struct event_base *base, struct engine *home, struct engine *away, struct gen_request *r,
              const struct plan *p);
void mover_close(struct mover *m);

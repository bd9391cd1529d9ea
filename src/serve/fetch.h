// Fetches a log from another node, piece by piece, into a mirror (audit/mirror.h), up to a target. One piece is under
// way at a time: the next one is asked for when the last one is on the disk, at most `rate` bytes a second of them, and
// pieces become smaller where a link takes long for one, so that nothing else on it waits for long. Threads: the
// event-loop thread; the files are the keeper's.
#pragma once

#include "audit/mirror.h"
#include "audit/piece.h"
#include "serve/keeper.h"
#include "serve/serve.h"

enum {
    FETCH_RATE = 1 << 20,         // bytes a second of a mirror that is kept up
    FETCH_RATE_RESTORE = 4 << 20, // of a log that its node needs back, and of what one node is given
    FETCH_PIECE = 32 << 10, // bytes of a piece, unless a frame is longer: JSON of it takes the loop half a millisecond
    FETCH_QUICK_MS = 25,    // a piece that came sooner: the next one is larger
    FETCH_SLOW_MS = 100,    // that came later: it is smaller
    FETCH_PATIENCE_MS = 10000, // then it is asked for again
};

struct fetch;
typedef void fetch_ended(struct fetch *f, const struct err *why); // NULL: the target is reached, durably

struct fetch {
    // the owner's, given to fetch_init
    struct serve *s;
    struct keeper *keeper;
    fetch_ended *ended;
    void *arg;
    uint64_t rate;
    char from[NODE_ID]; // which node is asked
    char dir[PATH_SIZE];
    struct note_key key; // of the log; its name is the log's
    // the thread's while `busy`
    struct mirror mirror;
    bool open, reached;
    char *text; // of a piece; owned
    size_t text_len, n;
    struct checkpoint target;
    char note[NOTE_BYTES];
    size_t note_len;
    char *witnesses, *roster; // owned
    struct err why;
    // the loop's
    bool running, busy, asked;
    uint64_t asked_ns, at; // at: where the next piece begins, in bytes
    size_t piece, wanted;  // bytes of the next one, and of the last one
    struct err stopped;
    struct event *again;
};

// f is zeroed but for what is the owner's, and stays where it is.
int fetch_init(struct fetch *f, struct err *e) MUST_USE;
void fetch_close(struct fetch *f); // after keeper_free; fine for a zeroed one

struct fetch_goal {
    struct checkpoint target;
    const char *note; // the target's
    size_t note_len;
    char *witnesses, *roster; // texts for beside the log, taken over; roster NULL: none
};
void fetch_start(struct fetch *f, const struct fetch_goal *g); // not while it runs
void fetch_heard(struct fetch *f, const struct piece *p);      // of that log and from that node
void fetch_tick(struct fetch *f);                              // now and then: asks again where no answer came
void fetch_up(struct fetch *f);                                // the link is up again: likewise, at once
void fetch_stop(struct fetch *f, const struct err *why);       // `ended` comes as soon as the thread is done with it

// The course of one job over one or two places, as a state machine without I/O and without a clock: what to order next
// when something has happened. A place is a node with the model; place numbers are the caller's. Threads: one.
//
//     open prefill ──► (tokens known) open decode ──► stream rows, start prefill ──► first token ──► the decode place
//     has caught up: pause prefill ──► its last rows are in: start decode ──► end, drop prefill
//
// The prefill place generates until the decode place has caught up (zero stall), so that no token waits for the
// network; with `zero_stall` off it is paused after its first token. A decode place takes its rows between two of its
// steps: where it reads other prompts meanwhile, it stays behind by what is computed during a step and on the way, and
// is taken to have caught up when, with the whole prompt there, that has stopped being halved. The client then waits
// once for as long: about a step of the decode place and a round trip. A decode place may open at any time, since the
// prefill place does not wait for it for longer than head_ms: what is computed by then is sent then; and where a
// stream breaks while it goes on, the decode place is opened anew. One place at a time speaks to the client: each token
// is told once and in order. A place that fails, at any moment, is dropped, and the other goes on from the tokens the
// client has been told; a sequence starts computing only from rows that are in its cache, and computes what is missing.
// Where the decode place holds more of the prompt in its cache than the prefill place (the conversation was answered
// there), its rows travel to the prefill place first, which then computes only what neither of them has; where they do
// not come in time, it computes them itself. Only rows that the other side lacks travel, in either direction. After the
// hand-over the prefill place stays paused until the job ends, to go on where the decode place fails. When no place is
// left, one that failed because its worker or node went away, or that had no room for a job that had begun elsewhere,
// is opened anew at once (the one that failed longest ago). When that has been tried, the caller is asked for another
// place again and again; where it has none, those that failed are opened anew, FLOW_RETRIES times in all, with pauses.
// Then the job fails. It also ends, before it has begun, with errors that are the request's own (ERR_INVALID,
// ERR_LIMIT) or of places that are full; and a request whose workers died FLOW_CRASHES times is taken for the cause,
// and gets no other place.
#pragma once

#include "engine/request.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FLOW_PLACES = 2,
    FLOW_TOKENS = 4 << 20, // most tokens of a prompt, and of an answer
    FLOW_BEHIND = 4,       // rows that the decode place may lack when the prefill place is paused
    FLOW_STILL = 4,        // or so often it has told of rows since those that it lacks were last halved
    FLOW_MENDS = 2,        // streams that broke while the prefill place goes on are begun anew so often
    FLOW_RETRIES = 3,      // the first one at once
    FLOW_RETRY_MS = 250,   // before the second retry; twice as long before each later one
    FLOW_CRASHES = 8,      // after so many deaths of workers, no other place is asked for
    FLOW_HEAD_MS = 30,     // the prefill place waits at most so long for the decode place, then begins without
    FLOW_FETCH = 64,       // the prefill place computes so many rows rather than fetch them
    FLOW_FETCH_MS = 2000,  // no fetched row arrives for so long: the prefill place computes the rest
    FLOW_ROWS_MS = 10000   // nobody speaks and no row arrives for so long: the place that has them all goes on instead
};

struct flow;

// What the machine orders. Orders that return int may fail at once (-1, err filled): that counts as the failure of the
// place that would have computed (a stream's: as a cut), which is dropped then, unless `open` failed. No order reaches
// a place before flow_opened (but drop), nor after flow_ended, flow_failed or drop. None may call back into the
// machine.
struct flow_io {
    // A held sequence at `place`: for the client's request where n = 0, else for these n prompt tokens. source >= 0:
    // rows from that place may be expected. Answered by flow_opened or flow_failed.
    int (*open)(void *io, int place, const int32_t *prompt, int32_t n, int source, struct err *e);
    // Rows from position `first` on shall travel from one open place to another that expects them; rows that the one
    // itself gets from elsewhere only afterwards do not. Answered by flow_installed again and again, or by flow_cut. It
    // ends with `cut`, and when either place is dropped or fails. Both ways at the same time is fine.
    int (*stream)(void *io, int from, int to, int32_t first, struct err *e);
    void (*cut)(void *io, int from); // the stream is not wanted any more: a pause does not wait for its rows
    // Computes: the prompt, then what is to be generated after the tokens it has and these n, which are generated ones
    // too. from >= 0: once rows before it are there. Again with n = 0 and from < 0: does not wait for rows any more,
    // where it still does.
    int (*start)(void *io, int place, const int32_t *generated, int32_t n, int32_t from, struct err *e);
    int (*pause)(void *io, int place, struct err *e); // answered by flow_paused, flow_ended or flow_failed
    // A place to be opened next, where nothing is open: `place` itself, which now means another node and is the job's
    // no more in its old meaning, or any other; -1 = none. Each at most once before a token is told or the time comes.
    int (*another)(void *io, int place);
    void (*drop)(void *io, int place); // nothing more is heard of it; its rows and memory go
    void (*timer)(void *io, long ms); // flow_time is called once then, instead of what was set before; 0 = not any more
    // to the client; each of end and fail is the last order
    void (*begin)(void *io, const struct gen_begin *b);
    void (*text)(void *io, const char *text, size_t len, int32_t tokens);
    void (*end)(void *io, const struct gen_result *r);
    void (*fail)(void *io, const struct err *why);
};

struct flow_plan {
    int prefill, decode; // places; the same one: no stream
    bool late;           // rows travel after the pause, not before: what others do, to compare with; zero_stall off
    bool zero_stall;     // off where a model's state travels whole, see flow_whole
    long head_ms;        // shorter than FLOW_HEAD_MS where the prompt is soon read; 0 = FLOW_HEAD_MS
    // The prefill place may give the first token (and those that come until its pause does), no more: it begins when
    // the decode place is open, is paused as with zero_stall off (whether or not that one is open by then), and is done
    // without (ERR_DENIED) when that one is lost.
    bool reads_only;
    // Of reads_only: the decode place is opened first, for the client's request, and the prefill place once it is open.
    // Both hold their sequence while they wait for the other one: jobs that cross would wait for ever, unless whoever
    // begins them has all of them take places in the same order.
    bool decode_first;
};

// Begins with opening the prefill place. NULL: out of memory, or it failed at once and nothing else can be done (then
// the client is told nothing).
struct flow *flow_new(const struct flow_plan *p, const struct flow_io *io, void *arg, struct err *e) MUST_USE;
void flow_free(struct flow *f); // drops what is open, tells the client nothing; NULL is fine

// What the model's sequences remember travels as a whole (KV_OPAQUE), after a pause: zero_stall is off from now on. To
// be told before flow_opened, each time is fine.
void flow_whole(struct flow *f);

// ---- what has happened. After an end or fail was ordered, all of these are ignored; f stays until flow_free.
void flow_opened(struct flow *f, int place, const struct gen_begin *b); // tokens and cached_tokens are set
// One for every token, in order; id < 0: unknown, so that no other place can go on from here.
void flow_text(struct flow *f, int place, const char *text, size_t len, int32_t tokens, int32_t id);
void flow_installed(struct flow *f, int place, int32_t upto);
void flow_paused(struct flow *f, int place, int32_t tokens, int32_t past);
// A place whose context is full before the answer is as long as the first place would have made it counts as failed.
// The client hears of the tokens of the whole job, and that those were cached which the first place did not compute;
// the durations are those of the place that ended.
void flow_ended(struct flow *f, int place, const struct gen_result *r);
void flow_failed(struct flow *f, int place, const struct err *why); // nothing of it is left there
void flow_cut(struct flow *f, int to, const struct err *why);       // the stream to it broke; both may be well
void flow_time(struct flow *f);

// Moves a running job to another place (drain): opened, streamed and handed over as above; the place that is left is
// dropped once the other has spoken. ERR_BUSY where a hand-over is under way already, or nothing runs yet.
int flow_move(struct flow *f, int to, struct err *e) MUST_USE;

// Where it is, for traces: the place that speaks, -1 = none.
int flow_speaker(const struct flow *f);

// Two seats, of which one speaks. A hand-over has a target: the seat that is to speak next, and a source: the seat
// whose rows travel to the other one. Every change ends in go_on, which looks at what is left and orders what the
// speaker needs. A fetch is the way back, before the prompt is read: rows from the target to the speaker.
#include "serve/flow.h"
#include "base/buf.h"

#include <assert.h>
#include <stdlib.h>

enum seat_state {
    SEAT_FREE, // nothing is open there, but may be
    SEAT_OPENING,
    SEAT_HELD,
    SEAT_RUNNING,
    SEAT_PAUSING,
    SEAT_PAUSED,
    SEAT_GONE, // failed, or left for good
};

struct seat {
    int place;
    enum seat_state state;
    int32_t has;       // generated tokens that the place knows
    int32_t upto;      // rows before this position are in its cache
    int32_t from;      // it waits for rows before this position, -1 = does not wait
    enum err_code why; // it is gone
    bool at_once;      // it could not even be asked
    int lost;          // number of the failure, the first is 1
    int32_t least;     // rows that it lacked when they were half as many as before, since it has the whole prompt
    int still;         // times that it told of rows since then
    bool leaving;      // not wanted any more once another place has spoken
    bool reads_only;   // see struct flow_plan
};

enum wait { WAIT_NONE, WAIT_HEAD, WAIT_ROWS, WAIT_RETRY };

struct flow {
    struct flow_io io;
    void *arg;
    bool zero_stall, late;
    struct seat seats[FLOW_PLACES];
    struct seat *speaker, *target, *source; // NULL = none
    struct seat *first;                     // that told of the prompt; valid once begun
    struct seat *fetched;                   // whose rows travel to the speaker; NULL = nobody's
    enum wait wait;                         // what the timer is set for
    struct buf prompt, generated;           // int32_t each
    int32_t n_prompt, cached;               // valid once begun
    long head_ms;
    int32_t past;       // rows that the paused speaker has computed
    int32_t most;       // tokens that the answer may have, as the first place has said
    bool begun, paired; // the client was told; the decode place was asked
    bool blind;         // not all tokens are known: no other place can go on
    bool quiet, over;   // in flow_new; after the last order
    int losses, retries, crashes, mended;
    struct err why; // of the latest failure
};

#define MAY(state) (1u << (state))
static const unsigned may_follow[] = {
    [SEAT_FREE] = MAY(SEAT_OPENING),
    [SEAT_OPENING] = MAY(SEAT_HELD) | MAY(SEAT_FREE) | MAY(SEAT_GONE),
    [SEAT_HELD] = MAY(SEAT_RUNNING) | MAY(SEAT_FREE) | MAY(SEAT_GONE),
    [SEAT_RUNNING] = MAY(SEAT_RUNNING) | MAY(SEAT_PAUSING) | MAY(SEAT_FREE) | MAY(SEAT_GONE),
    [SEAT_PAUSING] = MAY(SEAT_PAUSED) | MAY(SEAT_FREE) | MAY(SEAT_GONE),
    [SEAT_PAUSED] = MAY(SEAT_RUNNING) | MAY(SEAT_FREE) | MAY(SEAT_GONE),
    [SEAT_GONE] = MAY(SEAT_OPENING),
};

static void seat_enter(struct seat *s, enum seat_state next) {
    bool allowed = may_follow[s->state] & MAY(next);
    assert(allowed);
    (void)allowed; // builds without assertions
    s->state = next;
}

static bool is_open(const struct seat *s) { return s && s->state != SEAT_FREE && s->state != SEAT_GONE; }
static bool speaks(const struct seat *s) { return s->state == SEAT_RUNNING || s->state == SEAT_PAUSING; }
static bool lacks_rows(const struct seat *s) { return s->state == SEAT_RUNNING && s->from > s->upto; }

static struct seat *seat_at(struct flow *f, int place) {
    for (int i = 0; i < FLOW_PLACES; i++)
        if (is_open(&f->seats[i]) && f->seats[i].place == place) return &f->seats[i];
    return NULL;
}

static struct seat *other(struct flow *f, const struct seat *s) { return &f->seats[s == f->seats]; }

static int32_t count(const struct buf *tokens) { return (int32_t)(tokens->len / sizeof(int32_t)); }

static const int32_t *token(const struct buf *tokens, int32_t i) {
    return i < count(tokens) ? (const int32_t *)(const void *)tokens->data + i : NULL;
}

// ---------------------------------------------------------------- orders that are more than a call
static void set_timer(struct flow *f, enum wait wait, long ms) {
    if (wait == WAIT_NONE && f->wait == WAIT_NONE) return;
    f->wait = wait;
    f->io.timer(f->arg, wait == WAIT_NONE ? 0 : ms);
}

static void stop_waiting(struct flow *f, enum wait wait) {
    if (f->wait == wait) set_timer(f, WAIT_NONE, 0);
}

static void end_fetch(struct flow *f) {
    if (is_open(f->fetched)) f->io.cut(f->arg, f->fetched->place);
    f->fetched = NULL;
}

static void end_stream(struct flow *f) {
    if (is_open(f->source)) f->io.cut(f->arg, f->source->place);
    f->source = NULL;
}

// Nobody speaks, or soon nobody will, until rows have arrived: for how long?
static void watch_rows(struct flow *f) {
    struct seat *s = f->speaker;
    if (lacks_rows(s) && f->fetched)
        set_timer(f, WAIT_ROWS, FLOW_FETCH_MS);
    else if (lacks_rows(s) || (s->state == SEAT_PAUSING && f->target))
        set_timer(f, WAIT_ROWS, FLOW_ROWS_MS);
    else
        stop_waiting(f, WAIT_ROWS);
}

// Gives up a seat that is well.
static void let_go(struct flow *f, struct seat *s, enum seat_state next) {
    if (!is_open(s)) return;
    end_fetch(f);
    end_stream(f);
    f->io.drop(f->arg, s->place);
    seat_enter(s, next);
}

static void close_all(struct flow *f) {
    set_timer(f, WAIT_NONE, 0);
    for (int i = 0; i < FLOW_PLACES; i++) let_go(f, &f->seats[i], SEAT_FREE);
    f->over = true;
}

static void fail(struct flow *f, const struct err *why) {
    struct err last = *why; // may be f's own
    close_all(f);
    f->why = last;
    if (!f->quiet) f->io.fail(f->arg, &last);
}

// ---------------------------------------------------------------- failures
static void go_on(struct flow *f);

static void lose(struct flow *f, struct seat *s, const struct err *why) {
    f->why = *why;
    s->why = why->code;
    s->lost = ++f->losses;
    f->crashes += why->code == ERR_WORKER;
    seat_enter(s, SEAT_GONE);
    end_fetch(f);
    end_stream(f);
    if (f->blind && s == f->speaker)
        fail(f, why);
    else
        go_on(f);
}

// A place that does not do as it should: it may still hold the sequence.
static void expel(struct flow *f, struct seat *s, const struct err *why) {
    f->io.drop(f->arg, s->place);
    lose(f, s, why);
}

static void expel_liar(struct flow *f, struct seat *s, const char *what) {
    struct err why;
    err_set(&why, ERR_WORKER, "a worker broke the order of events: %s", what);
    expel(f, s, &why);
}

static void open_seat(struct flow *f, struct seat *s, int source) {
    struct err why;
    seat_enter(s, SEAT_OPENING);
    s->at_once = f->io.open(f->arg, s->place, token(&f->prompt, 0), count(&f->prompt), source, &why);
    if (s->at_once) lose(f, s, &why);
}

static bool is_own(enum err_code code) { return code == ERR_INVALID || code == ERR_LIMIT; }

// Worth another try: it may have come back, or may have room now. While the job is nowhere yet, a place that cannot be
// asked or is full says so to the client instead.
static bool may_return(const struct flow *f, const struct seat *s) {
    if (s->state != SEAT_GONE) return false;
    if (s->why == ERR_BUSY) return f->begun;
    return (s->why == ERR_WORKER || s->why == ERR_UNREACHABLE) && (f->begun || !s->at_once);
}

// A place that the caller chooses takes the seat of the one that may not return, or failed longest ago.
static bool open_another(struct flow *f) {
    struct seat *s = f->seats, *t = other(f, s);
    if (f->crashes >= FLOW_CRASHES || (f->why.code == ERR_BUSY && !f->begun)) return false;
    if (may_return(f, s) != may_return(f, t) ? may_return(f, s) : t->lost < s->lost) s = t;
    int place = f->io.another(f->arg, s->place);
    if (place < 0) return false;
    if (other(f, s)->place == place) s = other(f, s);
    s->place = place;
    s->leaving = s->reads_only = false;
    f->speaker = s;
    open_seat(f, s, -1);
    return true;
}

static void reopen(struct flow *f) {
    struct seat *next = NULL;
    for (int i = FLOW_PLACES - 1; i >= 0; i--) {
        struct seat *s = &f->seats[i];
        if (s->state == SEAT_FREE && !s->reads_only) next = s;
        if (may_return(f, s) && (!next || (next->state == SEAT_GONE && s->lost < next->lost))) next = s;
    }
    bool own = is_own(f->why.code) && !f->begun, again = next && next->state == SEAT_GONE;
    if (!own && (!next || (again && f->retries > 0)) && open_another(f)) return;
    if (own || !next || (again && f->retries == FLOW_RETRIES)) {
        fail(f, &f->why);
        return;
    }
    f->speaker = next;
    if (again && f->retries++ > 0)
        set_timer(f, WAIT_RETRY, (long)FLOW_RETRY_MS << (f->retries - 2));
    else
        open_seat(f, next, -1);
}

static void start(struct flow *f, struct seat *s, int32_t from) {
    struct err why;
    int32_t has = s->has;
    seat_enter(s, SEAT_RUNNING);
    s->from = from;
    s->has = count(&f->generated);
    watch_rows(f);
    if (f->io.start(f->arg, s->place, token(&f->generated, has), s->has - has, from, &why)) expel(f, s, &why);
}

static void expel_reader(struct flow *f, struct seat *s) {
    struct err why;
    err_set(&why, ERR_DENIED, "the policy lets this node read the prompt only, and the one that was to write is lost");
    expel(f, s, &why);
}

// Somebody has gone, or was done without: sees to it that somebody speaks.
static void go_on(struct flow *f) {
    if (!is_open(f->target)) {
        f->target = NULL;
        if (is_open(f->speaker)) f->speaker->leaving = false; // it has nowhere to go
    }
    if (!is_open(f->speaker)) {
        f->speaker = is_open(&f->seats[0]) ? &f->seats[0] : is_open(&f->seats[1]) ? &f->seats[1] : NULL;
        f->target = NULL;
    }
    if (!f->target) set_timer(f, WAIT_NONE, 0);
    struct seat *s = f->speaker;
    if (!s)
        reopen(f);
    else if (s->reads_only && !f->target)
        expel_reader(f, s);
    else if (s->state == SEAT_PAUSED || (s->state == SEAT_HELD && !f->target) || lacks_rows(s))
        start(f, s, -1);
}

static void do_without(struct flow *f, struct seat *s) {
    let_go(f, s, SEAT_FREE);
    go_on(f);
}

// ---------------------------------------------------------------- the hand-over
// Nobody waits for it while the speaker runs, however long it takes: its rows can be sent late, too.
static void open_target(struct flow *f, struct seat *s) {
    f->target = s;
    if (f->speaker->state == SEAT_HELD && !f->speaker->reads_only) set_timer(f, WAIT_HEAD, f->head_ms);
    open_seat(f, s, f->speaker->place);
}

// Returns -1 where that fails; then the target is done without.
static int begin_stream(struct flow *f) {
    struct err why;
    f->source = f->speaker;
    if (!f->io.stream(f->arg, f->source->place, f->target->place, f->target->upto, &why)) return 0;
    do_without(f, f->target);
    return -1;
}

// The speaker has not begun, and lacks rows that the target has. Both streams run at the same time: rows that the
// speaker computes after the fetched ones go to the target. Returns the row before which it waits, -1 = does not.
static int32_t begin_fetch(struct flow *f) {
    struct err why;
    struct seat *s = f->speaker, *t = f->target;
    if (f->late || s->state != SEAT_HELD || t->upto - s->upto <= FLOW_FETCH) return -1;
    if (f->io.stream(f->arg, t->place, s->place, s->upto, &why)) return -1;
    f->fetched = t;
    return t->upto;
}

// The speaker is paused: the target goes on.
static void hand_over(struct flow *f) {
    struct seat *t = f->target;
    f->speaker = t;
    f->target = NULL;
    start(f, t, f->past);
}

static void target_opened(struct flow *f) {
    set_timer(f, WAIT_NONE, 0);
    int32_t from = begin_fetch(f);
    if (!f->late && begin_stream(f)) return;
    if (f->speaker->state == SEAT_HELD)
        start(f, f->speaker, from);
    else if (f->speaker->state == SEAT_PAUSED)
        hand_over(f);
    else
        watch_rows(f);
}

static void give_up_fetch(struct flow *f) {
    end_fetch(f);
    start(f, f->speaker, -1);
}

// Rows that the speaker has computed and a seat lacks.
static int32_t lag(const struct flow *f, const struct seat *s) {
    return f->n_prompt + count(&f->generated) - 1 - s->upto;
}

static void note_lag(struct flow *f, struct seat *t) {
    if (t != f->target || !f->generated.len || t->upto < f->n_prompt) return;
    int32_t rows = lag(f, t);
    t->still = rows <= t->least / 2 ? 0 : t->still + 1;
    if (!t->still) t->least = rows;
}

// The speaker goes on until the target lacks so little that the pause is shorter than a token or two, or, where the
// target's steps or the way to it take longer than that, until waiting helps no more.
static void consider_pause(struct flow *f) {
    struct seat *s = f->speaker, *t = f->target;
    struct err why;
    if (!t || s->state != SEAT_RUNNING || !f->generated.len || f->blind) return;
    if (t->state != SEAT_HELD && !s->reads_only) return;
    bool near = t->upto >= f->n_prompt && (lag(f, t) <= FLOW_BEHIND || t->still >= FLOW_STILL);
    if (f->zero_stall && !near) return;
    seat_enter(s, SEAT_PAUSING);
    watch_rows(f);
    if (f->io.pause(f->arg, s->place, &why)) expel(f, s, &why);
}

// The new speaker has spoken: it needs nobody any more.
static void settle(struct flow *f) {
    struct seat *left = other(f, f->speaker);
    end_stream(f);
    if (!left->leaving) return;
    let_go(f, left, SEAT_GONE);
    left->why = ERR_CANCELLED;
}

// ---------------------------------------------------------------- what has happened
static int learn(struct flow *f, const struct gen_begin *b) {
    struct err why;
    f->n_prompt = b->prompt_tokens;
    f->cached = b->cached_tokens;
    f->most = b->answer_tokens;
    f->begun = true;
    if (b->tokens && buf_append(&f->prompt, b->tokens, (size_t)b->prompt_tokens * sizeof(int32_t))) {
        err_set(&why, ERR_INTERNAL, "out of memory for the %d tokens of a prompt", (int)b->prompt_tokens);
        fail(f, &why);
        return -1;
    }
    f->io.begin(f->arg, b);
    return 0;
}

void flow_whole(struct flow *f) { f->zero_stall = false; }

void flow_opened(struct flow *f, int place, const struct gen_begin *b) {
    struct seat *s = seat_at(f, place);
    if (!s || s->state != SEAT_OPENING) return;
    int32_t n = b->prompt_tokens, cached = b->cached_tokens;
    if (n < 1 || n > FLOW_TOKENS || cached < 0 || cached > n || (f->begun && n != f->n_prompt)) {
        expel_liar(f, s, "a prompt of another length");
        return;
    }
    seat_enter(s, SEAT_HELD);
    s->has = 0;
    s->upto = cached;
    s->from = -1;
    s->least = INT32_MAX;
    s->still = 0;
    if (!f->begun) f->first = s;
    if (!f->begun && learn(f, b)) return;
    if (s == f->target && f->speaker->state == SEAT_FREE)
        open_seat(f, f->speaker, f->late ? -1 : s->place);
    else if (s == f->target)
        target_opened(f);
    else if (s == f->speaker && f->target) { // the decode place was opened first
        f->first = s;
        f->cached = cached;
        target_opened(f);
    } else if (f->seats[1].state == SEAT_FREE && !f->paired && f->prompt.len) {
        f->paired = true;
        open_target(f, &f->seats[1]);
    } else
        go_on(f);
}

// Returns -1 where the job has failed.
static int remember(struct flow *f, int32_t id) {
    struct err why;
    if (id < 0) f->blind = true;
    if (!buf_append(&f->generated, &id, sizeof id)) return 0;
    err_set(&why, ERR_LIMIT, "the answer is too long to be kept: ask for less at a time");
    fail(f, &why);
    return -1;
}

void flow_text(struct flow *f, int place, const char *text, size_t len, int32_t tokens, int32_t id) {
    struct seat *s = seat_at(f, place);
    int32_t told = count(&f->generated);
    if (!s || s != f->speaker || !speaks(s) || tokens <= told) return;
    if (tokens != told + 1 || lacks_rows(s) || (f->most && tokens > f->most)) {
        expel_liar(f, s, "a token is missing, came before its rows, or is more than was asked for");
        return;
    }
    if (remember(f, id)) return;
    s->has = tokens;
    f->io.text(f->arg, text, len, tokens);
    if (!f->target) settle(f);
    if (s->reads_only && f->blind)
        expel_reader(f, s);
    else
        consider_pause(f);
}

void flow_installed(struct flow *f, int place, int32_t upto) {
    struct seat *s = seat_at(f, place);
    if (!s || s->state == SEAT_OPENING || upto <= s->upto) return;
    s->upto = upto;
    if (f->fetched && s == f->speaker) {
        f->cached = upto < f->n_prompt ? upto : f->cached;
        if (!lacks_rows(s)) end_fetch(f);
    }
    watch_rows(f);
    note_lag(f, s);
    consider_pause(f);
}

void flow_paused(struct flow *f, int place, int32_t tokens, int32_t past) {
    struct seat *s = seat_at(f, place), *t = f->target;
    int32_t told = count(&f->generated);
    if (!s || s->state != SEAT_PAUSING) return;
    if (tokens != told || past < 0 || past >= f->n_prompt + told) {
        expel_liar(f, s, "it paused after other tokens than it has told");
        return;
    }
    seat_enter(s, SEAT_PAUSED);
    f->past = past;
    if (t && t->state == SEAT_OPENING) return; // anew, as its stream broke; the timer for rows goes on
    if (t && f->late && begin_stream(f)) return;
    if (t)
        hand_over(f);
    else
        go_on(f);
}

void flow_ended(struct flow *f, int place, const struct gen_result *r) {
    struct seat *s = seat_at(f, place);
    struct err why;
    int32_t told = count(&f->generated);
    if (!s) return;
    bool complete = r->completion_tokens == told || r->completion_tokens == told + 1; // the last one may have no text
    if (s != f->speaker || !speaks(s) || r->finish == FINISH_CANCELLED || !complete) {
        err_set(&why, ERR_WORKER, "a worker ended a request before its time");
        lose(f, s, &why);
        return;
    }
    if (r->finish == FINISH_LENGTH && r->completion_tokens < f->most) {
        err_set(&why, ERR_LIMIT, "its context holds no more than %d tokens", (int)(f->n_prompt + r->completion_tokens));
        lose(f, s, &why);
        return;
    }
    struct gen_result result = *r;
    result.prompt_tokens = f->n_prompt;
    bool knows_better = s == f->first && r->cached_tokens > f->cached && r->cached_tokens <= f->n_prompt;
    if (!knows_better) result.cached_tokens = f->cached;
    seat_enter(s, SEAT_GONE);
    close_all(f);
    f->io.end(f->arg, &result);
}

void flow_failed(struct flow *f, int place, const struct err *why) {
    struct seat *s = seat_at(f, place);
    if (s) lose(f, s, why);
}

// A place that has ended a stream expects no other one. Opened anew, it may have kept the rows that it got.
static bool mend_stream(struct flow *f) {
    struct seat *t = f->target;
    if (f->speaker->state != SEAT_RUNNING || lacks_rows(f->speaker) || f->mended == FLOW_MENDS) return false;
    f->mended++;
    let_go(f, t, SEAT_FREE);
    open_target(f, t);
    return true;
}

void flow_cut(struct flow *f, int to, const struct err *why) {
    struct seat *s = seat_at(f, to);
    if (s && f->fetched && s == f->speaker) {
        give_up_fetch(f);
        return;
    }
    if (!s || !f->source || s == f->source) return;
    f->why = *why;
    if (s == f->target && mend_stream(f)) return;
    if (s == f->target || lacks_rows(s))
        do_without(f, s);
    else
        end_stream(f);
}

void flow_time(struct flow *f) {
    enum wait was = f->wait;
    f->wait = WAIT_NONE;
    if (was == WAIT_NONE) return;
    if (was == WAIT_RETRY)
        open_seat(f, f->speaker, -1);
    else if (was == WAIT_HEAD)
        start(f, f->speaker, -1);
    else if (f->fetched)
        give_up_fetch(f);
    else
        do_without(f, f->target ? f->target : f->speaker);
}

// ---------------------------------------------------------------- the machine
int flow_move(struct flow *f, int to, struct err *e) {
    struct seat *s = f->speaker;
    if (!s || s->state != SEAT_RUNNING || f->target || f->source || !f->prompt.len || f->blind)
        return err_set(e, ERR_BUSY, "the job cannot be moved now: it is moving, or nothing of it runs");
    if (s->place == to) return err_set(e, ERR_INVALID, "the job is at that place already");
    struct seat *t = other(f, s);
    let_go(f, t, SEAT_FREE);
    *t = (struct seat){.place = to, .state = SEAT_FREE};
    s->leaving = true;
    open_target(f, t);
    if (t->state != SEAT_GONE) return 0;
    if (e) *e = f->why;
    return -1;
}

int flow_speaker(const struct flow *f) { return f->speaker && !f->over ? f->speaker->place : -1; }

struct flow *flow_new(const struct flow_plan *p, const struct flow_io *io, void *arg, struct err *e) {
    struct flow *f = calloc(1, sizeof *f);
    if (!f) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *f = (struct flow){.io = *io,
                       .arg = arg,
                       .zero_stall = p->zero_stall && !p->late && !p->reads_only,
                       .late = p->late,
                       .quiet = true};
    f->head_ms = p->head_ms > 0 && p->head_ms < FLOW_HEAD_MS ? p->head_ms : FLOW_HEAD_MS;
    buf_init(&f->prompt, FLOW_TOKENS * sizeof(int32_t));
    buf_init(&f->generated, FLOW_TOKENS * sizeof(int32_t));
    f->seats[0] = (struct seat){.place = p->prefill, .state = SEAT_FREE, .reads_only = p->reads_only};
    f->seats[1] = (struct seat){.place = p->decode, .state = p->decode == p->prefill ? SEAT_GONE : SEAT_FREE};
    f->speaker = &f->seats[0];
    if (p->decode_first && p->decode != p->prefill) {
        f->target = &f->seats[1];
        f->paired = true;
        open_seat(f, f->target, p->prefill);
    } else
        open_seat(f, f->speaker, p->decode == p->prefill || f->late ? -1 : p->decode);
    f->quiet = false;
    if (!f->over) return f;
    if (e) *e = f->why;
    flow_free(f);
    return NULL;
}

void flow_free(struct flow *f) {
    if (!f) return;
    if (!f->over) close_all(f);
    buf_free(&f->prompt);
    buf_free(&f->generated);
    free(f);
}

#include "gateway.h"

#include <stdlib.h>
#include <string.h>

static struct world *world_of(const struct job *j) { return &j->of->c.w; }

static const char *const spot_names[] = {"none", "asked", "held", "running", "pausing", "paused"};

static void step(struct job *j) {
    j->of->steps++;
    j->of->stepped(j->of, j);
}

// ---------------------------------------------------------------- orders
static bool allow(struct job *j, int place, unsigned states, const char *order) {
    bool known = place >= 0 && place < j->of->c.n;
    if (known && !j->over && (states >> j->spots[place].state & 1)) return true;
    world_break(world_of(j), "job %d: %s at place %d, which is %s", j->index, order, place,
                j->over ? "over"
                : known ? spot_names[j->spots[place].state]
                        : "unknown");
    return false;
}

#define IN(state) (1u << (state))
enum { OPEN = IN(SPOT_HELD) | IN(SPOT_RUNNING) | IN(SPOT_PAUSING) | IN(SPOT_PAUSED) };

static struct order *order_for(struct job *j, enum order_kind kind, int place) {
    struct order *o = must_alloc(sizeof *o);
    *o = (struct order){.kind = kind,
                        .sequence = j->spots[place].sequence,
                        .seed = j->seed,
                        .job = j->index,
                        .source = NOBODY,
                        .most = j->most,
                        .from = -1,
                        .first = -1};
    return o;
}

static void send(struct job *j, int place, struct order *o) {
    wire_send(&j->of->c.orders[place], 0, place_order, &j->of->c.places[place], o);
    step(j);
}

// Some orders fail at once: where the place is known to be away, and now and then for no reason.
static int refuse(struct job *j, int place, struct err *e) {
    if (!j->of->c.linked[place]) return err_set(e, ERR_UNREACHABLE, "place %d is away", place);
    if (!world_chance(world_of(j), (unsigned)j->of->refusals)) return 0;
    j->spots[place].counts = false;
    j->upset = true;
    return err_set(e, ERR_INTERNAL, "an order failed");
}

static int on_open(void *io, int place, const int32_t *prompt, int32_t n, int source, struct err *e) {
    struct job *j = io;
    if (!allow(j, place, IN(SPOT_NONE), "open")) return err_set(e, ERR_INTERNAL, "not allowed");
    if (n && (n != j->n_prompt || memcmp(prompt, j->prompt, (size_t)n * sizeof *prompt)))
        world_break(world_of(j), "job %d: another prompt", j->index);
    if (j->begun != (n > 0)) world_break(world_of(j), "job %d: the tokens of the prompt are known", j->index);
    world_trace(world_of(j), "job %d: open place %d, rows of %d", j->index, place, source);
    j->opens++;
    j->spots[place].asked = j->round;
    if (refuse(j, place, e)) return -1;
    if (j->told) j->of->tally->reopened++;
    j->spots[place].state = SPOT_ASKED;
    j->spots[place].sequence = ++j->of->sequences;
    struct order *o = order_for(j, ORDER_OPEN, place);
    o->source = source;
    o->n = j->n_prompt;
    memcpy(o->tokens, j->prompt, sizeof j->prompt);
    send(j, place, o);
    return 0;
}

// The first place has not begun, and gets rows of the second one.
static void note_fetch(struct job *j, int from, int32_t first) {
    j->fetched = true;
    j->fetch_from = first;
    j->fetch_upto = j->spots[from].upto;
    j->of->tally->fetched++;
    if (j->fetch_upto - first <= FLOW_FETCH) world_break(world_of(j), "job %d: a few rows are fetched", j->index);
}

static int on_stream(void *io, int from, int to, int32_t first, struct err *e) {
    struct job *j = io;
    world_trace(world_of(j), "job %d: stream from place %d to %d, from row %d", j->index, from, to, (int)first);
    if (!allow(j, from, OPEN, "stream") || !allow(j, to, IN(SPOT_HELD), "stream"))
        return err_set(e, ERR_INTERNAL, "not allowed");
    if (!j->spots[to].takes) {
        j->gave_up |= j->fetched && !j->started; // done without, and so the rows that it has
        return err_set(e, ERR_BUSY, "place %d takes no rows", to);
    }
    if (refuse(j, from, e)) return -1;
    if (to == j->plan.prefill && !j->started) note_fetch(j, from, first);
    j->of->tally->mended += j->cut;
    j->cut = false;
    struct order *o = order_for(j, ORDER_EXPORT, from);
    o->to = to;
    o->stream = j->spots[to].sequence;
    o->first = first;
    o->n = STREAM_SLOTS;
    send(j, from, o);
    return 0;
}

static void on_cut(void *io, int from) {
    struct job *j = io;
    world_trace(world_of(j), "job %d: cut the stream from place %d", j->index, from);
    if (allow(j, from, OPEN, "cut")) send(j, from, order_for(j, ORDER_EXPORT, from));
}

static int on_start(void *io, int place, const int32_t *generated, int32_t n, int32_t from, struct err *e) {
    struct job *j = io;
    struct spot *s = &j->spots[place];
    bool again = s->state == SPOT_RUNNING && s->waits && !n && from < 0;
    world_trace(world_of(j), "job %d: start place %d with %d tokens, from row %d", j->index, place, (int)n, (int)from);
    if (!again && !allow(j, place, IN(SPOT_HELD) | IN(SPOT_PAUSED), "start"))
        return err_set(e, ERR_INTERNAL, "not allowed");
    if (refuse(j, place, e)) return -1;
    if (s->state == SPOT_PAUSED) j->of->tally->resumed++;
    if (!j->started && !j->upset && world_of(j)->now > j->begun_at + (uint64_t)j->plan.head_ms * 1000)
        world_break(world_of(j), "job %d: its first place is started late", j->index);
    j->started = true;
    if (from >= 0 && (j->told || !j->fetched)) {
        j->handed = true;
        j->of->tally->handed++;
    }
    s->state = SPOT_RUNNING;
    s->waits = from >= 0;
    struct order *o = order_for(j, ORDER_START, place);
    o->from = from;
    o->n = n;
    if (n) memcpy(o->tokens, generated, (size_t)n * sizeof *generated);
    send(j, place, o);
    return 0;
}

// With zero stall, nobody is paused before another has caught up.
static bool somebody_caught_up(const struct job *j) {
    int32_t computed = j->n_prompt + j->told - 1;
    for (int i = 0; i < j->of->c.n; i++) {
        const struct spot *s = &j->spots[i];
        if (s->state != SPOT_HELD || s->upto < j->n_prompt) continue;
        if (computed - s->upto <= FLOW_BEHIND) return true;
        if (s->still < FLOW_STILL) continue;
        j->of->tally->behind++;
        return true;
    }
    return !j->plan.zero_stall;
}

static int on_pause(void *io, int place, struct err *e) {
    struct job *j = io;
    if (!somebody_caught_up(j)) world_break(world_of(j), "job %d: place %d is paused too early", j->index, place);
    world_trace(world_of(j), "job %d: pause place %d", j->index, place);
    if (!allow(j, place, IN(SPOT_RUNNING), "pause")) return err_set(e, ERR_INTERNAL, "not allowed");
    if (refuse(j, place, e)) return -1;
    j->spots[place].state = SPOT_PAUSING;
    send(j, place, order_for(j, ORDER_PAUSE, place));
    return 0;
}

// Of the places that can be reached and were not asked in this round, the one that was asked longest ago.
static int on_another(void *io, int place) {
    struct job *j = io;
    int next = NOBODY;
    (void)place;
    for (int i = 0; i < j->of->c.n; i++) {
        if (j->spots[i].state != SPOT_NONE)
            world_break(world_of(j), "job %d needs another place, and has place %d", j->index, i);
        if (!j->of->c.linked[i] || j->spots[i].asked == j->round) continue;
        if (next == NOBODY || j->spots[i].asked < j->spots[next].asked) next = i;
    }
    if (next != NOBODY) j->of->tally->elsewhere++;
    world_trace(world_of(j), "job %d: place %d next", j->index, next);
    return next;
}

// Something has happened that gives every place another chance.
static void begin_round(struct job *j) {
    j->round++;
    j->round_at = world_of(j)->now;
    for (int i = 0; i < PLACES; i++) j->spots[i].counts = true;
}

static void leave(struct spot *s) {
    s->state = SPOT_NONE;
    s->sequence = 0;
    s->waits = false;
}

static void on_drop(void *io, int place) {
    struct job *j = io;
    world_trace(world_of(j), "job %d: drop place %d", j->index, place);
    if (!allow(j, place, OPEN | IN(SPOT_ASKED), "drop")) return;
    struct order *o = order_for(j, ORDER_DROP, place);
    leave(&j->spots[place]);
    send(j, place, o);
}

static void note_given_up(struct job *j, int place) {
    if (!j->fetched || j->told || place != j->plan.prefill || !j->spots[place].waits) return;
    j->gave_up = true;
    j->of->tally->gave_up++;
}

// A place that waits for rows may have to be done without only where something swallows rows.
static void check_waited_in_vain(const struct job *j) {
    bool rows = false, opening = false;
    for (int i = 0; i < j->of->c.n; i++) {
        rows |= j->spots[i].state == SPOT_PAUSING || j->spots[i].waits;
        opening |= j->spots[i].state == SPOT_ASKED;
    }
    bool fetching = j->fetched && !j->told; // slow rows are not waited for
    if (rows && !opening && !fetching && !j->of->c.holes)
        world_break(world_of(j), "job %d waited for rows in vain", j->index);
}

static void ring(void *job, void *serial) {
    struct job *j = job;
    if (*(uint64_t *)serial != j->timer) return;
    world_trace(world_of(j), "job %d: time", j->index);
    check_waited_in_vain(j);
    note_given_up(j, j->plan.prefill);
    j->timer++;
    j->timed = false;
    j->of->tally->timeouts++;
    begin_round(j);
    flow_time(j->flow);
    step(j);
}

static void on_timer(void *io, long ms) {
    struct job *j = io;
    j->timer++;
    j->timed = ms > 0;
    if (!ms) return;
    uint64_t *serial = must_alloc(sizeof *serial);
    *serial = j->timer;
    world_at(world_of(j), (uint64_t)ms * 1000, NULL, ring, j, serial);
}

// ---------------------------------------------------------------- the client
static void on_begin(void *io, const struct gen_begin *b) {
    struct job *j = io;
    if (j->begun || j->told || j->over) world_break(world_of(j), "job %d begins twice", j->index);
    if (b->prompt_tokens != j->n_prompt) world_break(world_of(j), "job %d: a prompt of another length", j->index);
    j->begun = true;
    j->begun_at = world_of(j)->now;
    j->cached = b->cached_tokens;
}

static void on_text(void *io, const char *text, size_t len, int32_t tokens) {
    struct job *j = io;
    world_trace(world_of(j), "job %d: token %d '%.*s'", j->index, (int)tokens, (int)len, text);
    if (!j->begun || j->over) world_break(world_of(j), "job %d: text before its beginning or after its end", j->index);
    if (tokens != j->told + 1)
        world_break(world_of(j), "job %d: token %d after %d", j->index, (int)tokens, (int)j->told);
    if (j->len + len > j->wanted.len || memcmp(j->wanted.text + j->len, text, len)) {
        world_break(world_of(j), "job %d: the text of token %d is wrong", j->index, (int)tokens);
        return;
    }
    j->len += len;
    j->told = tokens;
    begin_round(j);
}

// What one of the places has in its cache is computed by nobody, and travels only where the other lacks it.
static void check_nothing_twice(const struct job *j, int32_t cached) {
    int32_t most = j->n_prompt - cached + j->wanted.tokens - 1, least = j->gave_up ? 0 : most;
    int rows = j->of->c.rows_of[j->index], sent = j->of->c.sent_to[j->index][j->plan.prefill];
    if (!j->of->calm) return;
    if (!j->gave_up && cached != (j->fetched ? j->fetch_upto : j->cached))
        world_break(world_of(j), "job %d: it is said that %d rows were there", j->index, (int)cached);
    if (rows > most || rows < least)
        world_break(world_of(j), "job %d: %d rows were computed, %d were needed", j->index, rows, (int)most);
    if (sent > j->fetch_upto - j->fetch_from || (!j->gave_up && sent < j->fetch_upto - j->fetch_from))
        world_break(world_of(j), "job %d: %d rows were fetched, not %d", j->index, sent,
                    (int)(j->fetch_upto - j->fetch_from));
}

static void finish(struct job *j) {
    j->over = true;
    if (j->timed) world_break(world_of(j), "job %d is over, and its timer is set", j->index);
    for (int i = 0; i < j->of->c.n; i++)
        if (j->spots[i].state != SPOT_NONE)
            world_break(world_of(j), "job %d is over, but %s at place %d", j->index, spot_names[j->spots[i].state], i);
}

static void on_end(void *io, const struct gen_result *r) {
    struct job *j = io;
    const struct answer *a = &j->wanted;
    world_trace(world_of(j), "job %d: end", j->index);
    if (j->over) world_break(world_of(j), "job %d ends twice", j->index);
    if (j->len != a->len || r->finish != a->how || r->completion_tokens != a->tokens || j->told < a->tokens - 1)
        world_break(world_of(j), "job %d: not the whole answer", j->index);
    if (r->prompt_tokens != j->n_prompt || r->cached_tokens < j->cached || r->cached_tokens >= j->n_prompt)
        world_break(world_of(j), "job %d: figures of another job", j->index);
    check_nothing_twice(j, r->cached_tokens);
    finish(j);
    j->of->tally->ended++;
}

// Whether there is a place that was well all through this round, and has not said no.
static bool could_go_on(const struct job *j) {
    const struct cluster *c = &j->of->c;
    for (int i = 0; i < c->n; i++)
        if (j->spots[i].counts && c->linked[i] && c->places[i].well_since <= j->round_at) return true;
    return false;
}

static void on_fail(void *io, const struct err *why) {
    struct job *j = io;
    world_trace(world_of(j), "job %d: fail: %s", j->index, why->msg);
    if (why->code == ERR_NONE || !*why->msg) world_break(world_of(j), "job %d fails without a reason", j->index);
    if (j->over) world_break(world_of(j), "job %d ends twice", j->index);
    bool may_return = why->code == ERR_WORKER || why->code == ERR_UNREACHABLE || why->code == ERR_BUSY ||
                      (why->code == ERR_LIMIT && !j->of->refusals && !j->moved);
    if (j->begun && may_return && j->opens < 1 + FLOW_RETRIES)
        world_break(world_of(j), "job %d failed after %d opens: %s", j->index, j->opens, why->msg);
    bool own = (why->code == ERR_LIMIT || why->code == ERR_BUSY) && !j->begun; // of the first places that were asked
    if (!own && could_go_on(j))
        world_break(world_of(j), "job %d failed, though a place was well: %s", j->index, why->msg);
    finish(j);
    j->of->tally->failed++;
}

// ---------------------------------------------------------------- what the places say
static struct job *job_of(struct gateway *g, int place, uint64_t sequence) {
    for (int i = 0; i < g->n_jobs; i++)
        if (g->jobs[i].flow && g->jobs[i].spots[place].state != SPOT_NONE &&
            g->jobs[i].spots[place].sequence == sequence)
            return &g->jobs[i];
    return NULL;
}

static void spot_lost(struct job *j, int place) {
    struct spot *s = &j->spots[place];
    j->of->tally->losses[s->state]++;
    j->upset = true;
    leave(s);
}

static void on_cut_news(struct gateway *g, const struct news *n) {
    for (int place = 0; place < g->c.n; place++) {
        struct job *j = job_of(g, place, n->sequence); // at the place that rows are for
        if (!j) continue;
        g->tally->cuts++;
        note_given_up(j, place);
        flow_cut(j->flow, place, &n->why);
        j->cut = !j->over && j->spots[place].state == SPOT_ASKED; // it was opened anew
        return;
    }
}

static void on_opened(struct job *j, const struct news *n) {
    struct gen_begin b = {.prompt_tokens = n->n, .cached_tokens = n->cached, .tokens = n->tokens};
    j->spots[n->place].state = SPOT_HELD;
    j->spots[n->place].upto = n->cached;
    j->spots[n->place].takes = n->credits > 0;
    j->spots[n->place].least = INT32_MAX;
    j->spots[n->place].still = 0;
    if (j->told && n->place == j->plan.decode && world_of(j)->now > j->begun_at + 2000000) j->of->tally->late++;
    flow_opened(j->flow, n->place, &b);
}

// The place that was left is free once the other has spoken.
static void check_left(const struct job *j) {
    for (int i = 0; i < j->of->c.n; i++)
        if (i != j->moved_to && j->spots[i].state != SPOT_NONE)
            world_break(world_of(j), "job %d has left place %d, and still holds it", j->index, i);
}

static void on_text_news(struct job *j, const struct news *n) {
    if (n->count != j->told + 1)
        world_break(world_of(j), "job %d: place %d tells token %d after %d", j->index, n->place, (int)n->count,
                    (int)j->told);
    j->spots[n->place].waits = false;
    flow_text(j->flow, n->place, n->text.text, (size_t)n->text.len, n->count, n->token);
    if (j->moved && n->place == j->moved_to) check_left(j);
}

static bool speaker_runs(const struct job *j) {
    int speaker = flow_speaker(j->flow);
    return speaker >= 0 && j->spots[speaker].state == SPOT_RUNNING;
}

static void note_whole(struct job *j, struct spot *s) {
    if (s->state != SPOT_HELD || !speaker_runs(j) || !j->told || s->upto < j->n_prompt) return;
    int32_t lag = j->n_prompt + j->told - 1 - s->upto;
    s->still = lag <= s->least / 2 ? 0 : s->still + 1;
    if (!s->still) s->least = lag;
}

// However far behind a place stays, it is handed to.
static void check_patience(const struct job *j, const struct spot *s) {
    if (s->state == SPOT_HELD && speaker_runs(j) && s->still >= FLOW_STILL)
        world_break(world_of(j), "job %d is never handed over", j->index);
}

static void on_installed(struct job *j, const struct news *n) {
    struct spot *s = &j->spots[n->place];
    s->upto = n->upto;
    note_whole(j, s);
    if (j->fetched && n->place == j->plan.prefill && n->upto >= j->fetch_upto) j->spots[n->place].waits = false;
    flow_installed(j->flow, n->place, n->upto);
    if (!j->over) check_patience(j, s);
}

static void on_ended(struct job *j, const struct news *n) {
    struct gen_result r = {
        .finish = n->how, .prompt_tokens = n->n, .cached_tokens = n->cached, .completion_tokens = n->count};
    if (j->of->calm && j->handed && n->place != j->plan.decode)
        world_break(world_of(j), "job %d was handed over, and ended at place %d", j->index, n->place);
    leave(&j->spots[n->place]);
    flow_ended(j->flow, n->place, &r);
}

static void on_failed(struct job *j, const struct news *n) {
    if (n->why.code == ERR_BUSY || n->why.code == ERR_LIMIT) j->spots[n->place].counts = false;
    spot_lost(j, n->place);
    flow_failed(j->flow, n->place, &n->why);
}

static void on_paused(struct job *j, const struct news *n) {
    j->spots[n->place].state = SPOT_PAUSED;
    flow_paused(j->flow, n->place, n->count, n->past);
}

// What nobody asked for, and nobody may believe.
static void stray(struct job *j) {
    struct world *w = world_of(j);
    int place = (int)world_below(w, (uint64_t)j->of->c.n);
    struct spot *s = &j->spots[place];
    struct err why;
    err_set(&why, ERR_WORKER, "made up");
    if (s->state == SPOT_NONE) {
        struct gen_begin b = {.prompt_tokens = 3, .tokens = j->prompt};
        flow_opened(j->flow, place, &b);
        flow_failed(j->flow, place, &why);
        flow_cut(j->flow, place, &why);
    }
    if (s->state != SPOT_PAUSING) flow_paused(j->flow, place, j->told, j->n_prompt);
    if (place != flow_speaker(j->flow)) flow_text(j->flow, place, "?", 1, j->told + 1, 7);
    if (j->told) flow_text(j->flow, place, "?", 1, j->told, 7);
    flow_installed(j->flow, PLACES + 1, MODEL_MOST);
}

static void on_heard(void *arg, const struct news *n) {
    static void (*const handlers[])(struct job *, const struct news *) = {
        [NEWS_OPENED] = on_opened, [NEWS_TEXT] = on_text_news, [NEWS_PAUSED] = on_paused,
        [NEWS_ENDED] = on_ended,   [NEWS_FAILED] = on_failed,  [NEWS_INSTALLED] = on_installed,
    };
    struct gateway *g = arg;
    struct job *j = n->kind == NEWS_CUT ? NULL : job_of(g, n->place, n->sequence);
    if (n->kind == NEWS_CUT) on_cut_news(g, n);
    if (!j) return; // dropped meanwhile
    handlers[n->kind](j, n);
    if (g->strays && world_chance(&g->c.w, 20)) stray(j);
    step(j);
}

static void on_lost(void *arg, int place) {
    struct gateway *g = arg;
    struct err why;
    err_set(&why, ERR_UNREACHABLE, "place %d does not answer", place);
    g->c.linked[place] = false;
    for (int i = 0; i < g->n_jobs; i++) {
        struct job *j = &g->jobs[i];
        if (!j->flow || j->spots[place].state == SPOT_NONE) continue;
        spot_lost(j, place);
        flow_failed(j->flow, place, &why);
        step(j);
    }
}

// ---------------------------------------------------------------- jobs
void gateway_init(struct gateway *g) {
    g->c.heard = on_heard;
    g->c.lost = on_lost;
    g->c.arg = g;
}

void gateway_begin(struct gateway *g, struct job *j) {
    static const struct flow_io io = {.open = on_open,
                                      .stream = on_stream,
                                      .cut = on_cut,
                                      .start = on_start,
                                      .pause = on_pause,
                                      .another = on_another,
                                      .drop = on_drop,
                                      .timer = on_timer,
                                      .begin = on_begin,
                                      .text = on_text,
                                      .end = on_end,
                                      .fail = on_fail};
    struct err e = {.code = ERR_NONE};
    j->over = g->dead;
    if (g->dead) return;
    model_answer(j->prompt, j->n_prompt, j->seed, j->most, &j->wanted);
    world_trace(&g->c.w, "job %d: %d tokens, then %d; places %d and %d%s", j->index, (int)j->n_prompt,
                (int)j->wanted.tokens, j->plan.prefill, j->plan.decode, j->plan.zero_stall ? ", zero stall" : "");
    begin_round(j);
    g->tally->jobs++;
    j->flow = flow_new(&j->plan, &io, j, &e);
    if (!j->flow) on_fail(j, &e);
}

void gateway_leave(struct gateway *g, struct job *j) {
    if (!j->flow || j->over) return;
    world_trace(&g->c.w, "job %d: the client leaves", j->index);
    flow_free(j->flow);
    j->flow = NULL;
    j->left = true;
    finish(j);
    g->tally->left++;
}

void gateway_die(struct gateway *g) {
    if (g->dead) return;
    g->dead = true;
    g->tally->deaths++;
    fault_gateway(&g->c);
    for (int i = 0; i < g->n_jobs; i++) gateway_leave(g, &g->jobs[i]);
}

void gateway_move(struct gateway *g, struct job *j, int to) {
    struct err e;
    if (!j->flow || j->over) return;
    world_trace(&g->c.w, "job %d: move to place %d", j->index, to);
    if (flow_move(j->flow, to, &e)) return;
    j->moved = true;
    j->moved_to = to;
    g->tally->moved++;
}

void gateway_close(struct gateway *g) {
    for (int i = 0; i < g->n_jobs; i++) flow_free(g->jobs[i].flow);
}

#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "serve/authority.h"
#include "serve/course_internal.h"
#include "serve/evidence.h"
#include "serve/node.h"
#include "trust/policy_subject.h"

#include <stdlib.h>
#include <string.h>

static const double HEAD_SHARE = 0.02; // of the time that the prompt takes, the wait for the decode node

// ---------------------------------------------------------------- the flow may end the course it belongs to
static void enter(struct course *c) { c->depth++; }

static void leave(struct course *c) {
    if (--c->depth || !c->freed) return;
    flow_free(c->flow); // drops what is open
    TAILQ_REMOVE(&c->s->courses, c, next);
    if (c->timer) event_free(c->timer);
    gen_request_free(&c->gen);
    free(c->who);
    passes_free(&c->passes);
    evidence_release(c->record);
    free(c);
}

void course_free(struct course *c) {
    if (!c) return;
    enter(c);
    c->freed = true;
    leave(c);
}

struct trace *course_trace(struct course *c) {
    return &c->trace;
}

static void note(struct seat *seat, enum trace_event event, int64_t value) {
    trace_add(&seat->course->trace, clock_mono_ns(), seat->shown_as, event, value);
}

static void note_reason(struct seat *seat, enum trace_event event, const struct err *why) {
    trace_add_reason(&seat->course->trace, clock_mono_ns(), seat->shown_as, event, why->msg);
}

static const char *name_of(const struct seat *seat) { return seat->course->trace.nodes[seat->shown_as]; }

// A move has come to an end; why: it failed.
static void arrive(struct seat *seat, const struct err *why) {
    struct course *c = seat->course;
    if (c->goal != seat) return;
    c->goal = NULL;
    if (why) c->astray = *why;
}

// ---------------------------------------------------------------- what the places tell
static void on_failed(void *arg, const struct err *why);

// As long as this place would make the answer, but no longer than was asked for, whatever it says.
static int32_t answer_tokens(const struct course *c, const struct gen_begin *b) {
    bool fewer = b->answer_tokens > 0 && (c->gen.max_tokens < 0 || b->answer_tokens < c->gen.max_tokens);
    return fewer || c->gen.max_tokens < 0 || c->gen.max_tokens > INT32_MAX ? b->answer_tokens
                                                                           : (int32_t)c->gen.max_tokens;
}

static void open_here(struct seat *seat, const struct place_opened *o) {
    struct course *c = seat->course;
    struct gen_begin begin = o->begin;
    begin.answer_tokens = answer_tokens(c, &o->begin);
    seat->credits = o->credits;
    seat->opened = true;
    seat->rows = o->begin.cached_tokens;
    if (o->whole) flow_whole(c->flow);
    if (!c->contract[0]) {
        snprintf(c->contract, sizeof c->contract, "%s", o->contract);
        snprintf(c->weights, sizeof c->weights, "%s", o->weights);
        if (begin.answer_tokens) c->gen.max_tokens = begin.answer_tokens;
    }
    char *emulated = c->trace.emulated[seat->shown_as];
    text_escape(emulated, sizeof *c->trace.emulated, o->emulated);
    note(seat, TRACE_OPENED, o->begin.prompt_tokens);
    enter(c);
    flow_opened(c->flow, seat->index, &begin);
    leave(c);
}

static bool has_room(const struct seat *seat, const struct place_opened *o, struct err *why) {
    long long wanted = seat->course->gen.max_tokens, room = o->begin.answer_tokens;
    if (seat->course->goal != seat || !room || room >= wanted) return true;
    err_set(why, ERR_LIMIT, "the answer may have %lld tokens, and the context there holds %lld: raise ctx there",
            wanted, room);
    return false;
}

static void on_opened(void *arg, const struct place_opened *o) {
    struct seat *seat = arg;
    struct err why;
    if (has_room(seat, o, &why))
        open_here(seat, o);
    else
        on_failed(seat, &why);
}

// Of a node that is one too many, nothing is kept.
static struct work *work_of(const struct seat *seat) {
    static struct work nowhere;
    struct course *c = seat->course;
    for (size_t i = 0; i < c->n_works; i++)
        if (!strcmp(c->works[i].node, seat->node)) return &c->works[i];
    if (c->n_works == COURSE_WORKS) return &nowhere;
    struct work *w = &c->works[c->n_works++];
    *w = (struct work){.read = false};
    memcpy(w->node, seat->node, sizeof w->node);
    memcpy(w->emulated, c->trace.emulated[seat->shown_as], sizeof w->emulated);
    return w;
}

static void on_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t id) {
    struct seat *seat = arg;
    struct course *c = seat->course;
    if (!seat->spoken) note(seat, TRACE_TOKEN, tokens);
    arrive(seat, NULL);
    seat->spoken = true;
    c->heard = seat;
    enter(c);
    flow_text(c->flow, seat->index, text, len, tokens, id);
    leave(c);
}

// What the other place, which sends to this one, has done so far. Where that is not known here, its first frame counts
// as sent when it came.
static void note_sender(struct seat *seat, uint64_t came_ns) {
    struct seat *from = &seat->course->seats[1 - seat->index];
    struct flow_figures now;
    bool known = from->place && place_sent(from->place, &now) && now.begun_ns;
    if (seat->shown_as && (known || came_ns)) trace_sent_from(&seat->course->trace, known ? now.begun_ns : came_ns);
    if (!seat->shown_as || !known) return;
    if (now.upto > from->computed) note(from, TRACE_COMPUTED, now.upto);
    if (now.bytes > from->sent) note(from, TRACE_SENT, (int64_t)now.bytes);
    from->computed = now.upto;
    from->sent = now.bytes;
}

static void on_installed(void *arg, int32_t upto, uint64_t bytes, uint64_t came_ns, const char *wire) {
    struct seat *seat = arg;
    struct course *c = seat->course;
    if (upto > seat->rows) seat->rows = upto;
    c->trace.kv_bytes += bytes > seat->bytes ? bytes - seat->bytes : 0;
    seat->bytes = bytes;
    if (*wire) snprintf(c->trace.wire, sizeof c->trace.wire, "%s", wire);
    note_sender(seat, came_ns);
    note(seat, TRACE_INSTALLED, upto);
    enter(c);
    flow_installed(c->flow, seat->index, upto);
    leave(c);
}

static void on_paused(void *arg, int32_t tokens, int32_t past) {
    struct seat *seat = arg;
    struct course *c = seat->course;
    note(seat, TRACE_PAUSED, past);
    enter(c);
    flow_paused(c->flow, seat->index, tokens, past);
    leave(c);
}

static void on_cut(void *arg, bool arriving, const struct err *why) {
    struct seat *seat = arg;
    struct course *c = seat->course;
    log_info("'%s': the KV stream of %s ended early: %s", c->model, name_of(seat), why->msg);
    note_reason(seat, TRACE_CUT, why);
    enter(c);
    flow_cut(c->flow, arriving || c->single ? seat->index : 1 - seat->index, why);
    leave(c);
}

// It has told its last.
static void vacate(struct seat *seat) {
    place_drop(seat->place);
    seat->place = NULL;
}

static void on_ended(void *arg, const struct gen_result *r) {
    struct seat *seat = arg;
    struct course *c = seat->course;
    note(seat, TRACE_ENDED, r->completion_tokens);
    vacate(seat);
    enter(c);
    c->ending = true;
    flow_ended(c->flow, seat->index, r);
    c->ending = false;
    leave(c);
}

static void on_failed(void *arg, const struct err *why) {
    struct seat *seat = arg;
    struct course *c = seat->course;
    log_info("'%s': %s is done without: %s", c->model, name_of(seat), why->msg);
    note_reason(seat, TRACE_FAILED, why);
    permits_refused(seat, why);
    arrive(seat, why);
    struct err reason = *why;
    vacate(seat);
    enter(c);
    flow_failed(c->flow, seat->index, &reason);
    leave(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    struct course *c = arg;
    (void)fd, (void)what;
    c->round++;
    enter(c);
    flow_time(c->flow);
    leave(c);
}

// ---------------------------------------------------------------- what the flow orders
static void seat_at_node(struct seat *seat, const char *node) {
    struct course *c = seat->course;
    char name[sizeof *c->trace.nodes];
    snprintf(seat->node, sizeof seat->node, "%s", node);
    node_name(c->s, node, name, sizeof name);
    seat->shown_as = trace_node(&c->trace, name);
    seat->reads_only = false;
}

static int open_place(struct seat *seat, struct place_spec *spec, int32_t n, int source, struct err *e) {
    static const struct place_events events = {on_opened, on_text,  on_installed, on_paused,
                                               on_cut,    on_ended, on_failed};
    if (permits_open(seat, n, source, &spec->ticket, e)) return -1;
    seat->asked_ns = clock_mono_ns();
    seat->place = place_open(seat->course->s, seat->node, spec, &events, seat, e);
    return seat->place ? 0 : -1;
}

static int io_open(void *io, int place, const int32_t *prompt, int32_t n, int source, struct err *e) {
    struct course *c = io;
    struct seat *seat = &c->seats[place];
    int rc = -1;
    c->opens++;
    placement_asked(&c->past, seat->node, c->round);
    struct gen_request gen = c->gen; // borrows all of it
    json_t *tokens = n ? json_ints(prompt, n) : NULL;
    if (n) {
        gen.kind = PROMPT_TOKENS;
        gen.prompt = tokens;
        gen.echo_prompt = false;
    }
    gen.show_tokens = true;
    gen.exact = !strcmp(c->wire, "f16");
    gen.hold = seat->held = !c->single || n;
    seat->stream = source >= 0 ? id_seed() >> 1 : 0;
    seat->spoken = seat->opened = seat->refused = false;
    seat->bytes = 0;
    struct place_spec spec = {.record = c->record,
                              .model = c->model,
                              .gen = &gen,
                              .contract = c->contract,
                              .weights = c->weights,
                              .from = source >= 0 ? c->seats[source].node : "",
                              .stream = seat->stream};
    if (n && !tokens)
        err_set(e, ERR_INTERNAL, "out of memory");
    else
        rc = open_place(seat, &spec, n, source, e);
    json_decref(tokens);
    if (rc) note_reason(seat, TRACE_FAILED, e);
    return rc;
}

static int io_another(void *io, int place) {
    struct course *c = io;
    bool begun = c->trace.prompt_tokens > 0;
    char node[NODE_ID];
    struct err why;
    if ((c->named && !begun) || placement_other(c->s, c->who, &c->past, c->round, node, &why)) return -1;
    for (int i = 0; i < FLOW_PLACES; i++)
        if (!strcmp(c->seats[i].node, node) && (!i || !c->single)) return i;
    seat_at_node(&c->seats[place], node);
    log_info("'%s': a job is tried at %s", c->model, name_of(&c->seats[place]));
    return place;
}

// Where nobody has said what rows travel as, those of the planned transfer do as it was planned.
static const char *wire_between(const struct course *c, const struct seat *from, const struct seat *to) {
    bool planned = c->trace.plan.made && !from->shown_as && to->shown_as == 1;
    return c->wire[0] || !planned ? c->wire : c->trace.plan.wire;
}

static int io_stream(void *io, int from, int to, int32_t first, struct err *e) {
    struct course *c = io;
    struct seat *seat = &c->seats[to];
    struct place_target target = {.node = seat->node,
                                  .stream = seat->stream,
                                  .first = first,
                                  .credits = seat->credits,
                                  .wire = wire_between(c, &c->seats[from], seat)};
    note(seat, TRACE_STREAM, first);
    if (!target.credits) err_set(e, ERR_INVALID, "that node cannot take rows");
    if (target.credits && !permits_stream(&c->seats[from], seat, e) && !place_stream(c->seats[from].place, &target, e))
        return 0;
    note_reason(seat, TRACE_CUT, e);
    return -1;
}

static void io_cut(void *io, int from) {
    struct course *c = io;
    if (c->seats[from].place) place_cut(c->seats[from].place);
}

// The order `rc` is of has failed: the flow drops the place for it.
static int obeyed(struct seat *seat, int rc, const struct err *e) {
    if (rc) note_reason(seat, TRACE_FAILED, e);
    seat->refused = rc;
    return rc;
}

static int io_start(void *io, int place, const int32_t *generated, int32_t n, int32_t from, struct err *e) {
    struct course *c = io;
    struct seat *seat = &c->seats[place];
    note(seat, TRACE_STARTED, n);
    seat->spoken = false;
    if (permits_start(seat, from, e)) return obeyed(seat, -1, e);
    if ((from > seat->rows ? from : seat->rows) + 1 < c->trace.prompt_tokens) work_of(seat)->read = true;
    if (!seat->held && !n) return 0; // it computes since it was opened
    return obeyed(seat, place_start(seat->place, generated, n, from, e), e);
}

static int io_pause(void *io, int place, struct err *e) {
    struct course *c = io;
    struct seat *seat = &c->seats[place];
    seat->held = true; // from now on it computes when it is started
    return obeyed(seat, place_pause(seat->place, e), e);
}

static void note_dropped(struct seat *seat) {
    struct err why;
    if (seat->opened) {
        note(seat, TRACE_DROPPED, 0);
        return;
    }
    err_set(&why, ERR_BUSY, "after %.0f ms it was not open yet", (double)(clock_mono_ns() - seat->asked_ns) / 1e6);
    note_reason(seat, TRACE_DROPPED, &why);
}

static void io_drop(void *io, int place) {
    struct course *c = io;
    struct seat *seat = &c->seats[place];
    if (seat->place && !seat->refused && !c->ending && !c->freed) note_dropped(seat);
    vacate(seat);
    arrive(seat, NULL);
}

static void io_timer(void *io, long ms) {
    struct course *c = io;
    struct timeval after = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    if (ms > 0 ? event_add(c->timer, &after) : event_del(c->timer)) log_error("a timer could not be set");
}

static void io_begin(void *io, const struct gen_begin *b) {
    struct course *c = io;
    c->trace.prompt_tokens = b->prompt_tokens;
    if (!c->freed) c->ev.begin(c->arg, b);
}

static void io_text(void *io, const char *text, size_t len, int32_t tokens) {
    struct course *c = io;
    c->round++;
    c->told = tokens;
    work_of(c->heard)->wrote++;
    if (!c->first_ns) c->first_ns = clock_mono_ns();
    if (!c->freed) c->ev.text(c->arg, text, len, tokens);
}

static void io_end(void *io, const struct gen_result *r) {
    struct course *c = io;
    c->trace.completion_tokens = r->completion_tokens;
    if (!c->freed) c->ev.end(c->arg, r);
}

static void io_fail(void *io, const struct err *why) {
    struct course *c = io;
    if (!c->freed) c->ev.fail(c->arg, why);
}

// ---------------------------------------------------------------- the beginning
static void seats_init(struct course *c, const struct course_spec *spec) {
    const char *nodes[FLOW_PLACES] = {spec->prefill, spec->decode};
    c->single = !strcmp(spec->prefill, spec->decode);
    for (int i = 0; i < FLOW_PLACES; i++) {
        c->seats[i].course = c;
        c->seats[i].index = i;
        if (!i || !c->single) seat_at_node(&c->seats[i], nodes[i]);
    }
    c->seats[0].reads_only = spec->reads_only && !c->single;
}

static struct policy_subject *copy_subject(const struct policy_subject *who, const char *model) {
    static const struct policy_subject nobody = {.n = 0};
    struct policy_subject whole = who ? *who : nobody;
    whole.model = model;
    return policy_subject_copy(&whole);
}

// A decode node that has kept the beginning of the prompt is worth a wait; one of which that is not known, a short one.
static long head_ms(const struct trace_plan *p) {
    double ms = p->prefill_s * 1000 * HEAD_SHARE;
    return !p->made || p->fetches || ms >= FLOW_HEAD_MS ? FLOW_HEAD_MS : ms > 1 ? (long)ms : 1;
}

struct course *course_start(struct serve *s, const struct course_spec *spec, struct gen_request *gen,
                            const struct course_events *ev, void *arg, struct err *e) {
    static const struct flow_io io = {io_open, io_stream, io_cut,   io_start, io_pause, io_another,
                                      io_drop, io_timer,  io_begin, io_text,  io_end,   io_fail};
    struct course *c = calloc(1, sizeof *c);
    if (!c) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *c = (struct course){.s = s, .ev = *ev, .arg = arg, .gen = *gen, .named = spec->named, .round = 1};
    TAILQ_INSERT_TAIL(&s->courses, c, next);
    snprintf(c->model, sizeof c->model, "%s", spec->model);
    c->who = copy_subject(spec->who, c->model);
    c->record = evidence_hold(spec->record);
    passes_init(&c->passes, s, c->who, c->model);
    c->passes.req_id = evidence_req_id(c->record);
    memcpy(c->wire, spec->wire, sizeof c->wire);
    trace_begin(&c->trace, clock_mono_ns(), clock_wall_ns());
    snprintf(c->trace.model, sizeof c->trace.model, "%s", spec->model);
    c->trace.plan = spec->plan;
    seats_init(c, spec);
    struct flow_plan plan = {.prefill = 0,
                             .decode = c->single ? 0 : 1,
                             .zero_stall = spec->zero_stall,
                             .late = spec->late,
                             .reads_only = c->seats[0].reads_only};
    plan.decode_first = plan.reads_only && strcmp(spec->decode, spec->prefill) < 0; // one order for all jobs
    plan.head_ms = head_ms(&spec->plan);
    c->timer = evtimer_new(s->base, on_timer, c);
    c->flow = c->timer && c->who ? flow_new(&plan, &io, c, e) : NULL;
    if (!c->timer || !c->who) err_set(e, ERR_INTERNAL, "out of memory");
    if (!c->flow) {
        gen_request_init(&c->gen); // the caller keeps what it holds
        course_free(c);
        return NULL;
    }
    gen_request_init(gen);
    return c;
}

// ---------------------------------------------------------------- moving
struct course *course_next(const struct serve *s, const struct course *after) {
    return after ? TAILQ_NEXT(after, next) : TAILQ_FIRST(&s->courses);
}

const char *course_model(const struct course *c) { return c->model; }
const json_t *course_tickets(const struct course *c) { return c->passes.ids; }

json_t *course_computed(const struct course *c) {
    json_t *list = json_array();
    for (size_t i = 0; i < c->n_works; i++) {
        const struct work *w = &c->works[i];
        json_array_append_new(list, json_pack("{s:s,s:b,s:i,s:s*}", "node", w->node, "read", w->read, "wrote",
                                              (int)w->wrote, "emulated", w->emulated[0] ? w->emulated : NULL));
    }
    return list;
}
const struct policy_subject *course_who(const struct course *c) { return c->who; }

const char *course_node(const struct course *c) {
    int place = flow_speaker(c->flow);
    return place < 0 ? "" : c->seats[place].node;
}

// Whether rows are on their way to a place that is to go on.
static bool hands_over(const struct course *c, int speaker) {
    const struct seat *other = &c->seats[1 - speaker];
    return !c->single && other->place && other->stream && !other->spoken && c->seats[speaker].spoken;
}

void course_look(const struct course *c, uint64_t now_ns, struct course_view *out) {
    int speaker = flow_speaker(c->flow);
    const struct trace *t = &c->trace;
    double since_s = c->first_ns ? (double)(now_ns - c->first_ns) / 1e9 : 0;
    *out = (struct course_view){.id = t->id,
                                .agent = t->agent,
                                .model = c->model,
                                .prefill = name_of(&c->seats[0]),
                                .decode = name_of(&c->seats[c->single ? 0 : 1]),
                                .speaker = speaker < 0 ? "" : name_of(&c->seats[speaker]),
                                .phase = "waiting",
                                .prompt_tokens = t->prompt_tokens,
                                .tokens = c->told,
                                .age_s = (double)(now_ns - t->start_ns) / 1e9};
    if (t->prompt_tokens) out->phase = "prefill";
    if (c->told) out->phase = speaker >= 0 && hands_over(c, speaker) ? "hand-over" : "decode";
    if (c->told > 1 && since_s > 0) out->tokens_s = (c->told - 1) / since_s;
}

static int move_to(struct course *c, struct seat *seat, const char *node, struct err *e) {
    struct seat was = *seat;
    uint64_t opens = c->opens;
    seat_at_node(seat, node);
    int rc = flow_move(c->flow, seat->index, e);
    if (c->opens == opens) { // nothing was asked of the other node
        memcpy(seat->node, was.node, sizeof seat->node);
        seat->shown_as = was.shown_as;
    } else
        c->single = false;
    if (rc) return -1;
    c->goal = seat;
    return 0;
}

int course_move(struct course *c, const char *node, struct err *e) {
    int speaker = flow_speaker(c->flow);
    if (c->astray.code) {
        *e = c->astray;
        c->astray.code = ERR_NONE;
        return -1;
    }
    if (speaker < 0) return err_set(e, ERR_BUSY, "nothing of the job runs at the moment");
    if (c->goal) return err_set(e, ERR_BUSY, "the job is moving already");
    if (!strcmp(c->seats[speaker].node, node)) return err_set(e, ERR_INVALID, "the job is at that node already");
    if (authority_check(c->s, c->who, POLICY_DECODE, node, e) ||
        authority_check_kv(c->s, c->who, c->seats[speaker].node, node, e))
        return -1;
    enter(c);
    int rc = move_to(c, &c->seats[1 - speaker], node, e);
    leave(c);
    return rc;
}

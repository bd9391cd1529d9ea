// The whole life of a request: http -> parse -> tokens, where a choice depends on them -> placement -> course (prefill
// here or there, KV stream, decode) -> begin
// -> text... -> answer. It may end early: no place can go on (fail), or the client leaves (left), which stops the
// computation at once.
#include "serve/job.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/answer.h"
#include "serve/authority.h"
#include "serve/course.h"
#include "serve/evidence.h"
#include "serve/gate.h"
#include "serve/node.h"
#include "serve/placement.h"
#include "serve/planning.h"
#include "serve/question.h"
#include "serve/spending.h"
#include "serve/traces.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// TEMPLATE_TOKENS: beside its text, what a prompt may have at most before that is known.
enum { KEEP_ALIVE_SECONDS = 10, TEMPLATE_TOKENS = 512, WRITE_BYTES = LIMIT_ANSWER * 7 }; // every byte may need \u00XX

enum job_state {
    JOB_NEW,
    JOB_RECORDED,
    JOB_ASKING,
    JOB_QUEUED,
    JOB_PREFILL,
    JOB_DECODE,
    JOB_ANSWERED,
    JOB_FAILED,
    JOB_LEFT
};

struct job {
    struct call call;
    struct caller who; // asks
    enum job_state state;
    char model[LIMIT_MODEL_NAME + 1];
    struct api_request request;
    struct record *record; // in the audit log; nothing is done before it is durable
    char id[ID_SIZE];      // of the answer
    char prefill[NODE_ID], decode[NODE_ID];
    json_t *decision;              // of the policy on where it is computed; owned
    bool denied;                   // that it is a denial
    int32_t told;                  // tokens
    struct answer_figures figures; // of an answer that has ended
    struct err why;                // of one that failed
    struct spend *spend;           // of its agent's budgets; NULL: no limit concerns it
    struct question *question;     // what its prompt is in tokens, before it is placed
    struct course *course;
    struct answer answer;
    struct buf out;
    struct event *keep_alive; // streams: comments while nothing else is sent
    uint64_t started_ns, first_ns, last_ns;
    double prompt_bytes; // see planning_learn
};

#define MAY(state) (1u << (state))
static const unsigned may_follow[] = {
    [JOB_NEW] = MAY(JOB_RECORDED) | MAY(JOB_FAILED) | MAY(JOB_LEFT),
    [JOB_RECORDED] = MAY(JOB_ASKING) | MAY(JOB_QUEUED) | MAY(JOB_FAILED),
    [JOB_ASKING] = MAY(JOB_QUEUED) | MAY(JOB_FAILED) | MAY(JOB_LEFT),
    [JOB_QUEUED] = MAY(JOB_PREFILL) | MAY(JOB_DECODE) | MAY(JOB_ANSWERED) | MAY(JOB_FAILED) | MAY(JOB_LEFT),
    [JOB_PREFILL] = MAY(JOB_DECODE) | MAY(JOB_ANSWERED) | MAY(JOB_FAILED) | MAY(JOB_LEFT),
    [JOB_DECODE] = MAY(JOB_ANSWERED) | MAY(JOB_FAILED) | MAY(JOB_LEFT),
    [JOB_ANSWERED] = 0,
    [JOB_FAILED] = 0,
    [JOB_LEFT] = 0,
};

static void enter(struct job *j, enum job_state next) {
    bool allowed = may_follow[j->state] & MAY(next);
    assert(allowed);
    (void)allowed; // builds without assertions
    j->state = next;
}

// ---------------------------------------------------------------- what the audit log is told at the end
static json_t *figures_json(const struct job *j) {
    const struct trace *t = j->course ? course_trace(j->course) : NULL;
    const struct answer_figures *f = &j->figures;
    json_t *tickets = j->course ? json_deep_copy(course_tickets(j->course)) : NULL;
    json_t *computed = j->course ? course_computed(j->course) : NULL;
    return json_pack("{s:o*,s:o*,s:s,s:s,s:s,s:{s:i,s:i,s:i},s:{s:I,s:I,s:I,s:I,s:I},s:I}", "tickets", tickets,
                     "computed", computed, "model", j->model, "prefill", j->prefill, "decode", j->decode, "tokens",
                     "in", t ? (int)t->prompt_tokens : (int)f->prompt_tokens, "cached", (int)f->cached_tokens, "out",
                     j->state == JOB_ANSWERED ? (int)f->completion_tokens : j->told, "took", "queue",
                     (json_int_t)f->queue_ns, "prefill", (json_int_t)f->prefill_ns, "decode", (json_int_t)f->decode_ns,
                     "ttft", (json_int_t)f->ttft_ns, "total", (json_int_t)(clock_mono_ns() - j->started_ns), "kv_bytes",
                     (json_int_t)(t ? t->kv_bytes : 0));
}

// The end of what it has reserved of its agent's budgets.
static void job_settle(struct job *j) {
    bool answered = j->state == JOB_ANSWERED;
    if (j->spend) spend_settle(j->spend, answered ? j->figures.completion_tokens : j->told, j->state == JOB_LEFT);
}

static void job_account(struct job *j) {
    const struct err *why = j->why.code ? &j->why : NULL;
    const char *finish = "failed";
    if (!j->record) return;
    if (j->state == JOB_ANSWERED)
        finish = finish_name(j->figures.finish);
    else if (j->state == JOB_LEFT)
        finish = "cancelled";
    else if (why && why->code == ERR_DENIED)
        finish = "denied";
    json_t *facts = figures_json(j);
    if (facts && j->decision && json_object_update(facts, j->decision)) log_warn("out of memory for a record");
    if (facts && j->spend && json_object_set_new(facts, "charged", spend_charged_json(j->spend)))
        log_warn("out of memory for a record");
    bool own = !j->course || j->denied; // else another node has, and that is there already
    if (why && why->code == ERR_DENIED && own) evidence_note(j->record, ENTRY_DENY, json_incref(j->decision));
    evidence_end(j->record, finish, why, facts);
    j->record = NULL;
}

static void job_free(struct job *j) {
    j->call.s->metrics.active--;
    if (j->course) traces_keep(j->call.s->traces, course_trace(j->course));
    job_settle(j);
    job_account(j);
    course_free(j->course);
    question_drop(j->question);
    api_request_free(&j->request);
    answer_free(&j->answer);
    buf_free(&j->out);
    json_decref(j->decision);
    spend_free(j->spend);
    if (j->keep_alive) event_free(j->keep_alive);
    free(j);
}

// ---------------------------------------------------------------- what the client sees
// The head of a stream goes out with its first event, so that what fails before still has a status of its own.
static void begin_stream(struct job *j) {
    if (http_begun(j->call.x)) return;
    spend_tell(j->spend, j->call.x);
    call_begin(&j->call, "text/event-stream; charset=utf-8");
    if (answer_open(&j->answer, &j->out)) j->out.failed = true;
}

// Sends what has been put into `out`. A client that is gone or too slow is dropped by the server: `left` follows.
static int send_out(struct job *j) {
    int rc = j->out.failed ? -1 : 0;
    if (!rc && http_write(j->call.x, buf_str(&j->out), j->out.len)) log_debug("an answer was not taken");
    buf_clear(&j->out);
    return rc;
}

// Clients need not try again what a model cannot answer that has been given up.
static void advise(const struct call *c, const char *model) {
    struct engine_status status;
    const struct model *m = models_find(c->s->models, model);
    if (!m) return;
    engine_get_status(m->engine, &status);
    if (status.state == ENGINE_FAILED) http_add_header(c->x, "x-should-retry", "false");
}

static void finish_failed(struct job *j, const struct err *why) {
    j->why = *why;
    enter(j, JOB_FAILED);
    log_info("a request of %s for '%s' failed: %s (%s)", caller_id(&j->who), j->model, err_name(why->code), why->param);
    if (!http_begun(j->call.x)) {
        advise(&j->call, j->model);
        job_settle(j);
        spend_tell(j->spend, j->call.x);
        call_fail(&j->call, why);
    } else {
        json_t *error = call_error(why);
        buf_clear(&j->out);
        j->call.s->metrics.failed++;
        if (!error || answer_error(&j->out, error) || send_out(j))
            log_warn("out of memory telling a client of an error");
        json_decref(error);
        http_end(j->call.x);
    }
    job_free(j);
}

static void finish_exhausted(struct job *j, enum err_code code, const char *what) {
    struct err why;
    err_set(&why, code, "%s", what);
    finish_failed(j, &why);
}

static struct answer_figures figures_of(const struct job *j, const struct gen_result *r) {
    uint64_t now = clock_mono_ns();
    uint64_t first = j->first_ns ? j->first_ns : now, last = j->last_ns ? j->last_ns : now;
    struct answer_figures f = {.finish = r->finish,
                               .prompt_tokens = r->prompt_tokens,
                               .cached_tokens = r->cached_tokens,
                               .completion_tokens = r->completion_tokens,
                               .queue_ns = r->queue_ns,
                               .prefill_ns = r->prefill_ns,
                               .decode_ns = r->decode_ns,
                               .ttft_ns = first - j->started_ns,
                               .total_ns = now - j->started_ns,
                               .trace = course_trace(j->course)};
    if (f.trace->n_nodes > 1) { // r tells of the place that ended only
        f.prefill_ns = trace_prefill_ns(f.trace);
        f.decode_ns = last - first;
    }
    if (r->completion_tokens > 1) f.tpot_ns = (last - first) / (uint64_t)(r->completion_tokens - 1);
    return f;
}

static void count(struct metrics *m, const struct answer_figures *f) {
    m->tokens_in += (uint64_t)f->prompt_tokens;
    m->tokens_out += (uint64_t)f->completion_tokens;
    if (f->completion_tokens > 0) metrics_time(&m->ttft, f->ttft_ns);
    if (f->completion_tokens > 1) metrics_time(&m->tpot, f->tpot_ns);
}

// ---------------------------------------------------------------- what the course tells
// An agent that was revoked, or whose time is over, gets no further token of what runs. True: the job is gone.
static bool is_barred(struct job *j) {
    struct err why;
    const struct agent *g = j->who.agent;
    if (!g || agent_state(g, (int64_t)(clock_wall_ns() / NS_PER_S)) == AGENT_ACTIVE) return false;
    err_set(&why, ERR_DENIED, "the agent that asks has been revoked, or its time is over");
    finish_failed(j, &why);
    return true;
}

static void on_text(void *arg, const char *text, size_t len, int32_t tokens) {
    struct job *j = arg;
    if (is_barred(j)) return;
    j->told = tokens;
    if (j->state != JOB_DECODE) enter(j, JOB_DECODE);
    j->last_ns = clock_mono_ns();
    if (!j->first_ns) j->first_ns = j->last_ns;
    if (!len) return; // a token that ends no character yet, or may begin a stop string
    if (j->answer.stream) begin_stream(j);
    if (answer_text(&j->answer, &j->out, text, len))
        finish_exhausted(j, ERR_LIMIT, "the answer is too long: stream it");
    else if (j->answer.stream && send_out(j))
        finish_exhausted(j, ERR_INTERNAL, "out of memory");
}

static void on_begin(void *arg, const struct gen_begin *b) {
    struct job *j = arg;
    struct err why;
    if (j->state != JOB_QUEUED) return; // a worker that says so twice
    if (is_barred(j)) return;
    enter(j, JOB_PREFILL);
    if (spend_read(j->spend, b->prompt_tokens, b->answer_tokens, &why)) {
        finish_failed(j, &why);
        return;
    }
    if (!b->prompt_text) return;
    if (j->answer.stream) begin_stream(j);
    if (answer_text(&j->answer, &j->out, b->prompt_text, strlen(b->prompt_text)) || (j->answer.stream && send_out(j)))
        finish_exhausted(j, ERR_LIMIT, "the prompt is too long to be repeated");
}

static void on_end(void *arg, const struct gen_result *r) {
    struct job *j = arg;
    struct answer_figures f = figures_of(j, r);
    int rc;
    course_trace(j->course)->ttft_ns = f.ttft_ns;
    course_trace(j->course)->total_ns = f.total_ns;
    course_trace(j->course)->cached_tokens = f.cached_tokens;
    planning_learn(j->call.s, j->model, j->prompt_bytes, r);
    if (j->answer.stream) {
        begin_stream(j);
        rc = answer_close(&j->answer, &j->out, &f) || send_out(j);
    } else
        rc = answer_whole(&j->answer, &j->out, &f);
    if (rc) {
        finish_exhausted(j, ERR_INTERNAL, "out of memory");
        return;
    }
    enter(j, JOB_ANSWERED);
    j->figures = f;
    count(&j->call.s->metrics, &f);
    log_debug("%s: '%s' answered: %d + %d tokens, first after %.1f ms, %.1f ms in all", caller_id(&j->who), j->model,
              (int)f.prompt_tokens, (int)f.completion_tokens, (double)f.ttft_ns / 1e6, (double)f.total_ns / 1e6);
    if (j->answer.stream)
        http_end(j->call.x);
    else {
        metrics_answer(&j->call.s->metrics, j->call.route, 200);
        job_settle(j);
        spend_tell(j->spend, j->call.x);
        http_reply(j->call.x, 200, "application/json", j->out.data, j->out.len);
    }
    job_free(j);
}

static void on_fail(void *arg, const struct err *why) { finish_failed(arg, why); }

static void on_left(void *arg) {
    struct job *j = arg;
    enter(j, JOB_LEFT);
    j->call.s->metrics.cancelled++;
    job_free(j);
}

static void on_keep_alive(evutil_socket_t fd, short what, void *arg) {
    struct job *j = arg;
    (void)fd, (void)what;
    if (j->state == JOB_DECODE && clock_mono_ns() - j->last_ns < KEEP_ALIVE_SECONDS * NS_PER_S) return;
    begin_stream(j);
    buf_puts(&j->out, ": keep-alive\n\n");
    if (send_out(j)) finish_exhausted(j, ERR_INTERNAL, "out of memory");
}

// ---------------------------------------------------------------- the beginning
static int start_keep_alive(struct job *j, struct err *e) {
    if (!j->answer.stream) return 0;
    j->keep_alive = event_new(j->call.s->base, -1, EV_PERSIST, on_keep_alive, j);
    struct timeval every = {.tv_sec = KEEP_ALIVE_SECONDS};
    return j->keep_alive && !event_add(j->keep_alive, &every) ? 0 : err_set(e, ERR_INTERNAL, "out of memory");
}

static struct job *job_new(const struct call *c, struct api_request *r, struct err *e) {
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *j = (struct job){
        .call = *c, .who = *c->who, .started_ns = clock_mono_ns(), .prompt_bytes = planning_prompt_bytes(&r->gen)};
    j->call.who = &j->who;
    c->s->metrics.active++;
    id_make(r->kind == API_CHAT ? "chatcmpl-" : "cmpl-", j->id);
    buf_init(&j->out, WRITE_BYTES);
    j->request = *r;
    gen_request_init(&r->gen);
    return j;
}

// mode prefill=NODE decode=NODE ttft_ms=X total_ms=X, as predicted.
static void tell_plan(const struct call *c, const struct trace_plan *p) {
    char text[320];
    if (!p->made) return;
    snprintf(text, sizeof text, "%s prefill=%s decode=%s ttft_ms=%.1f total_ms=%.1f", p->mode, p->prefill, p->decode,
             p->ttft_s * 1e3, p->total_s * 1e3);
    http_add_header(c->x, "x-nebulus-plan", text);
}

static struct placement_wish wish_of(const struct call *c) {
    return (struct placement_wish){.prefill = http_header(c->x, "x-nebulus-prefill"),
                                   .decode = http_header(c->x, "x-nebulus-decode"),
                                   .wire = http_header(c->x, "x-nebulus-wire"),
                                   .handover = http_header(c->x, "x-nebulus-handover")};
}

// The prompt need not be tokenized once more.
static void use_tokens(struct gen_request *gen, const int32_t *tokens, int32_t n) {
    json_t *list = n && !gen->echo_prompt ? json_ints(tokens, n) : NULL;
    if (!list) return;
    json_decref(gen->prompt);
    json_decref(gen->template_args);
    gen->kind = PROMPT_TOKENS;
    gen->prompt = list;
    gen->template_args = NULL;
}

static int job_start(struct job *j, const struct course_spec *where, struct err *e) {
    static const struct course_events events = {on_begin, on_text, on_end, on_fail};
    if (answer_init(&j->answer, &j->request, j->id, where->model, (int64_t)(clock_wall_ns() / NS_PER_S), e) ||
        start_keep_alive(j, e))
        return -1;
    j->course = course_start(j->call.s, where, &j->request.gen, &events, j, e);
    if (!j->course) return -1;
    struct trace *t = course_trace(j->course);
    snprintf(t->id, sizeof t->id, "%s", j->answer.id);
    snprintf(t->agent, sizeof t->agent, "%s", caller_name(&j->who));
    enter(j, JOB_QUEUED);
    tell_plan(&j->call, &where->plan);
    return 0;
}

// Which rules have let it be read and written there, or have not.
static void note_decision(struct job *j, const struct authority_look *look, const struct course_spec *where,
                          struct policy_decision *d) {
    struct policy_decision also;
    snprintf(j->prefill, sizeof j->prefill, "%s", evidence_node(j->call.s, where->prefill));
    snprintf(j->decode, sizeof j->decode, "%s", evidence_node(j->call.s, where->decode));
    authority_decide(look, POLICY_PREFILL, where->prefill, d);
    authority_decide(look, POLICY_DECODE, where->decode, &also);
    policy_decision_join(d, &also);
    if (strcmp(where->prefill, where->decode) != 0) {
        authority_decide_kv(look, where->prefill, where->decode, &also);
        policy_decision_join(d, &also);
    }
    j->decision = evidence_decision(j->call.s, d);
    j->denied = !d->allow;
}

// How many tokens the prompt has at most. Where that is not known, none has less than a byte of what is said.
static int64_t most_prompt_tokens(const struct gen_request *gen, const struct question_answer *known) {
    if (known && known->n) return known->n;
    if (gen->kind == PROMPT_TOKENS) return (int64_t)json_array_size(gen->prompt) + 1;
    return (int64_t)planning_prompt_bytes(gen) + TEMPLATE_TOKENS;
}

// Reserves what the job may take of its agent's budgets, and limits its answer to what these have room for.
static int job_reserve(struct job *j, struct spend_wish *w, const struct question_answer *known, struct err *e) {
    const struct model *m = models_find(j->call.s->models, j->model);
    struct engine_status status;
    if (m) engine_get_status(m->engine, &status);
    w->record = j->record;
    w->prompt = most_prompt_tokens(&j->request.gen, known);
    w->room = m && status.state == ENGINE_READY ? status.info.ctx : 0;
    w->answer = j->request.gen.max_tokens;
    if (spend_begin(&j->call, w, &j->spend, e)) return -1;
    if (j->spend) j->request.gen.max_tokens = w->answer;
    return 0;
}

// May free j.
static void job_place(struct job *j, const struct question_answer *known) {
    struct placement_wish wish = wish_of(&j->call);
    struct gate_subject who;
    struct course_spec where = {.record = NULL};
    struct authority_look look;
    struct policy_decision decision;
    struct err why = {.code = ERR_NONE};
    if (known) {
        use_tokens(&j->request.gen, known->tokens, known->n);
        wish.tokens = known->tokens;
        wish.n_tokens = known->n;
        wish.kept = known->kept;
    }
    wish.gen = &j->request.gen;
    gate_subject(j->call.s, &j->who, &who);
    wish.who = &who.subject;
    int rc = placement_choose(j->call.s, j->request.model, &wish, j->model, &where, &why);
    struct policy_subject subject = who.subject;
    struct spend_wish spend = {.look = &look, .who = &subject, .decision = &decision};
    subject.model = j->model;
    authority_look(j->call.s, &subject, &look);
    note_decision(j, &look, &where, &decision);
    where.record = j->record;
    if (rc || job_reserve(j, &spend, known, &why) || job_start(j, &where, &why)) finish_failed(j, &why);
}

static void on_answer(void *arg, const struct question_answer *known) {
    struct job *j = arg;
    struct question *q = j->question;
    j->question = NULL;
    job_place(j, known);
    question_drop(q);
}

// Returns -1 where nothing is to be asked, also since the agent may have nothing read here.
static int job_ask(struct job *j) {
    char model[LIMIT_MODEL_NAME + 1];
    struct err why;
    struct gate_subject who;
    if (!question_matters(j->call.s, j->request.model, model) &&
        !(spending_counts_tokens(j->call.s) && question_possible(j->call.s, j->request.model, model)))
        return -1;
    gate_subject(j->call.s, &j->who, &who);
    who.subject.model = model;
    if (authority_check(j->call.s, &who.subject, POLICY_PREFILL, node_self(j->call.s), &why)) return -1;
    j->question = question_ask(j->call.s, model, &j->request.gen, on_answer, j, &why);
    if (!j->question) return -1; // where it can be placed at all it can be placed without
    enter(j, JOB_ASKING);
    return 0;
}

static void on_recorded(void *arg, const struct err *why) {
    struct job *j = arg;
    if (why) {
        finish_failed(j, why);
        return;
    }
    enter(j, JOB_RECORDED);
    if (job_ask(j)) job_place(j, NULL);
}

static int job_record(struct job *j, const char *body, size_t len, struct err *e) {
    struct evidence_intent i = {.req_id = j->id,
                                .agent = caller_name(&j->who),
                                .who = &j->who,
                                .part = "gateway",
                                .model = j->request.model,
                                .body = body,
                                .body_len = len};
    if (!(j->record = evidence_begin(j->call.s, &i, on_recorded, j, e))) return -1;
    char path[sizeof "/nebulus/v1/receipts/" + ID_SIZE];
    snprintf(path, sizeof path, "/nebulus/v1/receipts/%s", j->id);
    http_add_header(j->call.x, "x-nebulus-receipt", path);
    http_on_close(j->call.x, on_left, j);
    return 0;
}

static void begin(const struct call *c, enum api_kind kind) {
    struct api_request r;
    struct err why = {.code = ERR_NONE};
    size_t len;
    const char *body = http_body(c->x, &len);
    int rc = api_parse(kind, body, len, &r, &why);
    if (!rc && !r.seed_given) r.gen.sampling.seed = id_seed();
    struct job *j = rc ? NULL : job_new(c, &r, &why);
    api_request_free(&r);
    if (!j)
        call_fail(c, &why);
    else if (job_record(j, body, len, &why))
        finish_failed(j, &why);
}

void job_chat(const struct call *c) { begin(c, API_CHAT); }
void job_completion(const struct call *c) { begin(c, API_COMPLETION); }

#include "serve/orders.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/evidence.h"
#include "serve/node.h"
#include "serve/place.h"
#include "serve/site.h"
#include "serve/sitemsg.h"
#include "serve/tickets.h"
#include "serve/warrant.h"

#include <stdlib.h>
#include <string.h>

// A place on this node that another one has ordered.
struct ordered {
    struct serve *s;
    char by[NODE_ID];
    uint64_t n; // the gateway's number
    char model[LIMIT_MODEL_NAME + 1];
    struct place *place;
    char *open; // the order, while it waits for its turn or the audit log, and place is NULL; owned
    size_t open_size;
    uint64_t since_ns;     // it waits
    struct record *record; // in the audit log; NULL: it waits for its turn, or has ended
    const char *finish;    // static; NULL: it was dropped
    struct err why;
    json_t *facts;         // of its outcome; owned
    struct ticket *ticket; // by which it is ordered; owned
    json_t *decision;      // of this node's policy on that; owned; NULL: it was not asked
    int32_t prompt, rows;  // of the prompt, 0 = not open yet; rows that are there
    // It may only read: it is paused here after its first token, and that is told once its gateway has asked for it.
    bool reads_only; // by the ticket of its latest start: one that comes later widens nothing that runs
    bool halted, asked, paused;
    struct sitemsg_paused pause;
    TAILQ_ENTRY(ordered) next;
};

static void ordered_free(struct ordered *o) {
    place_drop(o->place);
    if (o->decision && !o->facts) o->facts = json_object();
    if (o->decision && json_object_update(o->facts, o->decision)) log_warn("out of memory for a record");
    evidence_end(o->record, o->finish ? o->finish : "dropped", o->why.code ? &o->why : NULL, o->facts);
    free(o->open);
    json_decref(o->decision);
    ticket_free(o->ticket);
    TAILQ_REMOVE(&o->s->ordered, o, next);
    free(o);
}

static void admit(struct serve *s, const char *by);

// It has ended: another one of that member may have its turn.
static void ordered_end(struct ordered *o) {
    struct serve *s = o->s;
    char by[NODE_ID];
    memcpy(by, o->by, sizeof by);
    ordered_free(o);
    admit(s, by);
}

// ---------------------------------------------------------------- what the gateway is told
// Takes msg over.
static int say(const struct ordered *o, json_t *msg, struct err *e) {
    int rc = -1;
    if (!msg || json_object_set_new(msg, "n", json_integer((json_int_t)o->n)))
        err_set(e, ERR_INTERNAL, "out of memory telling node %.8s about its request", o->by);
    else
        rc = node_send(o->s, o->by, msg, e);
    json_decref(msg);
    return rc;
}

// The last word about a place. Where not even that can be said, the link ends, so that its end says it.
static void say_failed(const struct ordered *o, const struct err *why) {
    struct err e;
    if (say(o, sitemsg_write_error("site.failed", why), &e)) node_cut(o->s, o->by, &e);
}

// Takes msg over. A word that is missing makes the place useless: the gateway hears that it failed, and o is gone.
static void tell(struct ordered *o, json_t *msg) {
    struct err why;
    if (!say(o, msg, &why)) return;
    say_failed(o, &why);
    ordered_end(o);
}

// Why this node would not, for the audit log; t is NULL where nobody vouches for it.
static json_t *denial(const char *by, const struct ticket *t, const struct err *why) {
    json_t *o = json_pack("{s:s, s:s, s:s, s:s}", "decision", "deny", "gateway", by, "reason",
                          why->param[0] ? why->param : "policy", "why", why->msg);
    json_t *said =
        t ? json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "ticket", t->nonce, "req_id", t->req_id, "agent",
                      t->who->lineage->id, "model", t->model, "prefill", t->prefill.node, "decode", t->decode.node)
          : NULL;
    if (o && said && json_object_update(o, said)) log_warn("out of memory for a record");
    json_decref(said);
    return o;
}

static bool is_denial(const struct err *why) {
    return why->code == ERR_DENIED || !strncmp(why->param, "ticket_", sizeof "ticket_" - 1);
}

// How it ends, for the audit log.
static void note_failed(struct ordered *o, const struct err *why) {
    bool denied = is_denial(why);
    o->finish = denied ? "denied" : "failed";
    o->why = *why;
    if (!denied) return;
    json_t *facts = denial(o->by, o->ticket, why), *now = warrant_decision(o->s, o->ticket);
    if (facts && json_object_update_missing(facts, now)) log_warn("out of memory for a record");
    json_decref(now);
    evidence_note(o->record, ENTRY_DENY, facts);
    log_info("a place that node %.8s has ordered is refused: %s", o->by, why->msg);
}

static void on_failed(void *arg, const struct err *why) {
    struct ordered *o = arg;
    struct err told = *why;
    note_failed(o, why);
    if (o->s->stopping) told.code = ERR_UNREACHABLE; // its gateway may go on elsewhere
    say_failed(o, &told);
    ordered_end(arg);
}

static void on_opened(void *arg, const struct place_opened *p) {
    struct ordered *o = arg;
    struct err why;
    o->prompt = p->begin.prompt_tokens;
    o->rows = p->begin.cached_tokens;
    if (warrant_model(o->ticket, p->weights, &why))
        on_failed(o, &why);
    else
        tell(o, sitemsg_write_opened(p));
}

static int halt(struct ordered *o, struct err *e) {
    if (o->halted || !o->reads_only) return 0;
    o->halted = true;
    return place_pause(o->place, e);
}

static void on_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t id) {
    struct ordered *o = arg;
    struct err why;
    if (halt(o, &why))
        on_failed(o, &why);
    else
        tell(o, sitemsg_write_text(&(struct sitemsg_text){text, len, tokens, id}));
}

static void on_installed(void *arg, int32_t upto, uint64_t bytes, uint64_t came_ns, const char *wire) {
    struct ordered *o = arg;
    uint64_t age_us = came_ns ? (clock_mono_ns() - came_ns) / 1000 : 0;
    if (upto > o->rows) o->rows = upto;
    tell(o, sitemsg_write_installed(&(struct sitemsg_installed){upto, bytes, age_us, wire}));
}

static void on_paused(void *arg, int32_t tokens, int32_t past) {
    struct ordered *o = arg;
    o->pause = (struct sitemsg_paused){tokens, past};
    o->paused = true;
    if (!o->halted || o->asked) tell(o, sitemsg_write_paused(&o->pause));
}

static void on_cut(void *arg, bool arriving, const struct err *why) {
    tell(arg, sitemsg_write_error(arriving ? "site.starved" : "site.broken", why));
}

static void on_ended(void *arg, const struct gen_result *r) {
    struct err why;
    struct ordered *o = arg;
    o->finish = finish_name(r->finish);
    o->facts =
        json_pack("{s:{s:i,s:i,s:i},s:{s:I,s:I,s:I}}", "tokens", "in", (int)r->prompt_tokens, "cached",
                  (int)r->cached_tokens, "out", (int)r->completion_tokens, "took", "queue", (json_int_t)r->queue_ns,
                  "prefill", (json_int_t)r->prefill_ns, "decode", (json_int_t)r->decode_ns);
    if (say(arg, sitemsg_write_ended(r), &why)) say_failed(arg, &why);
    ordered_end(arg);
}

// ---------------------------------------------------------------- what it orders
static int check_open(const struct serve *s, const char *by, uint64_t n, struct err *e) {
    const struct ordered *one;
    size_t count = 0, waiting = 0;
    if (s->stopping) return err_set(e, ERR_UNREACHABLE, "this node is stopping");
    TAILQ_FOREACH(one, &s->ordered, next) {
        if (strcmp(one->by, by)) continue;
        if (one->n == n) return err_set(e, ERR_INVALID, "number %llu is taken", (unsigned long long)n);
        count++;
        waiting += one->open != NULL;
    }
    if (count >= ORDERS_MOST) return err_set(e, ERR_BUSY, "%zu requests of that node are open already", count);
    if (waiting < ORDERS_WAITING) return 0;
    return err_set(
        e, ERR_BUSY,
        "that node has its share of this one's sequences already, and %zu more requests wait: try again later",
        waiting);
}

static long share(const struct serve *s) {
    long all = s->settings.parallel, spare = all / ORDERS_SPARE > 1 ? all / ORDERS_SPARE : 1;
    return all > spare ? all - spare : 1;
}

static bool has_its_share(const struct serve *s, const struct ordered *o) {
    const struct ordered *one;
    long n = 0;
    TAILQ_FOREACH(one, &s->ordered, next)
    n += (one->place || one->record) && !strcmp(one->by, o->by) && !strcmp(one->model, o->model);
    return n >= share(s);
}

// What is ordered is what the ticket says, and what this node's policy lets be done.
static int read_order(struct ordered *o, const json_t *msg, struct place_spec *spec, struct gen_request *gen,
                      struct err *e) {
    bool rows;
    if (sitemsg_read_open(msg, spec, gen, e)) return -1;
    spec->record = o->record;
    o->decision = warrant_decision(o->s, o->ticket);
    if (warrant_open(o->s, o->ticket, spec, &rows, e)) return -1;
    if (!rows) spec->from = "";
    return 0;
}

static void open_place(struct ordered *o, const json_t *msg) {
    static const struct place_events events = {on_opened, on_text,  on_installed, on_paused,
                                               on_cut,    on_ended, on_failed};
    struct place_spec spec;
    struct gen_request gen;
    struct err why;
    gen_request_init(&gen);
    if (read_order(o, msg, &spec, &gen, &why) || !(o->place = site_open(o->s, &spec, &events, o, &why))) {
        note_failed(o, &why);
        say_failed(o, &why);
        ordered_end(o); // its place in that member's share is free again
    }
    gen_request_free(&gen);
}

static void on_recorded(void *arg, const struct err *why) {
    struct ordered *o = arg;
    struct err bad;
    json_t *msg = why ? NULL : json_parse(o->open, o->open_size, &bad);
    if (!msg) {
        on_failed(o, why ? why : &bad);
        return;
    }
    free(o->open);
    o->open = NULL;
    o->open_size = 0;
    open_place(o, msg);
    json_decref(msg);
}

// The order is opened once it is in the audit log.
static void record_order(struct ordered *o) {
    struct err why;
    const struct evidence_intent i = {.req_id = o->ticket->req_id,
                                      .agent = o->ticket->who->lineage->id,
                                      .ticket = o->ticket->nonce,
                                      .part = "place",
                                      .gateway = o->by,
                                      .model = o->model};
    if ((o->record = evidence_begin(o->s, &i, on_recorded, o, &why))) return;
    say_failed(o, &why);
    ordered_free(o);
}

// Opens what waits, as far as that member's share goes.
static void admit(struct serve *s, const char *by) {
    struct ordered *o, *after;
    for (o = TAILQ_FIRST(&s->ordered); o; o = after) {
        after = TAILQ_NEXT(o, next);
        if (!o->open || o->record || strcmp(o->by, by) != 0 || has_its_share(s, o)) continue;
        record_order(o);
    }
}

// One model has one name here, whatever it was called.
static void name_model(struct ordered *o, const json_t *msg) {
    const char *asked = json_string_value(json_object_get(msg, "model"));
    const struct model *m = !asked ? NULL : *asked ? models_find(o->s->models, asked) : models_next(o->s->models, NULL);
    snprintf(o->model, sizeof o->model, "%s", m ? m->name : asked ? asked : "");
}

// Keeps the order until its turn comes: as text, for its values would be several times as large.
static int put_off(struct ordered *o, const json_t *msg, struct err *e) {
    const struct ordered *one;
    size_t own = 0, all = 0;
    char *text = json_text(msg);
    size_t n = text ? strlen(text) : 0;
    TAILQ_FOREACH(one, &o->s->ordered, next) {
        all += one->open_size;
        own += strcmp(one->by, o->by) ? 0 : one->open_size;
    }
    if (text && own + n <= LIMIT_ORDERS_BYTES_EACH && all + n <= LIMIT_ORDERS_BYTES) {
        o->open = text;
        o->open_size = n;
        o->since_ns = clock_mono_ns();
        return 0;
    }
    free(text);
    if (!text) return err_set(e, ERR_INTERNAL, "out of memory");
    return err_set(e, ERR_BUSY, "requests of %zu KB of that node, and of %zu KB of all, wait already: try again later",
                   own >> 10, all >> 10);
}

// The ticket that an order to open a place brings, where it may be obeyed. Else NULL, and that is recorded.
static struct ticket *take_ticket(const struct serve *s, const char *by, const json_t *msg, struct err *e) {
    enum ticket_fault fault;
    struct ticket *t = tickets_use(s, by, sitemsg_ticket(msg), &fault);
    if (fault == TICKET_FINE) return t;
    ticket_refuse(fault, e);
    log_info("an order of node %.8s is refused: %s", by, e->msg);
    evidence_deny(s, denial(by, t, e));
    ticket_free(t);
    return NULL;
}

static void obey_open(struct serve *s, const struct peer *p, uint64_t n, const json_t *msg) {
    struct err why;
    struct ordered *o = calloc(1, sizeof *o), refused = {.s = s, .n = n};
    snprintf(refused.by, sizeof refused.by, "%s", p->id);
    if (!o) err_set(&why, ERR_INTERNAL, "out of memory");
    if (!o || check_open(s, p->id, n, &why) || !(refused.ticket = take_ticket(s, p->id, msg, &why))) {
        say_failed(&refused, &why);
        free(o);
        return;
    }
    *o = refused;
    o->reads_only = warrant_reads_only(s, o->ticket);
    name_model(o, msg);
    TAILQ_INSERT_TAIL(&s->ordered, o, next);
    if (put_off(o, msg, &why)) {
        say_failed(o, &why);
        ordered_free(o);
    } else if (!has_its_share(s, o))
        record_order(o);
}

static int obey_ticket(struct ordered *o, const json_t *msg, struct err *e) {
    enum ticket_fault fault;
    struct ticket *t = tickets_use(o->s, o->by, sitemsg_ticket(msg), &fault);
    if ((fault != TICKET_FINE && ticket_refuse(fault, e)) || warrant_renew(o->ticket, t, e)) {
        ticket_free(t);
        return -1;
    }
    ticket_free(o->ticket);
    o->ticket = t;
    json_decref(o->decision);
    o->decision = warrant_decision(o->s, t);
    return 0;
}

// Rows that it has, or waits for, need not be read.
static int check_start(const struct ordered *o, const struct sitemsg_start *m, struct err *e) {
    int32_t have = m->from > o->rows ? m->from : o->rows;
    const struct warrant_start what = {have + 1 < o->prompt, m->n};
    if (!o->prompt) return err_set(e, ERR_INVALID, "the place is not open yet");
    if (o->halted && warrant_reads_only(o->s, o->ticket))
        return ticket_refuse(TICKET_NODE, e); // it has given its token
    return warrant_start(o->s, o->ticket, &what, e);
}

static int obey_start(struct ordered *o, const json_t *msg, struct err *e) {
    struct sitemsg_start m;
    if (sitemsg_read_start(msg, &m, e)) return -1;
    int rc = check_start(o, &m, e);
    if (!rc) o->reads_only = warrant_reads_only(o->s, o->ticket);
    o->halted = o->asked = o->paused = false;
    if (!rc) rc = place_start(o->place, m.generated, m.n, m.from, e);
    free(m.generated);
    return rc;
}

static int obey_stream(struct ordered *o, const json_t *msg, struct err *e) {
    struct place_target to;
    return sitemsg_read_stream(msg, &to, e) || warrant_stream(o->s, o->ticket, to.node, e) ||
                   place_stream(o->place, &to, e)
               ? -1
               : 0;
}

static int obey_pause(struct ordered *o, const json_t *msg, struct err *e) {
    (void)msg;
    if (!o->halted) return place_pause(o->place, e);
    o->asked = true;
    if (o->paused) tell(o, sitemsg_write_paused(&o->pause)); // may be its end
    return 0;
}

static int obey_cut(struct ordered *o, const json_t *msg, struct err *e) {
    (void)msg, (void)e;
    place_cut(o->place);
    return 0;
}

static const struct {
    const char *type;
    int (*obey)(struct ordered *o, const json_t *msg, struct err *e);
} obeyed[] = {{"site.ticket", obey_ticket},
              {"site.start", obey_start},
              {"site.stream", obey_stream},
              {"site.pause", obey_pause},
              {"site.cut", obey_cut}};

static struct ordered *find(struct serve *s, const char *by, uint64_t n) {
    struct ordered *o;
    TAILQ_FOREACH(o, &s->ordered, next) {
        if (o->n == n && !strcmp(o->by, by)) return o;
    }
    return NULL;
}

static bool credit(struct serve *s, const struct peer *p, const json_t *msg) {
    struct sitemsg_credit m;
    struct err why;
    if (sitemsg_read_credit(msg, &m, &why))
        log_debug("a credit that makes no sense: %s", why.msg);
    else
        site_credit(s, p->id, m.stream, m.units);
    return true;
}

bool orders_heard(struct serve *s, const struct peer *p, const char *type, const json_t *msg) {
    if (!strcmp(type, "site.credit")) return credit(s, p, msg);
    uint64_t n = sitemsg_number(msg);
    struct ordered *o = find(s, p->id, n);
    if (!strcmp(type, "site.open")) {
        obey_open(s, p, n, msg);
        return true;
    }
    if (!strcmp(type, "site.drop")) {
        if (o) ordered_end(o);
        return true;
    }
    for (size_t i = 0; i < sizeof obeyed / sizeof *obeyed; i++) {
        if (strcmp(type, obeyed[i].type)) continue;
        struct err why;
        if (o && o->open) err_set(&why, ERR_INVALID, "the place is not open yet");
        if (o && (o->open || obeyed[i].obey(o, msg, &why))) on_failed(o, &why);
        return true;
    }
    return false;
}

void orders_expire(struct serve *s, uint64_t now_ns) {
    struct ordered *o, *after;
    struct err why;
    err_set(&why, ERR_BUSY, "that node had its share of this one's sequences for %u s: try again later",
            LIMIT_ORDERS_SECONDS);
    for (o = TAILQ_FIRST(&s->ordered); o; o = after) {
        after = TAILQ_NEXT(o, next);
        if (!o->open || o->record || now_ns < o->since_ns + LIMIT_ORDERS_SECONDS * NS_PER_S) continue;
        say_failed(o, &why);
        ordered_free(o);
    }
}

void orders_lost(struct serve *s, const struct peer *p) {
    struct ordered *o, *after;
    for (o = TAILQ_FIRST(&s->ordered); o; o = after) {
        after = TAILQ_NEXT(o, next);
        if (!p || !strcmp(o->by, p->id)) ordered_free(o);
    }
}

json_t *orders_json(const struct serve *s) {
    json_t *list = json_array();
    const struct ordered *o;
    TAILQ_FOREACH(o, &s->ordered, next) {
        struct site_view v = {.model = o->model, .phase = "waiting"};
        char gateway[PEERS_NAME];
        if (o->place) site_look(o->place, &v);
        node_name(s, o->by, gateway, sizeof gateway);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:i, s:i}", "gateway", gateway, "model", v.model,
                                              "phase", v.phase, "prompt_tokens", (int)v.prompt_tokens,
                                              "completion_tokens", (int)v.tokens));
    }
    return list;
}

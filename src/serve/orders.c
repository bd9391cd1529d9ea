#include "serve/orders.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/evidence.h"
#include "serve/node.h"
#include "serve/place.h"
#include "serve/site.h"
#include "serve/sitemsg.h"

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
    json_t *facts; // of its outcome; owned
    TAILQ_ENTRY(ordered) next;
};

static void ordered_free(struct ordered *o) {
    place_drop(o->place);
    evidence_end(o->record, o->finish ? o->finish : "dropped", o->why.code ? &o->why : NULL, o->facts);
    free(o->open);
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

static void on_opened(void *arg, const struct place_opened *p) { tell(arg, sitemsg_write_opened(p)); }

static void on_text(void *arg, const char *text, size_t len, int32_t tokens, int32_t id) {
    tell(arg, sitemsg_write_text(&(struct sitemsg_text){text, len, tokens, id}));
}

static void on_installed(void *arg, int32_t upto, uint64_t bytes, uint64_t came_ns, const char *wire) {
    uint64_t age_us = came_ns ? (clock_mono_ns() - came_ns) / 1000 : 0;
    tell(arg, sitemsg_write_installed(&(struct sitemsg_installed){upto, bytes, age_us, wire}));
}

static void on_paused(void *arg, int32_t tokens, int32_t past) {
    tell(arg, sitemsg_write_paused(&(struct sitemsg_paused){tokens, past}));
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

static void on_failed(void *arg, const struct err *why) {
    struct ordered *o = arg;
    struct err told = *why;
    o->finish = "failed";
    o->why = *why;
    if (o->s->stopping) told.code = ERR_UNREACHABLE; // its gateway may go on elsewhere
    say_failed(o, &told);
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

static void open_place(struct ordered *o, const json_t *msg) {
    static const struct place_events events = {on_opened, on_text,  on_installed, on_paused,
                                               on_cut,    on_ended, on_failed};
    struct place_spec spec;
    struct gen_request gen;
    struct err why;
    gen_request_init(&gen);
    spec.record = NULL;
    int rc = sitemsg_read_open(msg, &spec, &gen, &why);
    spec.record = o->record;
    if (rc || !(o->place = site_open(o->s, &spec, &events, o, &why))) {
        o->finish = "failed";
        o->why = why;
        say_failed(o, &why);
        ordered_free(o);
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

static const char *text_of(const json_t *msg, const char *member) {
    const char *text = json_string_value(json_object_get(msg, member));
    return text ? text : "";
}

// The order is opened once it is in the audit log.
static void record_order(struct ordered *o, const json_t *msg) {
    struct err why;
    const struct evidence_intent i = {.req_id = text_of(msg, "req_id"),
                                      .agent = text_of(msg, "agent"),
                                      .part = "place",
                                      .gateway = o->by,
                                      .model = o->model};
    if ((o->record = evidence_begin(o->s, &i, on_recorded, o, &why))) return;
    say_failed(o, &why);
    ordered_free(o);
}

static void take_turn(struct ordered *o) {
    struct err why;
    json_t *msg = json_parse(o->open, o->open_size, &why);
    if (msg)
        record_order(o, msg);
    else {
        say_failed(o, &why);
        ordered_free(o);
    }
    json_decref(msg);
}

// Opens what waits, as far as that member's share goes.
static void admit(struct serve *s, const char *by) {
    struct ordered *o, *after;
    for (o = TAILQ_FIRST(&s->ordered); o; o = after) {
        after = TAILQ_NEXT(o, next);
        if (!o->open || o->record || strcmp(o->by, by) != 0 || has_its_share(s, o)) continue;
        take_turn(o);
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

static void obey_open(struct serve *s, const struct peer *p, uint64_t n, const json_t *msg) {
    struct err why;
    struct ordered *o = calloc(1, sizeof *o), refused = {.s = s, .n = n};
    snprintf(refused.by, sizeof refused.by, "%s", p->id);
    if (!o) err_set(&why, ERR_INTERNAL, "out of memory");
    if (!o || check_open(s, p->id, n, &why)) {
        say_failed(&refused, &why);
        free(o);
        return;
    }
    *o = refused;
    name_model(o, msg);
    TAILQ_INSERT_TAIL(&s->ordered, o, next);
    if (put_off(o, msg, &why)) {
        say_failed(o, &why);
        ordered_free(o);
    } else if (!has_its_share(s, o))
        record_order(o, msg);
}

static int obey_start(struct ordered *o, const json_t *msg, struct err *e) {
    struct sitemsg_start m;
    if (sitemsg_read_start(msg, &m, e)) return -1;
    int rc = place_start(o->place, m.generated, m.n, m.from, e);
    free(m.generated);
    return rc;
}

static int obey_stream(struct ordered *o, const json_t *msg, struct err *e) {
    struct place_target to;
    return sitemsg_read_stream(msg, &to, e) || place_stream(o->place, &to, e) ? -1 : 0;
}

static int obey_pause(struct ordered *o, const json_t *msg, struct err *e) {
    (void)msg;
    return place_pause(o->place, e);
}

static int obey_cut(struct ordered *o, const json_t *msg, struct err *e) {
    (void)msg, (void)e;
    place_cut(o->place);
    return 0;
}

static const struct {
    const char *type;
    int (*obey)(struct ordered *o, const json_t *msg, struct err *e);
} obeyed[] = {
    {"site.start", obey_start}, {"site.stream", obey_stream}, {"site.pause", obey_pause}, {"site.cut", obey_cut}};

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
